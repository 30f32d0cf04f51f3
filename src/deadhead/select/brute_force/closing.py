"""The losses of a batch's samples, each with the gate of a unit of its own closed, and what replays from the middle
cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.data.calibration import Batch, choose
from deadhead.errors import LossError
from deadhead.gates.batched import STACKED_BYTES, Part, Parts, Stacked, edits_by_sample
from deadhead.gates.gates import Gates
from deadhead.graph.costs import multiply_adds
from deadhead.graph.network import Traced
from deadhead.graph.units.groups import Group


class ClosingLosses:
    """The losses of a batch's samples, each with the gate of a unit of its own closed, by replays from the middle.

    Attributes:
        computed: the number of losses.
        work: the multiply-adds, in forward passes of one sample.
    """

    def __init__(self, gates: Gates, batch: Batch, groups: Sequence[Group], parts: Parts) -> None:
        self._gates, self._device = gates, gates.network.device()
        self._batch = batch.to(self._device)
        self._tensors, self._traced = gates.traced(self._batch)
        self._parts = {group.name: parts.of(self._traced, group.name, self._tensors) for group in groups}
        self._groups, self._known = groups, parts
        self._held: dict[fx.Node, Any] = {}
        self._whole = max(1, multiply_adds(self._traced.graph.calls))
        self.computed, self.work = 0, 0.0

    def hold(self, names: Sequence[str]) -> None:
        """Replay the network once, as far as the suffixes behind some groups need it, and hold what they read."""
        held: dict[fx.Node, Any] = {}
        for name in names:
            held |= dict.fromkeys(self._parts[name].suffix.needed if self._stacks(name) else ())
        if held:
            with torch.no_grad():
                edits = self._gates.edits(self._traced, {})
                self._traced.graph.run(self._tensors, self._gates.state, edits, until=list(held), kept=held)
            calls = self._traced.graph.calls
            last = max(place for place, node in enumerate(calls) if node in held)
            self.work += self._batch.rows * multiply_adds(calls[: last + 1]) / self._whole
            self._held = held

    def closing(self, name: str, units: Tensor, samples: Tensor) -> Tensor:
        """The loss of sample `samples[i]` with the gate of unit `units[i]` closed, for each i; after `hold`.

        Args:
            name: the group.
            units: a unit of it for each loss.
            samples: a sample of the batch for each loss.
        """
        part = self._parts[name]
        with torch.no_grad():
            if self._stacks(name):
                self.computed += len(samples)
                self.work += len(samples) * multiply_adds(part.suffix.calls) / self._whole
                maximum = max(1, STACKED_BYTES // (4 * part.entries))
                chunks = zip(torch.split(units, maximum), torch.split(samples, maximum), strict=True)
                return torch.cat([self._chunk(name, part, *chunk) for chunk in chunks])
            losses = torch.zeros(len(samples), dtype=torch.float64)
            for unit in units.unique().tolist():  # type: ignore[no-untyped-call]
                mine = (units == unit).nonzero()[:, 0]
                batch = choose(self._batch, samples[mine].to(self._device))
                stacked = Stacked(self._gates, batch, self._groups, self._known)
                losses[mine] = stacked.closing(name, [unit])[0].double().cpu()
            self.computed += 2 * len(samples)  # the intact losses are computed on the way
            self.work += len(samples) * (1 + closing_work(self._traced, part, name))
            return losses

    def _stacks(self, name: str) -> bool:
        """Whether samples can be chosen of all that the suffix reads."""
        return self._parts[name].stacks

    def _chunk(self, name: str, part: Part, units: Tensor, samples: Tensor) -> Tensor:
        batch = choose(self._batch, samples.to(self._device))
        tensors = self._gates.network.flatten(batch.inputs)
        held = {}
        for node in part.suffix.needed:
            layout = part.suffix.layouts[node]
            assert layout is not None
            held[node] = layout.choose(self._held[node], samples, self._batch.rows)
        held |= dict(zip(self._traced.graph.inputs, tensors, strict=True))
        group = self._traced.group(name)
        alphas = torch.ones(len(units), group.size)
        alphas[torch.arange(len(units)), units] = 0
        edits = edits_by_sample(self._gates, self._traced, group, alphas)
        outputs = part.suffix.run(held, tensors, self._gates.state, edits, 1, len(units))
        losses = self._gates.loss_function.per_sample(self._traced.output.fill(outputs), batch)
        if not torch.isfinite(losses).all():
            raise LossError(
                f"The loss {self._gates.loss_function.name} is not finite on this data; check the weights, the inputs "
                "and the targets."
            )
        return losses


def closing_work(traced: Traced, part: Part, name: str) -> float:
    """The multiply-adds of a sample's loss with the gate of one unit closed, by `Stacked`, in forward passes.

    Args:
        traced: the graph.
        part: what is replayed for the group.
        name: the group.
    """
    whole, site = max(1, multiply_adds(traced.graph.calls)), part.delta_site
    if site is None or part.delta_suffix is None:
        return multiply_adds(part.suffix.calls) / whole
    columns = int((site.units >= 0).sum()) / traced.group(name).size
    return (multiply_adds([site.node]) * columns / len(site.units) + multiply_adds(part.delta_suffix.calls)) / whole
