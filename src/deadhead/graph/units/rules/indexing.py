"""Indexing with tensors: the axes that are looked up are fixed, the others keep their labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from deadhead.graph.nodes import argument, hint, is_tensor, operand, shape_of, where
from deadhead.graph.units.labels import Block, Labels, Value
from deadhead.graph.units.registry import contract, rule


def _chosen(labels: Labels, node: fx.Node, value: Value, axis: int, index: fx.Node) -> Value:
    """`value` with an axis looked up by indices: where these choose among units, those lie along that axis too, and the
    result has no labels there; else it is fixed."""
    found, block, why = labels.points.get((index, 0)), value.block_of(axis), f"{where(node)} looks it up"
    alone = block is not None and len(block.axes) == 1
    if found is not None and alone and len(found) == value.shape[axis] and not labels.fixed(found).any():
        labels.union(block.labels, found)  # type: ignore[union-attr]
        others = tuple(each for each in value.blocks if each is not block)
        return Value(value.shape, others, tuple(why if a == axis else each for a, each in enumerate(value.why)))
    if found is not None:
        labels.fix(found, why)
    return labels.fix_axis(value, axis, why)


def _looked_up(labels: Labels, node: fx.Node, value: Value) -> tuple[Value, list[int], int, int]:
    """`value` with the axes fixed that the list of indices (argument 1) covers; those axes; where the axes of the
    indices stand in the result, and how many there are."""
    axes: list[int] = []
    place, rank = 0, 0
    given = node.args[1]
    assert isinstance(given, (list, tuple))
    for index in given:
        width = 1
        if is_tensor(index):
            found: Tensor = index.meta["val"]
            mask = found.dtype in (torch.bool, torch.uint8)
            width = found.dim() if mask else 1
            axes += range(place, place + width)
            rank = max(rank, 1 if mask else found.dim())
            if isinstance(labels.values[index], Value):
                labels.fix_all(labels.values[index], where(node))
            if not mask:
                value = _chosen(labels, node, value, place, index)
        place += width
    for axis in axes:
        value = labels.fix_axis(value, axis, f"{where(node)} looks it up")
    together = not axes or axes == list(range(axes[0], axes[0] + len(axes)))
    return value, axes, axes[0] if axes and together else 0, rank


@rule("index", "_unsafe_index")
def index(labels: Labels, node: fx.Node) -> Any:
    """x[i, :, j]: the axes of the indices stand where the first of those looked up stood, or in front."""
    given = node.args[1]
    assert isinstance(given, (list, tuple))
    places = [(place, labels.known.get(each)) for place, each in enumerate(given) if is_tensor(each)]
    if len(places) == 1 and (indices := places[0][1]) is not None and indices.ndim == 1:
        value = labels.values[operand(node, 0)]
        return labels.take(value, places[0][0], indices % max(value.shape[places[0][0]], 1))
    value, axes, start, rank = _looked_up(labels, node, labels.tidy(labels.values[operand(node, 0)]))
    shape = shape_of(node)
    rest = [axis for axis in range(len(value.shape)) if axis not in axes]
    place = {axis: new + (rank if new >= start else 0) for new, axis in enumerate(rest)}
    why = [f"{where(node)} looks it up"] * len(shape)
    for axis, new in place.items():
        why[new] = value.why[axis]
    blocks = tuple(Block(tuple(place[axis] for axis in block.axes), block.labels) for block in value.blocks)
    return labels.tidy(Value(shape, blocks, tuple(why)))


@rule("index_put", "_unsafe_index_put")
def index_put(labels: Labels, node: fx.Node) -> Any:
    """x[i] = v: aligned axes merge."""
    value, axes, start, rank = _looked_up(labels, node, labels.tidy(labels.values[operand(node, 0)]))
    source = labels.values[operand(node, 2)]
    names = [str(axis) for axis in range(len(value.shape))]
    rest = [name for axis, name in enumerate(names) if axis not in axes]
    inside = [*rest[:start], *(f"i{n}" for n in range(rank)), *rest[start:]]
    letters = inside[len(inside) - len(source.shape) :]
    sizes = dict(zip(names, value.shape, strict=True))
    for axis, letter in enumerate(letters):
        sizes[letter] = max(sizes.get(letter, 1), source.shape[axis])
    aligned = labels.align([(value, names), (source, letters)], sizes, (), where(node))
    return labels.assemble(value.shape, names, aligned, where(node))


@rule("index_select", "index_add", "index_copy", "index_fill", "gather", "scatter", "scatter_add", "scatter_reduce")
def along_one_axis(labels: Labels, node: fx.Node) -> Any:
    """Ops that look up or write to places along one axis: it is fixed; what else is read is aligned with the rest."""
    name, why = node.target.__name__.partition(".")[0].rstrip("_"), where(node)  # type: ignore[union-attr]
    value = labels.values[operand(node, 0)]
    dim = argument(node, 1, "dim") % max(len(value.shape), 1)
    flat = name.startswith("index")
    parts = []
    for arg in dict.fromkeys(each for each in node.all_input_nodes if is_tensor(each)):
        part = labels.values[arg]
        pointing = labels.points.get((arg, 0)) if arg is node.args[2] else None
        if pointing is not None and name not in ("index_select", "gather"):
            labels.fix(pointing, f"{why} writes where they point to")
        if arg is node.args[0] and name in ("index_select", "gather"):
            part = _chosen(labels, node, labels.tidy(part), dim, operand(node, 2))
        if flat and arg is node.args[2]:
            labels.fix_all(part, why)
        elif len(part.shape) == len(value.shape):
            parts.append(labels.fix_axis(part, dim, f"{why} looks it up"))
    shape = shape_of(node)
    for axis, size in enumerate(shape):
        if axis != dim and any(part.shape[axis] != size for part in parts):
            parts = [labels.fix_axis(part, axis, f"{why} reads a part of it") for part in parts]
    parts = [Value(tuple(shape), part.blocks, part.why) for part in parts]
    names = [str(axis) for axis in range(len(shape))]
    aligned = labels.align([(part, names) for part in parts], dict(zip(names, shape, strict=True)), (), why)
    return labels.assemble(shape, names, aligned, why)


@rule("embedding")
def embedding(labels: Labels, node: fx.Node) -> Any:
    """y[..., e] = W[index[...], e]: the rows are a vocabulary, and fixed."""
    weight, position = operand(node, 0), operand(node, 1)
    value, picked = labels.values[weight], labels.values[position]
    name = where(node)
    value = _chosen(labels, node, value, 0, position)
    labels.fix_all(picked, name)
    outer = [str(axis) for axis in range(len(picked.shape))]
    operands = [(0, weight, value, ["v", "e"]), (1, position, Labels.plain(picked.shape, name), outer)]
    return contract(labels, node, operands, ["v", *outer, "e"], [*outer, "e"])[0]


@rule("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(labels: Labels, node: fx.Node) -> Any:
    """Rows of a table, summed in bags: bags lie along axis 0, the width along axis 1."""
    name = where(node)
    value = labels.fix_axis(labels.values[operand(node, 0)], 0, f"{name} looks its rows up")
    for arg in node.all_input_nodes[1:]:
        if is_tensor(arg) and isinstance(labels.values[arg], Value):
            labels.fix_all(labels.values[arg], name)
    operands = [(0, operand(node, 0), value, ["v", "e"]), (1, operand(node, 1), Labels.plain((1,), name), ["b"])]
    bags, _ = contract(labels, node, operands, ["v", "b", "e"], ["b", "e"])
    shape = node.meta["val"][0].shape
    return [Value((hint(shape[0]), hint(shape[1])), bags.blocks, bags.why), None, None, None]


@rule("tril", "triu")
def triangle(labels: Labels, node: fx.Node) -> Any:
    """Zeros above or below the diagonal of the last two axes."""
    value = labels.values[operand(node, 0)]
    for axis in (len(value.shape) - 2, len(value.shape) - 1):
        value = labels.fix_axis(value, axis, f"{where(node)} cuts along its diagonal")
    return value
