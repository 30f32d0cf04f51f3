"""The loss with single weights changed, each alone: what lies before a weight is computed once, and what it cannot move
not again.

A weight of a linear layer or a convolution changes one channel of its output, by a column of its input. M weights of
one channel are M copies of the batch behind it (batching). Where one linear layer or convolution alone reads that
channel, through ops that treat every channel alike, these run on M copies of the one channel, and the reader's output
changes by what the channel's own columns give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.data.calibration import Batch, choose
from deadhead.gates.batched import AGREES, STACKED_BYTES, Judged
from deadhead.gates.gates import Gates
from deadhead.gates.sites import along
from deadhead.gates.state import PrunedState
from deadhead.graph.catalogue import op_of
from deadhead.graph.network import Traced
from deadhead.graph.nodes import argument, concrete, named_arguments, operand
from deadhead.graph.samples import BATCH_FIRST, layouts_of
from deadhead.graph.suffix import Suffix, suffix_of

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")


@dataclass(frozen=True)
class Link:
    """From one channel of a product to the one product that reads it.

    Attributes:
        between: the ops in order, each of which treats every channel alike.
        reader: the product behind them.
        suffix: the graph behind the reader.
    """

    between: tuple[fx.Node, ...]
    reader: fx.Node
    suffix: Suffix


@dataclass(frozen=True)
class Place:
    """Where a weight or bias is read, by one linear layer or ungrouped convolution.

    Attributes:
        node: the product.
        is_bias: whether it is what the product adds.
        axis: the axis of the channels in what the product gives.
        suffix: the graph behind the product.
        link: the shorter way, where there is one.
    """

    node: fx.Node
    is_bias: bool
    axis: int
    suffix: Suffix
    link: Link | None


def _is_product(node: fx.Node) -> bool:
    op = op_of(node)
    if op.name in CONVOLUTIONS:
        return bool(argument(node, op.groups or 6, "groups", 1) == 1)
    return op.name == "linear"


def place_of(
    traced: Traced, names: Sequence[str], tensors: list[Tensor], axis: int, state: Mapping[str, Tensor]
) -> Place | None:
    """The place of a parameter; None where it is read in another way, so that its changes are run one by one.

    Args:
        traced: the graph.
        names: the names of the parameter, several where it is tied.
        tensors: a few samples.
        axis: of the samples in the inputs.
        state: parameters and buffers by name.
    """
    graph = traced.graph
    nodes = {node for node, name in graph.state.items() if name in names}
    readers = [call for call in graph.calls if nodes & set(call.all_input_nodes)]
    if len(readers) != 1 or len(nodes) != 1 or not _is_product(readers[0]) or readers[0].kwargs:
        return None
    (node,), (weight,) = readers, nodes
    places = [place for place, arg in enumerate(node.args) if arg is weight]
    layouts = layouts_of(graph, [operand(node, 0), node], tensors, axis, state)
    if places not in ([1], [2]) or any(layout != BATCH_FIRST for layout in layouts.values()):
        return None
    suffix = suffix_of(graph, set(node.users), tensors, axis, state)
    if not suffix.stacks:
        return None
    channels = 1 if op_of(node).name in CONVOLUTIONS else node.meta["val"].dim() - 1
    return Place(node, places == [2], channels, suffix, _link_of(traced, node, suffix, tensors, axis, state))


def _link_of(
    traced: Traced, node: fx.Node, suffix: Suffix, tensors: list[Tensor], axis: int, state: Mapping[str, Tensor]
) -> Link | None:
    groups = [group for group in traced.units.groups if any(site.node is node for site in group.producers)]
    if len(groups) != 1 or len(groups[0].producers) != 1 or len(groups[0].consumers) != 1 or groups[0].norms:
        return None
    site = groups[0].consumers[0]
    if not _is_product(site.node) or site.position != 0 or site.node.kwargs:
        return None
    if operand(site.node, 1) not in traced.graph.state:
        return None
    behind = suffix_of(traced.graph, set(site.node.users), tensors, axis, state)
    between = tuple(call for call in suffix.calls if call not in behind.calls and call is not site.node)
    chain = {node, *between}
    alone = all(set(call.all_input_nodes) <= chain for call in between) and operand(site.node, 0) in chain
    layouts = layouts_of(traced.graph, [operand(site.node, 0), site.node], tensors, axis, state)
    first = all(layout == BATCH_FIRST for layout in layouts.values())
    if not alone or not first or not behind.stacks or chain & set(behind.crossing):
        return None
    return Link(between, site.node, behind)


def places_of(gates: Gates, names: Mapping[str, Sequence[str]], batch: Batch) -> dict[str, Place]:
    """The places of parameters for which stacked changes agree with those run one by one, on a few samples.

    Args:
        gates: the network and its loss.
        names: {parameter: its names}.
        batch: the data.
    """
    few = choose(batch, torch.arange(3) % batch.rows)
    tensors, traced = gates.traced(few)
    found = {}
    for name, tied in names.items():
        place = place_of(traced, tied, tensors, gates.network.batch_axis, gates.state)
        for each in () if place is None else (place, replace(place, link=None)):
            if _agrees(gates, few, name, tied, each):
                found[name] = each
                break
    return found


def _agrees(gates: Gates, few: Batch, name: str, tied: Sequence[str], place: Place) -> bool:
    """Whether weights at both ends and in the middle, set to one more than they are, have the losses that they have one
    by one."""
    weight = gates.state[name].detach()
    some = sorted({0, weight.numel() // 2, weight.numel() - 1})
    change = torch.zeros(weight.numel(), dtype=torch.float64)
    change[some] = 1.0
    try:
        alone = Alone(gates, few, {name: place})
        found = torch.zeros(weight.numel(), dtype=torch.float64)
        with torch.no_grad():
            for indices, moved in alone.changes(name, change.reshape(weight.shape)):
                found[indices] += moved
    except (RuntimeError, IndexError, ZeroDivisionError):
        return False
    for index in some:
        changed = weight.clone(memory_format=torch.contiguous_format)
        changed.view(-1)[index] += 1
        expected = (losses_with(gates, tied, changed, few).double() - alone.intact).sum().cpu()
        scale = max(float(expected.abs()), float(alone.intact.abs().sum()))
        if not bool((found[index] - expected).abs() <= AGREES * scale):
            return False
    return True


def losses_with(gates: Gates, names: Sequence[str], tensor: Tensor, batch: Batch) -> Tensor:
    """The loss of each sample with another tensor in place of a parameter: (samples,).

    Args:
        gates: the network and its loss.
        names: the names of the parameter.
        tensor: the other one.
        batch: the data.
    """
    state = PrunedState(gates.network, tensors={**gates.state, **dict.fromkeys(names, tensor)})
    with torch.no_grad():
        return type(gates)(state, gates.loss_function).loss({}, batch)


@dataclass
class Alone:
    """Losses of one batch with single weights changed.

    Args:
        gates: the network and its loss.
        batch: the data.
        places: {parameter: its place}, of those whose changes are stacked.

    Attributes:
        intact: the loss of each sample, (samples,), float64.
    """

    gates: Gates
    batch: Batch
    places: Mapping[str, Place]
    intact: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.batch = self.batch.to(self.gates.network.device())
        self._tensors, self._traced = self.gates.traced(self.batch)
        self._edits = self.gates.edits(self._traced, {})
        self._judged = Judged(self.gates.loss_function, self.batch, self._traced.output.fill)
        needed: dict[fx.Node, Any] = {}
        for place in self.places.values():
            needed.update(dict.fromkeys((place.node, operand(place.node, 0), *place.suffix.needed)))
            if place.link is not None:
                reader = place.link.reader
                needed.update(dict.fromkeys((reader, operand(reader, 0), *place.link.suffix.needed)))
        with torch.no_grad():
            outputs = self._traced.graph.run(self._tensors, self.gates.state, self._edits, kept=needed)
        self._held = {**needed, **dict(zip(self._traced.graph.inputs, self._tensors, strict=True))}
        self.intact = self._judged.losses(outputs, 1)[0].double()

    def changes(self, name: str, change: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The changes of the loss by the weights of a parameter, each changed alone.

        Args:
            name: the parameter, one of `places`.
            change: dw, of its shape.

        Yields:
            (indices of some weights in the flattened parameter, the sum over samples of their losses' change).
        """
        place = self.places[name]
        rows = change.reshape(len(change), -1)
        for columns, at in self._columns(place, rows.shape[1]):
            for channel in range(len(rows)):
                moving = rows[channel, at].nonzero()[:, 0]
                if len(moving):
                    index = moving.to(columns.device)
                    chosen = columns if len(moving) == len(at) else columns.index_select(place.axis, index)
                    amounts = rows[channel, at][moving].to(columns)
                    losses = self._losses(place, channel, along(amounts, columns.dim(), place.axis), chosen)
                    yield channel * rows.shape[1] + at[moving], (losses.double() - self.intact).sum(1).cpu()

    def _columns(self, place: Place, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The columns that a product's weights multiply, some at a time along the axis of the channels, and which."""
        node, held = place.node, self._held[place.node]
        if place.is_bias:
            yield torch.ones_like(held.narrow(place.axis, 0, 1)), torch.arange(1)
            return
        read: Tensor = self._held[operand(node, 0)]
        taps = count // read.shape[place.axis]
        each = taps * held.narrow(place.axis, 0, 1).numel() * held.element_size()
        for inputs in torch.split(torch.arange(read.shape[place.axis]), max(1, 4 * STACKED_BYTES // each)):
            part = read.narrow(place.axis, int(inputs[0]), len(inputs))
            if op_of(node).name in CONVOLUTIONS:
                shape = self.gates.state[self._weight(node)].shape[2:]
                one = torch.eye(taps, dtype=part.dtype, device=part.device).reshape(taps, 1, *shape)
                part = _applied(node, part, one.repeat(len(inputs), *[1] * (one.dim() - 1)), groups=len(inputs))
            yield _packed(part), torch.arange(int(inputs[0]) * taps, (int(inputs[-1]) + 1) * taps)

    def _losses(self, place: Place, channel: int, amounts: Tensor, columns: Tensor) -> Tensor:
        """The losses (M, samples) where M amounts of a column each, along the axis of the channels, are added to a
        channel one by one."""
        link, copies = place.link, columns.shape[place.axis]
        if link is not None:
            start = self._held[place.node].narrow(place.axis, channel, 1)
            values: dict[fx.Node, Any] = {place.node: torch.addcmul(start, amounts, columns)}
            for node in link.between:
                values[node] = self._traced.graph.step(node, values, self._edits)
            moved: Tensor = values[operand(link.reader, 0)]
            return self._behind_reader(place, link, channel, moved, copies)
        whole, found = self._held[place.node], []
        for part in torch.split(amounts * columns, self._at_once(whole), place.axis):
            given = whole.expand(part.shape[place.axis], *whole.shape).clone()
            given.select(place.axis + 1, channel).add_(part.movedim(place.axis, 0))
            found.append(self._run(place.suffix, place.node, given.flatten(0, 1), len(given)))
        return torch.cat(found)

    def _behind_reader(self, place: Place, link: Link, channel: int, moved: Tensor, copies: int) -> Tensor:
        """The losses behind a link, from what the reader reads of each copy of the channel."""
        held, whole = self._held[operand(link.reader, 0)], self._held[link.reader]
        axis = 1 if op_of(link.reader).name in CONVOLUTIONS else held.dim() - 1
        wide = held.shape[axis] // self._held[place.node].shape[place.axis]  # a flattened channel has several columns
        kernel = self.gates.state[self._weight(link.reader)].narrow(1, channel * wide, wide).contiguous()
        apart = torch.unflatten(moved, axis, (copies, wide)).movedim(axis, 0) - held.narrow(axis, channel * wide, wide)
        found = []
        for part in torch.split(apart, self._at_once(whole)):
            change = _packed(_applied(link.reader, part.flatten(0, 1).contiguous(), kernel, groups=1))
            given = torch.unflatten(change, 0, part.shape[:2]).add_(whole)
            found.append(self._run(link.suffix, link.reader, given.flatten(0, 1), len(part)))
        return torch.cat(found)

    def _weight(self, node: fx.Node) -> str:
        return self._traced.graph.state[operand(node, 1)]

    def _at_once(self, whole: Tensor) -> int:
        return max(1, STACKED_BYTES // (whole.numel() * whole.element_size()))

    def _run(self, suffix: Suffix, node: fx.Node, given: Tensor, copies: int) -> Tensor:
        outputs = suffix.run(
            self._held, self._tensors, self.gates.state, self._edits, copies, self.batch.rows, {node: given}
        )
        return self._judged.losses(outputs, copies, suffix)


def _packed(tensor: Tensor) -> Tensor:
    """A map with its channels last, in which pooling is ten times as fast; other tensors as they are."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _applied(node: fx.Node, value: Tensor, weight: Tensor, groups: int) -> Tensor:
    """What a product makes of another value with another weight, without its bias."""
    assert callable(node.target)
    own = named_arguments(node, node.args, node.kwargs)
    options = {key: concrete(own[key]) for key in op_of(node).options}
    made: Tensor = node.target(value, weight, **({**options, "groups": groups} if options else {}))
    return made
