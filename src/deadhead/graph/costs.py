"""Counts of what a network holds and computes, as functions of how many units of each group are removed.

Every axis has a length that falls with the units that lie along it, so that the entries of a tensor, and the
multiply-adds of a contraction, are products of lengths; what is counted is a sum of such products.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from deadhead.graph.catalogue import Op, op_of
from deadhead.graph.graph import Graph
from deadhead.graph.nodes import hint, listed_nodes
from deadhead.graph.units.groups import Group, Units
from deadhead.graph.units.labels import Block, Value
from deadhead.graph.units.rules.linear import einsum_letters
from deadhead.graph.units.windows import is_transposed


@dataclass(frozen=True)
class Length:
    """The number of entries along an axis.

    Attributes:
        size: that of the intact network.
        widths: (group, how many entries each of its units takes), in order of names.
    """

    size: int
    widths: tuple[tuple[str, int], ...] = ()

    def of(self, removed: Mapping[str, int]) -> int:
        """The length without `removed[group]` units of each group."""
        return self.size - sum(width * removed.get(name, 0) for name, width in self.widths)


@dataclass
class Count:
    """A sum of products of lengths: `terms[lengths that vary]` is the factor in front of their product."""

    terms: Counter[tuple[Length, ...]] = field(default_factory=Counter)

    def add(self, lengths: Iterable[Length], times: int = 1) -> None:
        """Add the product of `lengths`, so many times."""
        lengths = list(lengths)
        varying = sorted((each for each in lengths if each.widths), key=lambda each: (each.widths, each.size))
        self.terms[tuple(varying)] += times * math.prod(each.size for each in lengths if not each.widths)

    def of(self, removed: Mapping[str, int]) -> int:
        """The count without `removed[group]` units of each group."""
        return sum(times * math.prod(each.of(removed) for each in lengths) for lengths, times in self.terms.items())


class GraphCosts:
    """Counts of what a graph computes for one sample.

    Attention, linear and convolutional ops count, elementwise ones do not. Results are rounded down where what is
    computed once for all samples is no multiple of their number.

    Args:
        graph: the traced graph, all sizes fixed.
        units: its units.
        rows: the number of samples that it was traced with.
    """

    def __init__(self, graph: Graph, units: Units, rows: int) -> None:
        self._graph, self._labels, self._rows = graph, units.labels, rows
        top = max((int(roots.max()) for roots in units.roots.values() if len(roots)), default=0) + 1
        self._owner = np.full(top, -1, dtype=np.int64)
        self._sizes = {name: len(roots) for name, roots in units.roots.items()}
        self._names = list(units.roots)
        for place, roots in enumerate(units.roots.values()):
            self._owner[roots] = place
        self._macs = [Count(), Count()]
        self._bytes: dict[fx.Node, Count] = {}
        self._home: dict[fx.Node, fx.Node] = {}
        live = units.labels.live
        for node in graph.every_call:
            if node.op == "call_function":
                self._count(node, node in live)
        self._last = self._last_uses()

    def macs(self, removed: Mapping[str, int]) -> int:
        """The multiply-adds of one sample without `removed[group]` units of each group."""
        of_rows, once = (count.of(removed) for count in self._macs)
        return of_rows // self._rows + once

    def activations(self, removed: Mapping[str, int]) -> int:
        """The maximum of bytes of activations of one sample that are alive at once, without `removed[group]` units of
        each group; values that are views of others count once."""
        sizes = {node: count.of(removed) for node, count in self._bytes.items()}
        now = most = 0
        for node in self._graph.calls:
            now += sizes.get(node, 0)
            most = max(most, now)
            now -= sum(sizes.get(unused, 0) for unused in self._last.get(node, ()))
        return most // self._rows

    def lengths(self, value: Value) -> list[Length]:
        """The lengths of a value whose product is its number of entries."""
        value = self._labels.tidy(value)
        covered = {axis for block in value.blocks for axis in block.axes}
        found = [Length(size) for axis, size in enumerate(value.shape) if axis not in covered]
        for block in value.blocks:
            roots = self._labels.find(block.labels).ravel()
            owners = np.where(roots < len(self._owner), self._owner[np.minimum(roots, len(self._owner) - 1)], -1)
            counts = np.bincount(owners[owners >= 0], minlength=len(self._names))
            widths = {self._names[place]: int(counts[place]) for place in np.nonzero(counts)[0]}
            size = math.prod(value.shape[axis] for axis in block.axes)
            found.append(
                Length(size, tuple(sorted((name, count // self._sizes[name]) for name, count in widths.items())))
            )
        return found

    def _axis(self, places: Sequence[Place]) -> Length:
        """The length of an axis that several values share; some may be the same all along it, and have no labels."""
        length = Length(0)
        for node, axis in places:
            value = self._labels.tidy(self._labels.values[node])
            block = value.block_of(axis % len(value.shape))
            if block is not None and len(block.axes) == 1:
                return self.lengths(Value(block.labels.shape, (Block((0,), block.labels),), ("",)))[0]
            length = Length(value.shape[axis])
        return length

    def _all(self, node: fx.Node) -> list[Length]:
        return self.lengths(self._labels.values[node])

    def _count(self, node: fx.Node, live: bool) -> None:
        for whole, summed in _contraction(node):
            lengths = self._all(whole) + [self._axis(places) for places in summed]
            self._macs[0 if live else 1].add(lengths)
        value = self._labels.values.get(node)
        made = node.meta.get("val")
        source = _viewed(node)
        if source is not None:
            self._home[node] = self._home.get(source, source)
        elif live and isinstance(value, Value) and isinstance(made, Tensor):
            self._bytes[node] = Count()
            self._bytes[node].add(self.lengths(value), made.dtype.itemsize)

    def _last_uses(self) -> dict[fx.Node, list[fx.Node]]:
        """The values that are done with after each node, those that are looked at through views with the last view."""
        kept = {self._home.get(out, out) for out in self._graph.outputs if isinstance(out, fx.Node)}
        last: dict[fx.Node, fx.Node] = {}
        for node in self._graph.calls:
            for each in (node, *node.all_input_nodes):
                last[self._home.get(each, each)] = node
        done: dict[fx.Node, list[fx.Node]] = {}
        for value, node in last.items():
            if value not in kept:
                done.setdefault(node, []).append(value)
        return done


def multiply_adds(nodes: Iterable[fx.Node]) -> int:
    """The multiply-adds of nodes on the batch that was traced."""
    return sum(
        math.prod(_sizes(whole)) * math.prod(_sizes(places[0][0])[places[0][1]] for places in summed)
        for node in nodes
        for whole, summed in _contraction(node)
    )


def _sizes(node: fx.Node) -> list[int]:
    return [hint(size) for size in _shape(node)]


def _viewed(node: fx.Node) -> fx.Node | None:
    """The node that another is a view of."""
    target, source = node.target, node.args[0] if node.args else None
    if not isinstance(source, fx.Node):
        return None
    if not isinstance(target, torch._ops.OpOverload):
        return source if getattr(target, "__name__", "") == "getitem" else None
    returned = target._schema.returns
    aliases = bool(returned) and any(each.alias_info is not None for each in returned)
    return source if aliases or op_of(node).shares == "usually" else None


Place = tuple[fx.Node, int]
Products = list[tuple[fx.Node, list[list[Place]]]]
"""All entries of a value, times axes that are summed over, each with the places where it is read."""


def is_counted(op: Op) -> bool:
    """Whether multiply-adds of an op count."""
    return op.family in ("product", "grouped product", "attention") or "convolution" in op.family


def _contraction(node: fx.Node) -> Products:
    """The products that a node's multiply-adds are the sum of."""
    op, args = op_of(node), node.args
    if not is_counted(op):
        return []
    if op.name == "einsum":
        return _einsum(node)
    if op.family == "attention":
        query, key = _node(args[0]), _node(args[1])
        return [(query, [[(key, -2)]]), (node, [[(key, -2)]])]
    if "convolution" not in op.family:
        left, right = (_node(args[place]) for place in op.operands)
        return [(node, [_summed(left, right, op.turned)])]
    if len(args) < 2:
        return []
    weight = _node(args[1])
    transposed = is_transposed(node) or "transpose" in op.name
    taps = [[(weight, axis)] for axis in range(1, len(_shape(weight)))]
    return [(_node(args[0]) if transposed else node, taps)]


def _summed(left: fx.Node, right: fx.Node, turned: bool) -> list[Place]:
    """The places of the axis that a matrix product sums over."""
    return [(left, -1), (right, -1 if turned or len(_shape(right)) == 1 else -2)]


def _einsum(node: fx.Node) -> Products:
    """All letters of an einsum: those of the result, and those that are summed over."""
    operands = listed_nodes(node, 1)
    letters, result = einsum_letters(node, [len(_shape(operand)) for operand in operands])
    summed: dict[str, list[Place]] = {}
    for operand, each in zip(operands, letters, strict=True):
        for place, letter in enumerate(each):
            if letter not in result:
                summed.setdefault(letter, []).append((operand, place))
    return [(node, list(summed.values()))] if len(operands) > 1 else []


def _node(arg: Any) -> fx.Node:
    assert isinstance(arg, fx.Node)
    return arg


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def parameter_lengths(groups: Sequence[Group], name: str, shape: Sequence[int]) -> list[Length]:
    """The lengths of a parameter or buffer, by the slices that the groups have of it.

    Args:
        groups: the groups.
        name: the parameter or buffer.
        shape: its sizes.
    """
    widths: list[dict[str, int]] = [{} for _ in shape]
    for group in groups:
        for part in group.slices:
            if part.parameter == name:
                widths[part.axis][group.name] = int((part.units >= 0).sum()) // group.size
    return [Length(size, tuple(sorted(found.items()))) for size, found in zip(shape, widths, strict=True)]
