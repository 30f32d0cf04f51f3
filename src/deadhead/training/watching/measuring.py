"""Measuring chosen groups again and again while a network is trained: each measurement is a record of the history."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.data.calibration import read
from deadhead.data.losses import as_loss
from deadhead.data.opened import prepared_network
from deadhead.errors import DataError, LossError
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from deadhead.text import counted, listed
from deadhead.training.aside import aside
from deadhead.training.watching.histograms import Histogram, range_of
from deadhead.training.watching.history import History, Measured, Record
from deadhead.training.watching.probe import Probe, Reading
from deadhead.training.watching.vitality import check_fractions, vitality

SITES = ("producer", "consumer")
MRP_UNITS = 1024
"""The penalty is measured by itself for at most so many units: it takes a pass for each."""

LOG = logging.getLogger("deadhead")


class Measuring:
    """The measurements of one training run.

    Args:
        model_or_network: a module, traced with the first batch, or a `Network`.
        data: batches; read once, here.
        loss: a name, a torch.nn loss, or a callable (outputs, batch) to a loss per sample.
        samples: at most so many samples of `data` are read.
        groups: shell patterns of the groups that are measured; all where None.
        units: {group: the units whose penalty and histograms are recorded}; all of the measured groups where None.
        site: "producer" or "consumer".
        dead_below: what counts as about 0 for dead units, as in `vitality`.
        frozen_below: the same for frozen units.
        warn_above: the fraction of a group's units above which a warning is logged when so many are dead.

    Attributes:
        network: the traced network.
        history: the records so far.
    """

    def __init__(
        self,
        model_or_network: nn.Module | Network,
        data: Iterable[Any],
        loss: Any,
        *,
        samples: int,
        groups: Sequence[str] | str | None,
        units: Mapping[str, Sequence[int]] | None,
        site: str,
        dead_below: float,
        frozen_below: float,
        warn_above: float,
    ) -> None:
        if loss is None:
            raise DataError('watch was given data= and no loss=: name it, such as loss="cross_entropy".')
        if site not in SITES:
            raise DataError(f"There is no site {site!r}; the sites are {', '.join(SITES)}.")
        check_fractions(dead_below, frozen_below)
        self.site, self.history = site, History()
        self._below = (dead_below, frozen_below)
        self._warn_above, self._warned, self._told = warn_above, set[str](), False
        self._patterns = [groups] if isinstance(groups, str) else list(groups or ())
        self._units = units
        self._loss = as_loss(loss)
        axis = model_or_network.batch_axis if isinstance(model_or_network, Network) else 0
        with aside():
            self._batches = read(data, samples=samples, labels_to_model=self._loss.labels_to_model, batch_axis=axis)
            self.network = prepared_network(model_or_network, self._batches)
        self.groups = self._chosen()
        self._check_units()
        self._bins: dict[tuple[str, str], tuple[float, float]] = {}
        self._probe = Probe(self.network, self._batches, self._loss, self.groups, site)

    def _chosen(self) -> tuple[Group, ...]:
        chosen = self.network.select([*self._patterns] or ([*self._units] if self._units else []))
        if not chosen:
            raise DataError(
                "The network has no group of units that could be watched; print(deadhead.trace(...)) says why."
            )
        return chosen

    def _check_units(self) -> None:
        sizes = {group.name: group.size for group in self.groups}
        for name, units in (self._units or {}).items():
            if name not in sizes:
                raise DataError(
                    f"units= names the group {name!r}, which is not watched; watched are {', '.join(sizes)}."
                )
            wrong = [unit for unit in units if not 0 <= unit < sizes[name]]
            if wrong:
                raise DataError(f"units= names unit {wrong[0]} of {name}, whose units are 0 to {sizes[name] - 1}.")

    def units_of(self, group: Group) -> Sequence[int]:
        """The units of a group whose penalty and histograms are recorded."""
        if self._units is None:
            return range(group.size)
        return [unit for unit in self._units.get(group.name, ()) if unit < group.size]

    def measure(self, step: int, mrp: bool, asked: bool = True) -> Record:
        """One measurement, which is appended to the history.

        Args:
            step: after how many steps of the optimizer.
            mrp: whether the penalty is measured too.
            asked: whether the caller asked for the penalty; else it is left out of networks with many units.
        """
        with aside():
            self._follow_a_cut()
            reading = self._probe.read()
            penalties = self._penalties(reading) if mrp and reading.units and (asked or self._few()) else {}
        groups = {group.name: self._measured(group, reading, penalties) for group in self.groups if reading.units}
        record = Record(step, float(reading.losses.mean()) if reading.units else torch.nan, groups)
        if not reading.units:
            LOG.warning("The loss on the probe is not finite at step %d: units are not measured.", step)
        self.history.add(record)
        self._warn(record)
        return record

    def _follow_a_cut(self) -> None:
        """Trace anew a module that was cut in place; groups that are no more are no longer measured."""
        if not self.network.is_stale:
            return
        inputs = self._batches[0].inputs
        names = {group.name for group in self.groups}
        self.network = Network(self.network.module, inputs, self.network.batch_axis, self.network.width).prepare(inputs)
        self.groups = tuple(group for group in self.network.groups if group.name in names)
        self._probe = Probe(self.network, self._batches, self._loss, self.groups, self.site)

    def _few(self) -> bool:
        total = sum(len(self.units_of(group)) for group in self.groups)
        if total > MRP_UNITS and not self._told:
            self._told = True
            LOG.warning(
                "The mean replacement penalty takes a pass for each of %d units and is left out: choose units= (at "
                "most %d in all), or call measure(mrp=True).", total, MRP_UNITS,
            )  # fmt: skip
        return total <= MRP_UNITS

    def _penalties(self, reading: Reading) -> dict[str, tuple[Tensor, Tensor]]:
        try:
            return self._probe.penalties(reading, {group.name: self.units_of(group) for group in self.groups})
        except LossError:  # the loss is finite, and is not when some unit is replaced: nothing is known of any
            return {}

    def _measured(self, group: Group, reading: Reading, penalties: Mapping[str, tuple[Tensor, Tensor]]) -> Measured:
        units = reading.units[group.name]
        nothing = torch.full((group.size,), torch.nan, dtype=torch.float64)
        penalty, largest = penalties.get(group.name, (nothing, nothing))
        values = {
            "mrp": penalty, "mrs": units.mrs, "output_gradient": units.output_gradient, "incoming": units.incoming,
            "outgoing": units.outgoing, "incoming_gradient": units.incoming_gradient,
        }  # fmt: skip
        state = vitality(reading, group.name, self.site, largest, *self._below)
        histograms = {
            kind: self._histogram(group, kind, *units.sampled[place])
            for kind, place in (("output", "producer"), ("read", "consumer"))
        }
        return Measured(values, histograms, state.dead, state.frozen, state.causes, asdict(state.thresholds))

    def _histogram(self, group: Group, kind: str, values: Tensor, units: Tensor) -> Histogram:
        key, chosen = (group.name, kind), self.units_of(group)
        if len(chosen) < group.size:
            kept = torch.isin(units, torch.as_tensor(list(chosen), dtype=units.dtype))
            values, units = values[kept], units[kept]
        bins = self._bins.get(key) or range_of(values)
        found = Histogram.empty(group.size, *bins)
        finite = values[torch.isfinite(values)]
        if len(finite):
            found = found.reaching(float(finite.min()), float(finite.max()))
        self._bins[key] = (found.low, found.high)
        return found.with_values(values, units)

    def _warn(self, record: Record) -> None:
        """One warning for each group, again after the group had fewer dead units."""
        for name, measured in record.groups.items():
            size = len(measured.values["mrs"])
            if len(measured.dead) <= self._warn_above * size:
                self._warned.discard(name)
            elif name not in self._warned:
                self._warned.add(name)
                kinds: dict[str, list[int]] = {}
                for unit, cause in measured.causes.items():
                    kinds.setdefault(cause, []).append(unit)
                LOG.warning(
                    "%s of %d in %s are dead at step %d: %s.", counted(len(measured.dead), "unit"), size, name,
                    record.step, "; ".join(f"{cause}: {listed(map(str, units), 20)}" for cause, units in kinds.items()),
                )  # fmt: skip
