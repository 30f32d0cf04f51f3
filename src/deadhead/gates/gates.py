"""Gates on units: the loss of each sample as a function of how far each unit is open.

At every consumer of a group stands a gate, `a~[k] = lerp(r[k], a[k], alpha[k])`: alpha = 1 leaves the unit as it is, to
the bit, alpha = 0 replaces it by its reference r.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, fx

from deadhead.data.calibration import Batch, choose
from deadhead.data.losses import Loss
from deadhead.errors import LossError
from deadhead.gates.renormalise import renormalised
from deadhead.gates.sites import along
from deadhead.graph.catalogue import op_of
from deadhead.graph.graph import Edit, Edits
from deadhead.graph.network import Network, Traced
from deadhead.graph.samples import BATCH_FIRST, SampleLayout
from deadhead.graph.units.groups import Group, Site
from deadhead.graph.units.matrices import Layout, layout_of

References = Mapping[str, Sequence[Tensor | None]]
"""For each group, the reference at each of its consumers: a vector along the consumer's axis, or None for zero."""

Visit = Callable[[Group, int, Tensor, Tensor], None]
Look = Callable[[Group, int, Tensor], None]


def _alpha_along(value: Tensor, alpha: Tensor, site: Site, layout: SampleLayout = BATCH_FIRST) -> Tensor:
    """`alpha` of each entry along the site's axis, shaped to broadcast with `value`; 1 for entries of no unit."""
    units = site.units.to(value.device)
    open_ = torch.ones((*alpha.shape[:-1], 1), dtype=alpha.dtype, device=alpha.device)
    dtype = value.dtype if value.is_floating_point() else alpha.dtype
    columns = torch.cat([alpha, open_], -1).to(value.device, dtype)[..., units]
    return along(columns, value.dim(), site.axis) if alpha.dim() == 1 else layout.spread(columns, value, site.axis)


def _masked(value: Tensor, opened: Tensor, site: Site) -> Tensor:
    """`value` where a node chooses among units: `x + log(alpha)` before a softmax, minus infinity at closed units
    before a topk."""
    if op_of(site.node).family == "softmax":
        return value + opened.log()
    return value.masked_fill(opened <= 0, -math.inf)


def gate(
    value: Tensor, alpha: Tensor, reference: Tensor | None, site: Site, layout: SampleLayout = BATCH_FIRST
) -> Tensor:
    """`value` behind a gate: entries of unit k along the site's axis become lerp(r, a, alpha[k]), others do not change.

    Where a node chooses among units, a closed one cannot be chosen, whatever the reference.

    Args:
        value: what the consumer reads, any shape.
        alpha: how far each unit is open, (K,) or (samples, K).
        reference: r for each of the n entries along the site's axis, (n,); zero where None.
        site: the consumer that reads `value`.
        layout: where the samples lie in `value`, for alphas by sample.
    """
    opened = _alpha_along(value, alpha, site, layout)
    if site.among:
        return _masked(value, opened, site)
    if not value.is_floating_point():
        return value * (opened > 0)
    if reference is None:
        return value * opened
    at = along(reference.to(value.device, value.dtype), value.dim(), site.axis)
    return torch.lerp(at.expand_as(value), value, opened.expand_as(value))


class State(Protocol):
    """The network that gates stand on; `PrunedState` in `gates/state.py` implements it."""

    @property
    def network(self) -> Network: ...

    @property
    def closed(self) -> Mapping[str, Tensor]: ...

    @property
    def tensors(self) -> Mapping[str, Tensor]: ...

    @property
    def constants(self) -> Mapping[str, Tensor]: ...


class Gates:
    """The loss of a network, intact or pruned, as a function of its gates.

    The network, its parameters and gradients are not touched: replays run on detached tensors. Normalisations over the
    units of a group weight each unit by its alpha, so that a closed one counts as removed.

    Args:
        of: a network, or its state after a plan and a compensation: removed units are closed, with reference zero,
            before the gates at alpha, and constants are added.
        loss: what the outputs are judged by.
        references: {group: one vector for each consumer, along its axis, or None for zero}; zero where missing.
        renormalise: whether normalisations leave closed units out; else closed units count as zeros.
        site: "consumer" puts the gates at alpha on what the consumers read; "producer" on what the producers give,
            before batch norm, pool and nonlinearity: then "consumer" in the methods below means producer.
    """

    def __init__(
        self,
        of: Network | State,
        loss: Loss,
        references: References | None = None,
        *,
        renormalise: bool = True,
        site: str = "consumer",
    ) -> None:
        self.network = of if isinstance(of, Network) else of.network
        self.state = of.frozen_state() if isinstance(of, Network) else of.tensors
        self.constants: Mapping[str, Tensor] = {} if isinstance(of, Network) else of.constants
        self.closed: Mapping[str, Tensor] = {} if isinstance(of, Network) else of.closed
        self.loss_function = loss
        self.references = references or {}
        self.renormalise = renormalise
        self.site = site

    def judged_by(self, loss: Loss) -> Gates:
        """The same gates under another loss."""
        other = copy.copy(self)
        other.loss_function = loss
        return other

    def edits(self, traced: Traced, alpha: Mapping[str, Tensor]) -> Edits:
        """The edits of a replay that put gates at `alpha[group]`, (K,), on the consumers of each group in `alpha`."""
        edits, read = Edits(), traced.read or traced
        if self.constants:
            for site in (site for group in read.units.groups for site in group.consumers):
                weight = site.weight or ""
                layout = layout_of(site, self.state[weight].shape) if weight in self.constants else None
                if isinstance(layout, Layout):
                    edits.made[site.node] = _add_edit(self.constants[weight], layout)
        for name, value in self.closed.items():
            for site in read.group(name).consumers:
                edits.at(site.node, site.position, _gate_edit(value, None, site))
        for name, value in alpha.items():
            group = traced.group(name)
            references = self.references.get(name) or [None] * len(group.consumers)
            for site, reference in zip(group.consumers, references, strict=True):
                edits.at(site.node, site.position, _gate_edit(value, reference, site))
        if self.renormalise:
            closed = [(value, read.group(name)) for name, value in self.closed.items()]
            self._renormalise(edits, closed + [(value, traced.group(name)) for name, value in alpha.items()])
        return edits

    @staticmethod
    def _renormalise(edits: Edits, gates: Sequence[tuple[Tensor, Group]]) -> None:
        """Put the gates on the normalisations over their groups."""
        norms: dict[fx.Node, list[tuple[Tensor, Site]]] = {}
        for value, group in gates:
            for site in group.norms:
                norms.setdefault(site.node, []).append((value, site))
        for node, parts in norms.items():
            edits.around[node] = renormalised(node, _counts(parts))

    def deviation(self, group: Group, index: int, value: Tensor) -> Tensor:
        """The deviation of an activation from its reference, `a - r`: its derivative with respect to the gates.

        Args:
            group: the group.
            index: the place of the consumer among the group's.
            value: the activation a that the consumer reads, in any shape, which is also that of the result.
        """
        references = self.references.get(group.name)
        reference = None if references is None else references[index]
        if reference is None:
            return value
        return value - along(reference.to(value), value.dim(), group.consumers[index].axis)

    def outputs(self, alpha: Mapping[str, Tensor], batch: Batch) -> object:
        """The outputs for one batch, in the network's own container, with the gates at `alpha`."""
        tensors, traced = self.traced(batch)
        return traced.output.fill(traced.graph.run(tensors, self.state, self.edits(traced, alpha)))

    def traced(self, batch: Batch) -> tuple[list[Tensor], Traced]:
        """The input tensors of a batch, and the traced graph that takes them."""
        tensors = self.network.flatten(batch.inputs)
        traced = self.network.traced(tensors)
        return tensors, traced.at_producers if self.site == "producer" else traced

    def observe(self, batch: Batch, look: Look, weights: Collection[str] | None = None) -> None:
        """One forward pass without gradients that shows what each consumer reads.

        Args:
            batch: the inputs; targets are not read.
            look: called with (group, consumer index, activation) for each consumer.
            weights: the names of the weights whose consumers are shown, after which the pass stops; all where None.
        """
        tensors, traced = self.traced(batch)
        edits = self.edits(traced, {})
        nodes = set()
        for group in traced.units.groups:
            for index, site in enumerate(group.consumers):
                if weights is None or site.weight in weights:
                    edits.at(site.node, site.position, _look_edit(look, group, index))
                    nodes.add(site.node)
        with torch.no_grad():
            traced.graph.run(tensors, self.state, edits, until=None if weights is None else nodes)

    def loss(self, alpha: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The loss of each sample of a batch with the gates at `alpha`: (samples,), differentiable in alpha.

        Raises:
            LossError: a loss is not finite.
        """
        batch = batch.to(self.network.device())
        losses = self.loss_function.per_sample(self.outputs(alpha, batch), batch)
        if not torch.isfinite(losses).all():
            raise LossError(
                f"The loss {self.loss_function.name} is not finite on this data; check the targets, the inputs and the "
                "model's outputs."
            )
        return losses

    def layout(self, batch: Batch, group: str, index: int) -> SampleLayout | None:
        """Where the samples lie in what a consumer reads; None where its entries do not belong to one sample each.

        Args:
            batch: the inputs.
            group: the group's name.
            index: the place of the consumer among the group's.
        """
        traced = self.traced(batch)[1]
        site = traced.group(group).consumers[index]
        return traced.samples.at(site.node, site.position)

    def passes_per_sample(self, batch: Batch, groups: Sequence[Group]) -> list[tuple[Batch, int | None]]:
        """The passes of `sensitivities` that give the derivatives of each sample's own loss, as (batch, sample).

        One pass over the batch where the entries that the consumers of `groups` read belong to one sample each; one
        pass for each sample alone where an op reorders samples (experts, say); one pass over the batch for each sample
        where samples affect each other, so that a loss depends on all of them.
        """
        if self.traced(batch)[1].samples.mixed:
            return [(batch, sample) for sample in range(batch.rows)]
        places = ((group, index) for group in groups for index in range(len(group.consumers)))
        if all(
            self.layout(batch, group.name, index) is not None or not _is_differentiable(group.consumers[index].node)
            for group, index in places
        ):
            return [(batch, None)]
        return [(choose(batch, torch.tensor([sample])), 0) for sample in range(batch.rows)]

    def sensitivities(
        self, batch: Batch, visit: Visit, sample: int | None = None, groups: Collection[str] | None = None
    ) -> Tensor:
        """One forward and one backward pass that shows the activation and gradient at each consumer of each group.

        Args:
            batch: the data.
            visit: called with (group, consumer index, a, g): the activation a that the consumer reads and
                `g = d(sum_n L_n)/da` through that consumer alone, both in the activation's shape; where a node chooses
                among units, a is 1. Sample n's part of g is `dL_n/da_n` where samples do not affect each other.
            sample: the one sample whose loss is differentiated; the sum over all where None.
            groups: the names of the groups that are shown, before whose consumers nothing is differentiated; all where
                None.

        Returns:
            The loss of each sample, (samples,).

        Raises:
            LossError: a loss is not finite.
        """
        batch = batch.to(self.network.device())
        tensors, traced = self.traced(batch)
        edits, leaves = self.edits(traced, {}), []
        for group in traced.units.groups:
            if groups is not None and group.name not in groups:
                continue
            for index, site in enumerate(group.consumers):

                def tap(value: Tensor, group: Group = group, index: int = index) -> Tensor:
                    if not value.is_floating_point() or not _is_differentiable(group.consumers[index].node):
                        return value
                    if value.requires_grad:
                        edge = value.view_as(value)
                    else:
                        edge = value.detach().requires_grad_()
                        leaves.append(edge)
                    among = group.consumers[index].among
                    shown = torch.ones_like(edge) if among else edge.detach()  # d(x + log alpha) / d alpha = 1
                    edge.register_hook(lambda gradient: visit(group, index, shown, gradient))  # type: ignore[no-untyped-call]
                    return edge

                edits.at(site.node, site.position, tap)
        with torch.enable_grad():
            outputs = traced.output.fill(traced.graph.run(tensors, self.state, edits))
            losses = self.loss_function.per_sample(outputs, batch)
            if not torch.isfinite(losses).all():
                raise LossError(
                    f"The loss {self.loss_function.name} is not finite on this data; check the targets, the inputs and "
                    "the model's outputs."
                )
            if leaves and losses.requires_grad:
                torch.autograd.backward(losses.sum() if sample is None else losses[sample], inputs=leaves)
        return losses.detach()


def _is_differentiable(node: fx.Node) -> bool:
    """Whether a node gives floating-point numbers: counts have no derivative."""
    made = node.meta.get("val")
    first = made[0] if isinstance(made, (tuple, list)) else made
    return isinstance(first, Tensor) and first.is_floating_point()


def _look_edit(look: Look, group: Group, index: int) -> Edit:
    def edit(value: Tensor) -> Tensor:
        look(group, index, value)
        return value

    return edit


def _counts(parts: Sequence[tuple[Tensor, Site]]) -> Callable[[Tensor], Tensor]:
    """The weight of each entry of a value behind several gates: the product of their alphas."""
    return lambda value: math.prod(
        (_alpha_along(value, alpha, site) for alpha, site in parts), start=value.new_ones(())
    )


def _gate_edit(alpha: Tensor, reference: Tensor | None, site: Site) -> Edit:
    return lambda value: gate(value, alpha, reference, site)


def _add_edit(constant: Tensor, layout: Layout) -> Edit:
    return lambda value: value + layout.spread(constant)
