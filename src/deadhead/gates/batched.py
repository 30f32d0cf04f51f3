"""Many alphas at once: losses behind the gates of one group, from the middle of the network on.

What lies before the group's consumers is computed once for a batch (prefix caching). Behind them, M alphas on B samples
are one batch of M B samples (batching). Where one linear or convolutional consumer alone reads the group, what it gives
moves by the columns of the unit that an alpha changes (delta), and is not computed anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from deadhead.data.calibration import Batch
from deadhead.errors import LossError
from deadhead.gates.gates import Gates, gate
from deadhead.gates.sites import along
from deadhead.graph.agreement import relative_difference
from deadhead.graph.graph import Edit, Edits
from deadhead.graph.network import Network, Traced
from deadhead.graph.nodes import argument, hint, op_name
from deadhead.graph.samples import BATCH_FIRST, SampleLayout
from deadhead.graph.suffix import Suffix, suffix_of
from deadhead.graph.trace import batch_size, rows_of
from deadhead.graph.units.groups import Group, Site
from deadhead.graph.units.windows import CONVOLUTIONS, LINEAR

MEMORY = 2**22
"""Bytes that the largest activation of several alphas at once may take."""
AGREES = 1e-4
"""Relative difference up to which stacked copies agree with the batch itself."""


@dataclass(frozen=True)
class Part:
    """How the network is replayed behind one group: its suffix; whether alphas `stack`; the site whose result moves by
    single columns, and the suffix behind that, where there is one; the entries of one sample's largest activation."""

    suffix: Suffix
    stacks: bool
    moves: Site | None
    behind: Suffix | None
    entries: int

    def at_once(self, samples: int) -> int:
        """How many alphas fit the memory on so many samples."""
        return max(1, MEMORY // max(4 * self.entries * samples, 1)) if self.stacks else 1


class Parts:
    """The parts of a network behind its groups, found once for each graph."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._known: dict[tuple[int, str], Part] = {}

    def of(self, traced: Traced, name: str, tensors: list[Tensor]) -> Part:
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
        site, behind = group.consumers[0], None
        if stacks and _moves_by_columns(traced, group):
            behind = suffix_of(traced.graph, set(site.node.users), few, axis, state)
            stacked = behind.stacks and behind.layouts.get(site.node) is not None
            behind = behind if stacked and _agrees(traced, behind, few, state, group) else None
        traced_with = max((hint(node.meta["val"].shape[axis]) for node in traced.graph.inputs[:1]), default=1)
        entries = max((_entries(node, traced_with) for node in suffix.calls), default=1)
        return Part(suffix, stacks, None if behind is None else site, behind, entries)


def _moves_by_columns(traced: Traced, group: Group) -> bool:
    """Whether one linear or convolutional consumer with a weight of its own alone reads the group."""
    site = group.consumers[0]
    name, layout = op_name(site.node), traced.samples.at(site.node, site.position)
    return (
        len(group.consumers) == 1
        and site.weight is not None
        and site.position == (name == "addmm")
        and (
            (name in LINEAR and site.product is not None and len(site.product.weight) == 2)
            or (name in CONVOLUTIONS and argument(site.node, 6, "groups", 1) == 1 and layout == BATCH_FIRST)
        )
    )


def _entries(node: fx.Node, samples: int) -> int:
    """How many entries a node gives for one sample."""
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else [value]
    sizes = [math.prod(max(hint(size), 1) for size in each.shape) for each in values if isinstance(each, Tensor)]
    return max(sizes, default=samples) // samples + 1


def _agrees(traced: Traced, suffix: Suffix, tensors: list[Tensor], state: dict[str, Tensor], group: Group) -> bool:
    """Whether a batch at two alphas, stacked, gives what it gives at each of them."""
    samples, generator = 3, torch.Generator().manual_seed(0)
    alphas = torch.rand(2, group.size, generator=generator)
    kept: dict[fx.Node, Any] = dict.fromkeys(suffix.needed)
    gated = any(site.node in suffix.calls for site in group.consumers)
    with torch.no_grad():
        single = [traced.graph.run(tensors, state, _gated(traced, group, alpha, gated), kept=kept) for alpha in alphas]
        if not gated:
            traced.graph.run(tensors, state, kept=kept)
        held = {**kept, **dict(zip(traced.graph.inputs, tensors, strict=True))}
        try:
            edits = _gated(traced, group, alphas.repeat_interleave(samples, 0), gated)
            stacked = suffix.run(held, tensors, state, edits, 2, samples)
            parts = [_copy(suffix, stacked, place, 2, samples) for place in range(2)]
        except (RuntimeError, ZeroDivisionError):
            return False
    return all(
        found.shape == wanted.shape and relative_difference(found, wanted) <= AGREES
        for pair in zip(parts, single, strict=True)
        for found, wanted in zip(*pair, strict=True)
        if isinstance(wanted, Tensor) and wanted.is_floating_point() and wanted.dim()
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

    `intact` are its losses with all gates open but those that are closed in `gates`, shape (samples,).
    """

    def __init__(self, gates: Gates, batch: Batch, groups: Sequence[Group], parts: Parts) -> None:
        self._gates, self._batch = gates, batch.to(gates.network.device())
        self._tensors, self._traced = gates.traced(self._batch)
        self._parts = {group.name: parts.of(self._traced, group.name, self._tensors) for group in groups}
        self._edits = gates.edits(self._traced, {})
        self._read: dict[str, Tensor] = {}
        self._repeated: dict[int, Batch] = {}
        kept: dict[fx.Node, Any] = {}
        watched = gates.edits(self._traced, {})
        for name, part in self._parts.items():
            kept.update(dict.fromkeys((part.behind or part.suffix).needed))
            if part.moves is not None:
                watched.at(part.moves.node, part.moves.position, self._keep(name))
                kept.update(dict.fromkeys(part.suffix.needed))
        with torch.no_grad():
            outputs = self._traced.graph.run(self._tensors, gates.state, watched, kept=kept)
        self._held = {**kept, **dict(zip(self._traced.graph.inputs, self._tensors, strict=True))}
        self.intact = self._losses(outputs, 1)[0]

    def _keep(self, name: str) -> Callable[[Tensor], Tensor]:
        def keep(value: Tensor) -> Tensor:
            self._read[name] = value
            return value

        return keep

    def closing(self, name: str, units: Sequence[int]) -> Tensor:
        """`L_n` with each of `units` of group `name` closed alone: (units, samples)."""
        alphas = torch.ones(len(units), self._traced.group(name).size)
        alphas[torch.arange(len(units)), torch.tensor(units)] = 0
        return self.losses(name, alphas)

    def losses(self, name: str, alphas: Tensor) -> Tensor:
        """`L_n` at each of the alphas of group `name`, (M, K): shape (M, samples)."""
        part = self._parts[name]
        with torch.no_grad():
            chunks = torch.split(alphas, part.at_once(self._batch.rows))
            return torch.cat([self._chunk(self._traced.group(name), part, chunk) for chunk in chunks])

    def _chunk(self, group: Group, part: Part, alphas: Tensor) -> Tensor:
        copies, count = len(alphas), self._batch.rows
        run = (self._held, self._tensors, self._gates.state)
        if not part.stacks:
            edits = self._gates.edits(self._traced, {group.name: alphas[0]})
            return self._losses(part.suffix.run(*run, edits, 1, count), 1)
        if part.moves is not None and part.behind is not None and bool(((alphas != 1).sum(1) <= 1).all()):
            change = self._change(group, part.moves, alphas)
            layout = part.behind.layouts[part.moves.node]
            assert layout is not None
            given = {part.moves.node: layout.join(self._held[part.moves.node] + change, count)}
            return self._losses(part.behind.run(*run, self._edits, copies, count, given), copies, part.behind)
        edits = edits_by_sample(self._gates, self._traced, group, alphas.repeat_interleave(count, 0))
        return self._losses(part.suffix.run(*run, edits, copies, count), copies, part.suffix)

    def _change(self, group: Group, site: Site, alphas: Tensor) -> Tensor:
        """By how much what the consumer gives moves at each alpha that changes one unit: (M, *its shape)."""
        units = (alphas != 1).int().argmax(1)
        amounts = alphas.gather(1, units[:, None])[:, 0] - 1
        reference = (self._gates.references.get(group.name) or [None])[0]
        value, weight = self._read[group.name], self._gates.state[site.weight or ""]
        columns = [(site.units == unit).nonzero()[:, 0] for unit in units.tolist()]
        wide = max(len(each) for each in columns)
        index = torch.stack([torch.cat([each, each[-1:].expand(wide - len(each))]) for each in columns])
        there = torch.stack([torch.arange(wide) < len(each) for each in columns])
        scale = (amounts[:, None] * there).to(value)
        index = index.to(value.device)
        read = value.movedim(site.axis, 0)[index.flatten()]  # (M c, the other axes)
        if reference is not None:
            read = read - along(reference.to(value)[index.flatten()], read.dim(), 0)
        read = (read * along(scale.flatten(), read.dim(), 0)).reshape(*index.shape, *read.shape[1:])
        if op_name(site.node) in LINEAR:
            matrix = weight if site.weight_axis == 1 else weight.T
            kernel = matrix[:, index].permute(1, 2, 0)  # (M, c, outputs)
            change = torch.bmm(read.flatten(2).transpose(1, 2), kernel)
            return change.reshape(len(units), *read.shape[2:], -1)
        kernel = weight[:, index].movedim(1, 0).flatten(0, 1)  # (M outputs, c, taps)
        maps = read.movedim(2, 0).flatten(1, 2)  # (samples, M c, positions)
        options = (argument(site.node, place, key, default) for place, key, default in CONVOLVED)
        change = CONVOLVE[op_name(site.node)](maps, kernel, None, *options, len(units))
        return change.reshape(len(change), len(units), -1, *change.shape[2:]).movedim(1, 0)

    def _copies(self, copies: int) -> Batch:
        """The batch so many times, as far as a named loss looks at it: its targets."""
        if copies not in self._repeated:
            targets = BATCH_FIRST.repeat(self._batch.targets, copies, self._batch.rows)
            self._repeated[copies] = replace(self._batch, targets=targets, rows=copies * self._batch.rows)
        return self._repeated[copies]

    def _losses(self, outputs: list[Any], copies: int, suffix: Suffix | None = None) -> Tensor:
        """The losses of each copy, (copies, samples), from what a suffix gives for all of them."""
        loss, count, fill = self._gates.loss_function, self._batch.rows, self._traced.output.fill
        if copies == 1 or suffix is None or (loss.is_rowwise and _gives_batch_first(suffix)):
            found = loss.per_sample(fill(outputs), self._copies(copies)).reshape(copies, count)
        else:
            parts = (_copy(suffix, outputs, each, copies, count) for each in range(copies))
            found = torch.stack([loss.per_sample(fill(part), self._batch) for part in parts])
        if not torch.isfinite(found).all():
            raise LossError(f"The loss {loss.name} is not finite on this data; nothing can be decided by it.")
        return found


CONVOLVE: dict[str, Callable[..., Tensor]] = {"conv1d": F.conv1d, "conv2d": F.conv2d, "conv3d": F.conv3d}
CONVOLVED = ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1))
"""The options of a convolution: place, name and default."""


def _copy(suffix: Suffix, outputs: Sequence[Any], place: int, copies: int, samples: int) -> list[Any]:
    """The outputs of one of `copies` of a batch of so many samples."""
    index = torch.arange(place * samples, (place + 1) * samples)
    found = []
    for node, value in zip(suffix.graph.outputs, outputs, strict=True):
        layout = suffix.layouts.get(node) if isinstance(node, fx.Node) else None
        found.append(value if layout is None else layout.choose(value, index, copies * samples))
    return found


def _gives_batch_first(suffix: Suffix) -> bool:
    """Whether the samples lie along the first axis of all outputs, so that a loss can take several copies at once."""
    nodes = (node for node in suffix.graph.outputs if isinstance(node, fx.Node))
    return all(suffix.layouts.get(node) == BATCH_FIRST for node in nodes)


def edits_by_sample(gates: Gates, traced: Traced, group: Group, alphas: Tensor) -> Edits:
    """The edits that put gates on the consumers of a group, at an alpha for each sample: (samples, K)."""
    edits = gates.edits(traced, {})
    references = gates.references.get(group.name) or [None] * len(group.consumers)
    for site, reference in zip(group.consumers, references, strict=True):
        layout = traced.samples.at(site.node, site.position)
        edits.at(site.node, site.position, _gate_each(alphas, reference, site, layout))
    return edits


def _gate_each(alpha: Tensor, reference: Tensor | None, site: Site, layout: SampleLayout | None) -> Edit:
    """The gate of a site at one alpha, shape (K,), or at one for each sample, (samples, K)."""
    return lambda value: gate(value, alpha, reference, site, layout or BATCH_FIRST)
