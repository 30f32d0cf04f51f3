"""Data movement: labels move as the data does."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, fx

from deadhead.graph.nodes import argument, concrete, hint, listed_nodes, op_name, operand, shape_of, where
from deadhead.graph.units.labels import UNIFORM, Block, Labels, Value
from deadhead.graph.units.registry import give_up, rule


def _input(labels: Labels, node: fx.Node) -> Value:
    value = labels.values[operand(node, 0)]
    assert isinstance(value, Value)
    return value


@rule(
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as",
    "ravel", "atleast_2d", "atleast_3d",
)  # fmt: skip
def reshape(labels: Labels, node: fx.Node) -> Any:
    """Row-major reshapes."""
    if not isinstance(node.meta["val"], Tensor) or str(node.target).endswith("view.dtype"):
        return give_up(labels, node, f"{where(node)} has no rule")
    return labels.reshape(_input(labels, node), shape_of(node))


@rule("permute", "transpose", "t", "numpy_T", "movedim", "swapaxes", "swapdims", "mT", "adjoint", "matrix_H")
def permute(labels: Labels, node: fx.Node) -> Any:
    """Axes in another order; a parameter remains known as one."""
    value = _input(labels, node)
    order = np.arange(len(value.shape))
    name = op_name(node)
    if name == "permute":
        order = np.array([dim % len(order) for dim in argument(node, 1, "dims")])
    elif name in ("transpose", "swapaxes", "swapdims"):
        a, b = argument(node, 1, "dim0"), argument(node, 2, "dim1")
        order[[a, b]] = order[[b, a]]
    elif name == "movedim":
        sources, places = (np.atleast_1d(argument(node, i, "")) % len(order) for i in (1, 2))
        rest = iter(axis for axis in order if axis not in sources)
        moved = dict(zip(places.tolist(), sources.tolist(), strict=True))
        order = np.array([moved[i] if i in moved else next(rest) for i in range(len(order))])
    elif name in ("mT", "adjoint", "matrix_H"):
        order[[-1, -2]] = order[[-2, -1]]
    else:
        order = order[::-1]
    origin = labels.weights.get(operand(node, 0))
    if origin is not None:
        labels.weights[node] = (origin[0], tuple(origin[1][axis] for axis in order))
    return labels.permute(value, order.tolist())


@rule("expand", "expand_as", "broadcast_to")
def expand(labels: Labels, node: fx.Node) -> Any:
    """New axes in front, and axes of size one repeated: the same all along."""
    value, shape = _input(labels, node), shape_of(node)
    lead = len(shape) - len(value.shape)
    for axis, size in enumerate(value.shape):
        if size == 1 and shape[lead + axis] != 1:
            value = labels.fix_axis(value, axis, f"{where(node)} repeats it")
    why = [UNIFORM if size == 1 and shape[lead + a] != 1 else value.why[a] for a, size in enumerate(value.shape)]
    blocks = tuple(Block(tuple(a + lead for a in block.axes), block.labels) for block in value.blocks)
    return Value(shape, blocks, (UNIFORM,) * lead + tuple(why))


@rule("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty", "scalar_tensor")
def fill(labels: Labels, node: fx.Node) -> Any:
    """A tensor that is the same all along."""
    return labels.plain(shape_of(node), UNIFORM)


@rule("repeat", "tile")
def repeat(labels: Labels, node: fx.Node) -> Any:
    """The whole tensor over and over: each index keeps its label."""
    value, shape = _input(labels, node), shape_of(node)
    lead = len(shape) - len(value.shape)
    value = labels.reshape(value, (1,) * lead + value.shape)
    for axis, size in enumerate(shape):
        if size != value.shape[axis]:
            value = labels.take(value, axis, np.arange(size) % value.shape[axis])
    return Value(shape, value.blocks, tuple(why or "" for why in value.why))


@rule("repeat_interleave")
def repeat_interleave(labels: Labels, node: fx.Node) -> Any:
    """Each index several times in a row."""
    value, count = _input(labels, node), argument(node, 1, "repeats")
    dim = argument(node, 2, "dim", None)
    if not isinstance(count, int) or dim is None:
        return give_up(labels, node, f"{where(node)} has no rule")
    dim %= len(value.shape)
    return labels.take(value, dim, np.repeat(np.arange(value.shape[dim]), count))


@rule("slice", "narrow")
def cut_out(labels: Labels, node: fx.Node) -> Any:
    """A range of indices."""
    value = _input(labels, node)
    dim = (argument(node, 1, "dim", 0) or 0) % len(value.shape)
    size = value.shape[dim]
    start = argument(node, 2, "start", None) or 0
    if size < 0 or not isinstance(start, int):
        return give_up(labels, node, f"{where(node)} depends on data")
    if op_name(node) == "narrow":
        start %= size
        indices = np.arange(start, start + argument(node, 3, "length"))
    else:
        end = argument(node, 3, "end", None)
        indices = np.arange(size)[slice(start, end, argument(node, 4, "step", 1))]
    return value if len(indices) == size else labels.take(value, dim, indices)


@rule("select", "unbind")
def select(labels: Labels, node: fx.Node) -> Any:
    """One index of an axis, or each in turn. Labels of an axis of its own are fixed, as the result has no place for
    them; in a block with other axes, the labels of that index remain along those."""
    value = _input(labels, node)
    several = op_name(node) == "unbind"
    dim = argument(node, 1, "dim", 0) % len(value.shape)
    value = labels.tidy(value)
    block = value.block_of(dim)
    if block is not None and len(block.axes) == 1:
        value = labels.fix_axis(value, dim, f"{where(node)} picks from it")

    def one(index: int) -> Value:
        part = labels.take(value, dim, np.array([index]))
        blocks = tuple(
            Block(tuple(a for a in b.axes if a != dim), b.labels.squeeze(b.axes.index(dim))) if dim in b.axes else b
            for b in part.blocks
        )
        return labels.drop(Value(part.shape, blocks, part.why), dim)

    if several:
        return [one(index) for index in range(value.shape[dim])]
    index = argument(node, 2, "index")
    if not isinstance(index, int):
        return give_up(labels, node, f"{where(node)} depends on data")
    return one(index % value.shape[dim])


@rule("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes")
def split(labels: Labels, node: fx.Node) -> Any:
    """Consecutive ranges of an axis; their sizes are read off the outputs."""
    value = _input(labels, node)
    dim = argument(node, 2, "dim", 0) % len(value.shape)
    parts, start = [], 0
    for each in node.meta["val"]:
        size = hint(each.shape[dim])
        parts.append(labels.take(value, dim, np.arange(start, start + size)))
        start += size
    return parts


@rule("getitem")
def getitem(labels: Labels, node: fx.Node) -> Any:
    """One of several outputs."""
    values = labels.values[operand(node, 0)]
    if isinstance(values, list) and values[concrete(node.args[1])] is not None:
        return values[concrete(node.args[1])]
    if isinstance(node.meta.get("val"), Tensor):
        return Labels.plain(shape_of(node), f"{where(node)} has no rule")
    return None


@rule("slice_scatter", "select_scatter")
def replace_slice(labels: Labels, node: fx.Node) -> Any:
    """`self` with a range of an axis, or one index of it, replaced by `src`: aligned labels merge."""
    value, source = _input(labels, node), labels.values[operand(node, 1)]
    dim = (argument(node, 2, "dim", 0) or 0) % len(value.shape)
    if op_name(node) == "select_scatter":
        if len(source.shape) < len(value.shape):
            source = labels.reshape(source, (*source.shape[:dim], 1, *source.shape[dim:]))
        value = labels.fix_axis(value, dim, f"{where(node)} writes to one index of it")
        indices = np.zeros(1, dtype=np.int64)
    else:
        start, end = argument(node, 3, "start", None), argument(node, 4, "end", None)
        indices = np.arange(value.shape[dim])[slice(start, end, argument(node, 5, "step", 1))]
    value, source = labels.tidy(value), labels.tidy(source)
    base, added = value.block_of(dim), source.block_of(dim)
    if base is None and added is not None and len(added.axes) == 1:
        around = labels.fresh(1)
        labels.fix(around, value.why[dim] if value.why[dim] != UNIFORM else where(node))
        vector = np.broadcast_to(around, value.shape[dim]).copy()
        vector[indices] = added.labels
        value = Value(value.shape, (*value.blocks, Block((dim,), vector)), value.why)
    part = labels.take(value, dim, indices)
    names = [str(axis) for axis in range(len(part.shape))]
    sizes = dict(zip(names, part.shape, strict=True))
    aligned = labels.align([(part, names), (source, names)], sizes, (), where(node))
    merged = labels.assemble(part.shape, names, aligned, where(node))
    rest = tuple(block for block in merged.blocks if dim not in block.axes)
    along = value.block_of(dim)
    if along is not None and len(along.axes) > 1:
        return labels.tidy(value)
    own = (along,) if along is not None else ()
    return labels.tidy(Value(value.shape, (*rest, *own), (*merged.why[:dim], value.why[dim], *merged.why[dim + 1 :])))


@rule("cat", "concat", "concatenate")
def cat(labels: Labels, node: fx.Node) -> Any:
    """Labels behind each other along one axis, merged along the others."""
    values = [labels.tidy(labels.values[arg]) for arg in listed_nodes(node, 0)]
    shape = shape_of(node)
    dim = argument(node, 1, "dim", 0) % len(shape)
    values = [value for value in values if len(value.shape) == len(shape) and value.shape[dim]]
    name = where(node)
    together = {axis for value in values if (block := value.block_of(dim)) for axis in block.axes} | {dim}
    if len(together) > 1 and any(
        set(block.axes) & together and not set(block.axes) <= together for value in values for block in value.blocks
    ):
        for i, value in enumerate(values):
            for axis in sorted(together - {dim}):
                value = labels.fix_axis(value, axis, name)
            values[i] = value
        together = {dim}
    for i, value in enumerate(values):
        blocks = [block for block in value.blocks if set(block.axes) & together]
        for extra in blocks[1:]:
            for axis in extra.axes:
                value = labels.fix_axis(value, axis, name)
        values[i] = value
    axes = tuple(sorted(together))
    if not any(value.block_of(dim) for value in values) and len(axes) == 1:
        joined = None
    else:
        joined = np.concatenate([_along(labels, value, axes, dim, name) for value in values], axis=axes.index(dim))
    names = [str(axis) for axis in range(len(shape))]
    operands = []
    for i, value in enumerate(values):
        rest = tuple(block for block in value.blocks if not set(block.axes) & together)
        letters = [f"{axis}of{i}" if axis in together else names[axis] for axis in range(len(shape))]
        operands.append((Value(value.shape, rest, value.why), letters))
    sizes = {letter: v.shape[a] for v, letters in operands for a, letter in enumerate(letters)}
    aligned = labels.align(operands, sizes, (), name)
    result = labels.assemble(shape, names, aligned, name)
    if joined is not None:
        why = tuple("" if axis in axes else each for axis, each in enumerate(result.why))
        result = Value(shape, (*result.blocks, Block(axes, joined)), why)
    return labels.tidy(result)


def _along(labels: Labels, value: Value, axes: tuple[int, ...], dim: int, name: str) -> Any:
    """The labels of `value` over `axes`; where it has none, labels that are fixed."""
    shape = [value.shape[axis] for axis in axes]
    block = next((block for block in value.blocks if set(block.axes) & set(axes)), None)
    if block is None:
        fresh = labels.fresh(1)
        labels.fix(fresh, value.why[dim] or name)
        return np.broadcast_to(fresh.reshape((1,) * len(axes)), shape)
    index = tuple(slice(None) if axis in block.axes else None for axis in axes)
    return np.broadcast_to(block.labels[index], shape)


@rule("stack")
def stack(labels: Labels, node: fx.Node) -> Any:
    """Values on a new axis of their own; aligned axes merge."""
    values = [labels.values[arg] for arg in listed_nodes(node, 0)]
    shape = shape_of(node)
    dim = argument(node, 1, "dim", 0) % len(shape)
    names = [str(axis) for axis in range(len(shape) - 1)]
    sizes = dict(zip(names, values[0].shape, strict=True))
    aligned = labels.align([(value, names) for value in values], sizes, (), where(node))
    merged = labels.assemble(values[0].shape, names, aligned, where(node))
    blocks = tuple(Block(tuple(a + (a >= dim) for a in block.axes), block.labels) for block in merged.blocks)
    return Value(shape, blocks, (*merged.why[:dim], f"{where(node)} makes it", *merged.why[dim:]))


@rule("constant_pad_nd", "pad")
def pad(labels: Labels, node: fx.Node) -> Any:
    """Padding: what is added on a labelled axis is fixed, what was there keeps its label."""
    value, shape = _input(labels, node), shape_of(node)
    amounts = argument(node, 1, "pad")
    name = where(node)
    mode = argument(node, 2, "mode", "constant") if op_name(node) == "pad" else "constant"
    for place in range(len(amounts) // 2):
        axis = len(shape) - 1 - place
        before, after = amounts[2 * place], amounts[2 * place + 1]
        if not before and not after:
            continue
        block = value.block_of(axis)
        if block is None or len(block.axes) > 1 or before < 0 or after < 0 or mode != "constant":
            value = labels.fix_axis(value, axis, name)
            value = Value((*value.shape[:axis], shape[axis], *value.shape[axis + 1 :]), value.blocks, value.why)
            continue
        added = labels.fresh(2)
        labels.fix(added, name)
        vector = np.concatenate([np.repeat(added[:1], before), block.labels, np.repeat(added[1:], after)])
        blocks = tuple(Block((axis,), vector) if each is block else each for each in value.blocks)
        value = Value((*value.shape[:axis], shape[axis], *value.shape[axis + 1 :]), blocks, value.why)
    return value


@rule("pixel_shuffle", "pixel_unshuffle")
def pixel_shuffle(labels: Labels, node: fx.Node) -> Any:
    """Channels to pixels (a unit is the r * r channels that one output channel takes), or pixels to channels."""
    value, factor = _input(labels, node), argument(node, 1, "upscale_factor")
    shape, out = value.shape, shape_of(node)
    for axis in (len(shape) - 1, len(shape) - 2):
        value = labels.fix_axis(value, axis, where(node))
    lead, rank = shape[:-3], len(shape)
    if op_name(node) == "pixel_shuffle":
        value = labels.reshape(value, (*lead, out[-3], factor, factor, *shape[-2:]))
        value = labels.fix_axis(labels.fix_axis(value, rank - 2, where(node)), rank - 1, where(node))
        order = [*range(rank - 3), rank - 3, rank, rank - 2, rank + 1, rank - 1]
        return labels.reshape(labels.permute(value, order), out)
    value = labels.reshape(value, (*lead, shape[-3], out[-2], factor, out[-1], factor))
    order = [*range(rank - 3), rank - 3, rank - 1, rank + 1, rank - 2, rank]
    return labels.reshape(labels.permute(value, order), out)
