"""The probe: a few batches on which a network is measured while it is trained, in one pass forward and backward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from deadhead.data.calibration import Batch
from deadhead.data.losses import Loss
from deadhead.gates.batched import Parts, Stacked
from deadhead.gates.gates import Gates
from deadhead.graph.graph import Edits
from deadhead.graph.network import Network, Traced
from deadhead.graph.samples import SampleLayout
from deadhead.graph.units.groups import Group
from deadhead.training.watching.tallies import Tally, sums_over

PLACES = ("producer", "consumer")


@dataclass(frozen=True)
class UnitValues:
    """What one pass over the probe shows of the K units of a group. All are (K,), float64, unless said otherwise.

    Attributes:
        mrs: mean replacement saliency at the site chosen, `sum_n abs(dL_n/dalpha_k)`.
        mrs_maximum: the maximum of its terms over samples, at each of `PLACES`.
        output_gradient: the L1 norm of the gradient at the unit's raw output, `sum_n sum_s abs(dL_n/dh)`: absolute
            values at each sample n and position s, then the sum.
        output_gradient_maximum: the maximum of the same terms.
        std: the standard deviation of the values at each of `PLACES`: the raw output, and what consumers read.
        incoming: the L1 norm of the weights that make the unit, without its bias.
        outgoing: the L1 norm of the weights that read it.
        incoming_gradient: the L1 norm of the gradient of the weights that make it, as the last training batch left it;
            NaN where there is none.
        weighted: whether everything that reads the unit does so with a weight.
        means: the mean of each column at each site of the place chosen.
        sampled: some of the values at each of `PLACES`, and the unit of each.
    """

    mrs: Tensor
    mrs_maximum: Mapping[str, Tensor]
    output_gradient: Tensor
    output_gradient_maximum: Tensor
    std: Mapping[str, Tensor]
    incoming: Tensor
    outgoing: Tensor
    incoming_gradient: Tensor
    weighted: bool
    means: Sequence[Tensor | None]
    sampled: Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Reading:
    """What one pass over the probe shows.

    Attributes:
        losses: the loss of each sample, (samples,), float64.
        units: {group: its values}; empty where a loss is not finite.
        resolution: the relative precision of the losses as they were computed, 1.2e-7 in float32.
    """

    losses: Tensor
    units: Mapping[str, UnitValues]
    resolution: float = torch.finfo(torch.float32).eps


class Probe:
    """Batches, a loss and the traced graph on which chosen groups are measured; nothing of the module is called.

    Args:
        network: the network, prepared for the batches.
        batches: the data.
        loss: what the outputs are judged by.
        groups: the groups that are measured.
        site: where a unit is replaced by its mean, "producer" or "consumer".
    """

    def __init__(
        self, network: Network, batches: Sequence[Batch], loss: Loss, groups: Sequence[Group], site: str
    ) -> None:
        self.network, self.batches, self.loss, self.groups, self.site = network, batches, loss, groups, site
        self._parts = Parts(network)
        self._passes: list[tuple[Batch, int | None]] | None = None
        self._ready: dict[int, tuple[torch.device, tuple[Batch, list[Tensor], Traced]]] = {}

    def read(self) -> Reading:
        """One pass forward and backward over the probe; one for each sample where samples cannot be told apart."""
        state = self.network.frozen_state()
        if self._passes is None:
            self._passes = [each for batch in self.batches for each in self._passes_of(batch)]
        passes = self._passes
        tallies = {
            (group.name, place): Tally(group.at_producers() if place == "producer" else group, len(passes))
            for group in self.groups
            for place in PLACES
        }
        found = []
        for batch, sample in passes:
            found.append(self._pass(batch, sample, tallies, state))
            if not torch.isfinite(found[-1]).all():
                return Reading(torch.cat(found), {})
        losses = torch.cat(found)
        parameters = dict(self.network.module.named_parameters(remove_duplicate=False))
        gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        units = {group.name: self._values(group, tallies, state, gradients) for group in self.groups}
        return Reading(losses.double(), units, torch.finfo(losses.dtype).eps)

    def _passes_of(self, batch: Batch) -> list[tuple[Batch, int | None]]:
        """The passes that give each sample's own derivatives at both places."""
        asked = [
            Gates(self.network, self.loss, site=place).passes_per_sample(
                batch, [group.at_producers() if place == "producer" else group for group in self.groups]
            )
            for place in PLACES
        ]
        return max(asked, key=len)

    def _pass(
        self, batch: Batch, sample: int | None, tallies: Mapping[tuple[str, str], Tally], state: Mapping[str, Tensor]
    ) -> Tensor:
        batch, tensors, traced = self._prepared(batch)
        samples, first = (batch.rows, True) if sample is None else (1, sample == 0)
        edits, leaves = Edits(), list[Tensor]()
        for (name, place), tally in tallies.items():
            tally.open(samples)
            whole = traced.group(name)
            for index, site in enumerate((whole.at_producers() if place == "producer" else whole).consumers):
                if not _is_differentiable(site.node):
                    continue
                layout = traced.samples.at(site.node, site.position)

                def tap(
                    value: Tensor, tally: Tally = tally, index: int = index, layout: SampleLayout | None = layout
                ) -> Tensor:
                    if not isinstance(value, Tensor) or not value.is_floating_point():
                        return value
                    edge = value.view_as(value) if value.requires_grad else value.detach().requires_grad_()
                    if edge.is_leaf:
                        leaves.append(edge)
                    tally.forward(index, edge.detach(), first)
                    edge.register_hook(  # type: ignore[no-untyped-call]
                        lambda gradient: tally.backward(index, gradient, samples, layout)
                    )
                    return edge

                edits.at(site.node, site.position, tap)
        with torch.enable_grad():
            losses = self.loss.per_sample(traced.output.fill(traced.graph.run(tensors, state, edits)), batch)
            if leaves and losses.requires_grad and bool(torch.isfinite(losses).all()):
                torch.autograd.backward(losses.sum() if sample is None else losses[sample], inputs=leaves)
        found = losses.detach().cpu()
        return found if sample is None else found[sample : sample + 1]

    def _prepared(self, batch: Batch) -> tuple[Batch, list[Tensor], Traced]:
        """A batch on the network's device, its tensors and the graph that takes them; made once for each device."""
        device = next((tensor.device for tensor in self.network.module.parameters()), torch.device("cpu"))
        known = self._ready.get(id(batch))
        if known is None or known[0] != device:
            there = batch.to(device)
            tensors = self.network.flatten(there.inputs)
            known = self._ready[id(batch)] = (device, (there, tensors, self.network.traced(tensors)))
        return known[1]

    def _values(
        self,
        group: Group,
        tallies: Mapping[tuple[str, str], Tally],
        state: dict[str, Tensor],
        gradients: dict[str, Tensor],
    ) -> UnitValues:
        made, read = tallies[group.name, "producer"], tallies[group.name, "consumer"]
        slopes = {"producer": made.slopes(), "consumer": read.slopes()}
        return UnitValues(
            mrs=slopes[self.site].sum(0),
            mrs_maximum={place: each.amax(0) for place, each in slopes.items()},
            output_gradient=made.gradient,
            output_gradient_maximum=made.gradient_maximum,
            std={"producer": made.std(), "consumer": read.std()},
            incoming=sums_over(group, group.producers, state),
            outgoing=sums_over(group, group.consumers, state),
            incoming_gradient=_incoming_gradient(group, gradients),
            weighted=all(site.weight is not None for site in group.consumers),
            means=tallies[group.name, self.site].means(),
            sampled={"producer": made.sampled(), "consumer": read.sampled()},
        )

    def penalties(self, reading: Reading, units: Mapping[str, Sequence[int]]) -> dict[str, tuple[Tensor, Tensor]]:
        """The mean replacement penalty of some units, `sum_n abs(L_n(unit at its mean) - L_n)`, and the maximum of its
        terms; a pass from the unit's group on for each unit.

        Args:
            reading: of the same weights, which has the means.
            units: {group: the units}.

        Returns:
            {group: (penalties, maxima)}, (K,) each, float64, NaN for other units.

        Raises:
            LossError: a loss is not finite.
        """
        groups = [group for group in self.groups if len(units.get(group.name, ()))]
        references = {group.name: reading.units[group.name].means for group in groups}
        gates = Gates(self.network, self.loss, references, site=self.site)
        at = [group.at_producers() if self.site == "producer" else group for group in groups]
        found = {group.name: torch.full((2, group.size), torch.nan, dtype=torch.float64) for group in groups}
        for group in groups:
            found[group.name][:, list(units[group.name])] = 0
        for batch in self.batches if groups else ():
            stacked = Stacked(gates, batch, at, self._parts)
            intact = stacked.intact.double()
            for group in groups:
                chosen = list(units[group.name])
                terms = (stacked.closing(group.name, chosen).double() - intact).abs().cpu()
                total, largest = found[group.name]
                total[chosen] += terms.sum(1)
                largest[chosen] = torch.maximum(largest[chosen], terms.amax(1))
        return {name: (total, largest) for name, (total, largest) in found.items()}


def _incoming_gradient(group: Group, gradients: dict[str, Tensor]) -> Tensor:
    """The L1 norm of the gradient of the weights that make each unit; NaN where none of them has a gradient."""
    if not any(site.weight in gradients for site in group.producers):
        return torch.full((group.size,), torch.nan, dtype=torch.float64)
    return sums_over(group, group.producers, gradients)


def _is_differentiable(node: fx.Node) -> bool:
    made = node.meta.get("val")
    first = made[0] if isinstance(made, (tuple, list)) else made
    return isinstance(first, Tensor) and first.is_floating_point()
