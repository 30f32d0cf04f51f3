"""Losses at many alphas of one group at once, replayed from the group's consumers to the outputs.

What lies before the group's consumers is computed once for a batch (prefix caching). Behind them, M alphas on B samples
are one batch of M B samples (batching). Where one linear or convolutional consumer alone reads the group, its output
changes by the columns of the unit that an alpha changes (delta), and is not computed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.data.calibration import Batch
from deadhead.data.losses import Loss
from deadhead.errors import LossError
from deadhead.gates.gates import Gates, gate
from deadhead.gates.sites import along
from deadhead.graph.agreement import relative_difference
from deadhead.graph.catalogue import op_of
from deadhead.graph.graph import Edit, Edits
from deadhead.graph.network import Network, Traced
from deadhead.graph.nodes import argument, concrete, hint, named_arguments
from deadhead.graph.samples import BATCH_FIRST, SampleLayout
from deadhead.graph.suffix import Suffix, suffix_of
from deadhead.graph.trace import batch_size, rows_of
from deadhead.graph.units.groups import Group, Site

STACKED_BYTES = 2**22
"""Maximum size of the largest activation of several alphas at once, in bytes."""
AGREES = 1e-4
"""Maximum relative difference between stacked copies and the batch run alone."""


@dataclass(frozen=True)
class Part:
    """How the network is replayed behind one group.

    Attributes:
        suffix: the graph from the group's consumers to the outputs.
        stacks: whether several alphas can be run as one batch.
        delta_site: the consumer whose output changes by the columns of one unit; None where there is no such one.
        delta_suffix: the graph behind that consumer.
        entries: the number of entries in one sample's largest activation.
    """

    suffix: Suffix
    stacks: bool
    delta_site: Site | None
    delta_suffix: Suffix | None
    entries: int

    def at_once(self, samples: int) -> int:
        """How many alphas fit `STACKED_BYTES` on this number of samples."""
        return max(1, STACKED_BYTES // max(4 * self.entries * samples, 1)) if self.stacks else 1


class Parts:
    """The parts of a network behind its groups, each computed once for each graph."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._known: dict[tuple[int, str], Part] = {}

    def of(self, traced: Traced, name: str, tensors: list[Tensor]) -> Part:
        """The part of the network behind one group.

        Args:
            traced: a graph of the network.
            name: the group.
            tensors: inputs of the graph, on which stacking is tried out.
        """
        key = (id(traced), name)
        if key not in self._known:
            self._known[key] = self._find(traced, traced.group(name), tensors)
        return self._known[key]

    def _find(self, traced: Traced, group: Group, tensors: list[Tensor]) -> Part:
        axis, state = self._network.batch_axis, self._network.frozen_state()
        few = rows_of(tensors, axis, torch.arange(3) % batch_size(tensors, axis))
        start = {site.node for site in (*group.consumers, *group.norms)}
        suffix = suffix_of(traced.graph, start, few, axis, state)
        stacks = (
            suffix.stacks
            and not group.norms
            and all(traced.samples.at(site.node, site.position) is not None for site in group.consumers)
            and _agrees(traced, suffix, few, state, group)
        )
        site, delta_suffix = group.consumers[0], None
        if stacks and _takes_deltas(traced, group):
            behind = suffix_of(traced.graph, set(site.node.users), few, axis, state)
            stacked = behind.stacks and behind.layouts.get(site.node) is not None
            delta_suffix = behind if stacked and _agrees(traced, behind, few, state, group) else None
        traced_with = max((hint(node.meta["val"].shape[axis]) for node in traced.graph.inputs[:1]), default=1)
        entries = max((_entries(node, traced_with) for node in suffix.calls), default=1)
        return Part(suffix, stacks, None if delta_suffix is None else site, delta_suffix, entries)


def _takes_deltas(traced: Traced, group: Group) -> bool:
    """Whether the only consumer of a group is a linear layer or an ungrouped convolution, with a weight of its own."""
    site = group.consumers[0]
    op, layout = op_of(site.node), traced.samples.at(site.node, site.position)
    if len(group.consumers) > 1 or site.weight is None or site.position not in op.operands[:1]:
        return False
    if op.matrix:
        return site.product is not None and len(site.product.weight) == 2
    grouped = op.groups is not None and argument(site.node, op.groups, "groups", 1) > 1
    return op.family == "convolution" and not grouped and layout == BATCH_FIRST


def _entries(node: fx.Node, samples: int) -> int:
    """The number of entries in a node's largest output for one sample."""
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else [value]
    sizes = [math.prod(max(hint(size), 1) for size in each.shape) for each in values if isinstance(each, Tensor)]
    return max(sizes, default=samples) // samples + 1


def _agrees(traced: Traced, suffix: Suffix, tensors: list[Tensor], state: dict[str, Tensor], group: Group) -> bool:
    """Whether a batch stacked at two alphas has the outputs that it has at each of them alone."""
    samples, generator = 3, torch.Generator().manual_seed(0)
    alphas = torch.rand(2, group.size, generator=generator)
    values: dict[fx.Node, Any] = dict.fromkeys(suffix.needed)
    gated = any(site.node in suffix.calls for site in group.consumers)
    with torch.no_grad():
        edited = [_gated(traced, group, alpha, gated) for alpha in alphas]
        single = [traced.graph.run(tensors, state, edits, kept=values) for edits in edited]
        if not gated:
            traced.graph.run(tensors, state, kept=values)
        held = {**values, **dict(zip(traced.graph.inputs, tensors, strict=True))}
        try:
            edits = _gated(traced, group, alphas.repeat_interleave(samples, 0), gated)
            stacked = suffix.run(held, tensors, state, edits, 2, samples)
            parts = [_copy(suffix, stacked, place, 2, samples) for place in range(2)]
        except (RuntimeError, ZeroDivisionError):
            return False
    return all(
        part.shape == alone.shape and relative_difference(part, alone) <= AGREES
        for pair in zip(parts, single, strict=True)
        for part, alone in zip(*pair, strict=True)
        if isinstance(alone, Tensor) and alone.is_floating_point() and alone.dim()
    )


def _gated(traced: Traced, group: Group, alpha: Tensor, gated: bool) -> Edits:
    """The gates of a group at one alpha (K,), or at one for each sample (samples, K)."""
    edits = Edits()
    for site in group.consumers if gated else ():
        layout = traced.samples.at(site.node, site.position)
        edits.at(site.node, site.position, _gate_each(alpha, None, site, layout))
    return edits


class Stacked:
    """The losses of one batch at many alphas of its groups, without gradients.

    Args:
        gates: the network and the loss.
        batch: the data.
        groups: the groups whose gates are asked for.
        parts: how the network is replayed behind each group.

    Attributes:
        intact: the loss of each sample with all gates open but those closed in `gates`, (samples,).
    """

    def __init__(self, gates: Gates, batch: Batch, groups: Sequence[Group], parts: Parts) -> None:
        self._gates, self._batch = gates, batch.to(gates.network.device())
        self._tensors, self._traced = gates.traced(self._batch)
        self._parts = {group.name: parts.of(self._traced, group.name, self._tensors) for group in groups}
        self._edits = gates.edits(self._traced, {})
        self._read: dict[str, Tensor] = {}
        self._judged = Judged(gates.loss_function, self._batch, self._traced.output.fill)
        values: dict[fx.Node, Any] = {}
        watched = gates.edits(self._traced, {})
        for name, part in self._parts.items():
            values.update(dict.fromkeys((part.delta_suffix or part.suffix).needed))
            if part.delta_site is not None:
                watched.at(part.delta_site.node, part.delta_site.position, self._keep(name))
                values.update(dict.fromkeys(part.suffix.needed))
        with torch.no_grad():
            outputs = self._traced.graph.run(self._tensors, gates.state, watched, kept=values)
        self._held = {**values, **dict(zip(self._traced.graph.inputs, self._tensors, strict=True))}
        self.intact = self._judged.losses(outputs, 1)[0]

    def _keep(self, name: str) -> Callable[[Tensor], Tensor]:
        def keep(value: Tensor) -> Tensor:
            self._read[name] = value
            return value

        return keep

    def closing(self, name: str, units: Sequence[int]) -> Tensor:
        """The loss of each sample with each of `units` of group `name` closed alone: (units, samples)."""
        alphas = torch.ones(len(units), self._traced.group(name).size)
        alphas[torch.arange(len(units)), torch.tensor(units)] = 0
        return self.losses(name, alphas)

    def losses(self, name: str, alphas: Tensor) -> Tensor:
        """The loss of each sample at each of the alphas of group `name`, (M, K): (M, samples).

        Raises:
            LossError: a loss is not finite.
        """
        part = self._parts[name]
        with torch.no_grad():
            chunks = torch.split(alphas, part.at_once(self._batch.rows))
            return torch.cat([self._chunk(self._traced.group(name), part, chunk) for chunk in chunks])

    def _chunk(self, group: Group, part: Part, alphas: Tensor) -> Tensor:
        copies, count = len(alphas), self._batch.rows
        run = (self._held, self._tensors, self._gates.state)
        if not part.stacks:
            edits = self._gates.edits(self._traced, {group.name: alphas[0]})
            return self._judged.losses(part.suffix.run(*run, edits, 1, count), 1)
        site, behind = part.delta_site, part.delta_suffix
        if site is not None and behind is not None and bool(((alphas != 1).sum(1) <= 1).all()):
            change = self._change(group, site, alphas)
            layout = behind.layouts[site.node]
            assert layout is not None
            given = {site.node: layout.join(self._held[site.node] + change, count)}
            return self._judged.losses(behind.run(*run, self._edits, copies, count, given), copies, behind)
        edits = edits_by_sample(self._gates, self._traced, group, alphas.repeat_interleave(count, 0))
        return self._judged.losses(part.suffix.run(*run, edits, copies, count), copies, part.suffix)

    def _change(self, group: Group, site: Site, alphas: Tensor) -> Tensor:
        """The change of the consumer's output at each alpha that differs from 1 in one unit: (M, *its shape)."""
        units = (alphas != 1).int().argmax(1)
        amounts = alphas.gather(1, units[:, None])[:, 0] - 1
        reference = (self._gates.references.get(group.name) or [None])[0]
        value, weight = self._read[group.name], self._gates.state[site.weight or ""]
        columns = [(site.units == unit).nonzero()[:, 0] for unit in units.tolist()]
        wide = max(len(each) for each in columns)
        index = torch.stack([torch.cat([each, each[-1:].expand(wide - len(each))]) for each in columns])
        counted = torch.stack([torch.arange(wide) < len(each) for each in columns])
        scale = (amounts[:, None] * counted).to(value)
        index = index.to(value.device)
        read = value.movedim(site.axis, 0)[index.flatten()]  # (M c, the other axes)
        if reference is not None:
            read = read - along(reference.to(value)[index.flatten()], read.dim(), 0)
        read = (read * along(scale.flatten(), read.dim(), 0)).reshape(*index.shape, *read.shape[1:])
        op, node = op_of(site.node), site.node
        if op.matrix:
            matrix = weight if site.weight_axis == 1 else weight.T
            kernel = matrix[:, index].permute(1, 2, 0)  # (M, c, outputs)
            product = torch.bmm(read.flatten(2).transpose(1, 2), kernel)
            return product.reshape(len(units), *read.shape[2:], -1)
        kernel = weight[:, index].movedim(1, 0).flatten(0, 1)  # (M outputs, c, taps)
        maps = read.movedim(2, 0).flatten(1, 2)  # (samples, M c, positions)
        assert callable(node.target)
        own = named_arguments(node, node.args, node.kwargs)
        options = {**{key: concrete(own[key]) for key in op.options}, "groups": len(units)}
        change: Tensor = node.target(maps, kernel, **options)
        return change.reshape(len(change), len(units), -1, *change.shape[2:]).movedim(1, 0)


class Judged:
    """The losses of several copies of a batch, one behind the other.

    Args:
        loss: what the outputs are judged by.
        batch: the data, once.
        fill: puts output tensors into the network's own container.
    """

    def __init__(self, loss: Loss, batch: Batch, fill: Callable[[list[Any]], Any]) -> None:
        self._loss, self._batch, self._fill = loss, batch, fill
        self._repeated: dict[int, Batch] = {}

    def _copies(self, copies: int) -> Batch:
        """The batch `copies` times, with its targets: all that a loss by name reads of it."""
        if copies not in self._repeated:
            targets = BATCH_FIRST.repeat(self._batch.targets, copies, self._batch.rows)
            self._repeated[copies] = replace(self._batch, targets=targets, rows=copies * self._batch.rows)
        return self._repeated[copies]

    def losses(self, outputs: list[Any], copies: int, suffix: Suffix | None = None) -> Tensor:
        """The loss of each sample of each copy, (copies, samples), from the outputs of a suffix for all copies.

        Raises:
            LossError: a loss is not finite.
        """
        loss, count, fill = self._loss, self._batch.rows, self._fill
        if copies == 1 or suffix is None or (loss.is_rowwise and _gives_batch_first(suffix)):
            losses = loss.per_sample(fill(outputs), self._copies(copies)).reshape(copies, count)
        else:
            parts = (_copy(suffix, outputs, each, copies, count) for each in range(copies))
            losses = torch.stack([loss.per_sample(fill(part), self._batch) for part in parts])
        if not torch.isfinite(losses).all():
            raise LossError(
                f"The loss {loss.name} is not finite on this data; check the targets, the inputs and the model's "
                "outputs."
            )
        return losses


def _copy(suffix: Suffix, outputs: Sequence[Any], place: int, copies: int, samples: int) -> list[Any]:
    """The outputs of one of the `copies` of a batch of this number of samples."""
    index = torch.arange(place * samples, (place + 1) * samples)
    chosen = []
    for node, value in zip(suffix.graph.outputs, outputs, strict=True):
        layout = suffix.layouts.get(node) if isinstance(node, fx.Node) else None
        chosen.append(value if layout is None else layout.choose(value, index, copies * samples))
    return chosen


def _gives_batch_first(suffix: Suffix) -> bool:
    """Whether the samples lie along the first axis of all outputs, so that a loss can take several copies at once."""
    nodes = (node for node in suffix.graph.outputs if isinstance(node, fx.Node))
    return all(suffix.layouts.get(node) == BATCH_FIRST for node in nodes)


def edits_by_sample(gates: Gates, traced: Traced, group: Group, alphas: Tensor) -> Edits:
    """The edits of a replay that put gates on the consumers of a group, with alphas for each sample.

    Args:
        gates: the network, its removed units and the references.
        traced: the graph that is replayed.
        group: the group with K units.
        alphas: how far each unit is open for each sample, (samples, K).
    """
    edits = gates.edits(traced, {})
    references = gates.references.get(group.name) or [None] * len(group.consumers)
    for site, reference in zip(group.consumers, references, strict=True):
        layout = traced.samples.at(site.node, site.position)
        edits.at(site.node, site.position, _gate_each(alphas, reference, site, layout))
    return edits


def _gate_each(alpha: Tensor, reference: Tensor | None, site: Site, layout: SampleLayout | None) -> Edit:
    """The gate of a site at one alpha, shape (K,), or at one for each sample, (samples, K)."""
    return lambda value: gate(value, alpha, reference, site, layout or BATCH_FIRST)
