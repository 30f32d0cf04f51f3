"""Reductions and scans: sums read an axis, what mixes it otherwise fixes it; the other axes keep their labels."""

from __future__ import annotations

from typing import Any

from torch import fx

from deadhead.graph.nodes import argument, hint, is_tensor, op_name, operand, shape_of, where
from deadhead.graph.units.labels import UNIFORM, Array, Block, Contact, Labels, Value
from deadhead.graph.units.registry import broadcast, contract, normalise, rule


def _dims(node: fx.Node, rank: int, index: int = 1) -> list[int]:
    dims = argument(node, index, "dim", None)
    if dims is None or dims == []:
        return list(range(rank))
    return sorted({dim % rank for dim in (dims if isinstance(dims, list) else [dims])})


def _fix(labels: Labels, node: fx.Node, value: Value, dims: list[int]) -> Value:
    for axis in dims:
        value = labels.fix_axis(value, axis, f"{where(node)} mixes it")
    return value


def _ended(node: fx.Node, value: Value, dims: list[int]) -> Any:
    """The result of a reduction over `dims`: without them, or of size one there, and without their labels."""
    blocks = tuple(block for block in value.blocks if not set(block.axes) & set(dims))
    why = tuple(each or (UNIFORM if axis in dims else "") for axis, each in enumerate(value.why))
    value = Value(value.shape, blocks, why)
    output = node.meta["val"]
    several = isinstance(output, (tuple, list))
    if len((output[0] if several else output).shape) == len(value.shape):
        result = Value(tuple(1 if a in dims else s for a, s in enumerate(value.shape)), value.blocks, value.why)
    else:
        result = value
        for axis in reversed(dims):
            result = Labels.drop(result, axis)
    return [result] * len(output) if several else result


def _sum(labels: Labels, node: fx.Node, dims: list[int]) -> Any:
    """A sum reads what it sums over, as a product with a vector of ones would: without a unit, it is as if that were
    zero."""
    value = labels.values[operand(node, 0)]
    names = [str(axis) for axis in range(len(value.shape))]
    remaining = [name for axis, name in enumerate(names) if axis not in dims]
    output, _ = contract(labels, node, [(0, operand(node, 0), value, names)], names, remaining)
    for axis in dims:
        blocks = tuple(Block(tuple(a + (a >= axis) for a in block.axes), block.labels) for block in output.blocks)
        shape = (*output.shape[:axis], 1, *output.shape[axis:])
        output = Value(shape, blocks, (*output.why[:axis], UNIFORM, *output.why[axis:]))
    return _ended(node, output, dims)


@rule("sum", "nansum")
def total(labels: Labels, node: fx.Node) -> Any:
    """y = sum_i x_i."""
    return _sum(labels, node, _dims(node, len(labels.values[operand(node, 0)].shape)))


@rule("norm", "linalg_vector_norm")
def norm(labels: Labels, node: fx.Node) -> Any:
    """y = (sum_i |x_i|^p)^(1 / p): for p >= 0, what is zero adds nothing."""
    order = argument(node, 1, "p" if op_name(node) == "norm" else "ord", 2)
    dims = _dims(node, len(labels.values[operand(node, 0)].shape), 2)
    if order is None or (isinstance(order, (int, float)) and order >= 0):
        return _sum(labels, node, dims)
    return _ended(node, _fix(labels, node, labels.values[operand(node, 0)], dims), dims)


@rule("mean", "var", "std", "var_mean", "std_mean")
def average(labels: Labels, node: fx.Node) -> Any:
    """Statistics over some axes, or all: they count what is zero too. A normalisation written by hand, so that with
    `width` an axis that is labelled by itself stays free."""
    value = labels.values[operand(node, 0)]
    dims = _dims(node, len(value.shape))
    for axis in dims:
        value = normalise(labels, node, value, axis)
    return _ended(node, value, dims)


@rule(
    "amax",
    "amin",
    "prod",
    "logsumexp",
    "all",
    "any",
    "argmax",
    "argmin",
    "max",
    "min",
    "median",
    "count_nonzero",
    "nanmean",
    "mode",
)
def reduce(labels: Labels, node: fx.Node) -> Any:
    """Other reductions over some axes, or all; of two tensors, the larger or smaller entries."""
    if len(node.args) > 1 and is_tensor(node.args[1]):
        return broadcast(labels, node, [labels.values[operand(node, place)] for place in (0, 1)])
    value = labels.values[operand(node, 0)]
    dims = _dims(node, len(value.shape))
    return _ended(node, _fix(labels, node, value, dims), dims)


def _choose(labels: Labels, node: fx.Node, axis: int, minimum: int) -> tuple[Value, Array | None]:
    """The value in which `node` chooses along an axis among units, of which a minimum must remain, and their labels;
    where units do not lie along the axis by themselves, it is fixed."""
    value = labels.tidy(labels.values[operand(node, 0)])
    block = value.block_of(axis) if value.shape else None
    if block is None or len(block.axes) > 1:
        return (labels.fix_axis(value, axis, f"{where(node)} mixes it") if value.shape else value), None
    labels.record(Contact(node, 0, axis, block.labels, None, None, minimum), to=labels.consumers)
    return value, block.labels


@rule("softmax", "_softmax")
def softmax(labels: Labels, node: fx.Node) -> Any:
    """exp(x_i) / sum_j exp(x_j): without a unit, it is as if its entry were minus infinity."""
    return _choose(labels, node, _dims(node, len(labels.values[operand(node, 0)].shape) or 1)[0], 1)[0]


@rule("cumsum")
def running_sum(labels: Labels, node: fx.Node) -> Any:
    """y_i = sum_{j <= i} x_j: without a unit, it is as if its entry were zero."""
    value = labels.tidy(labels.values[operand(node, 0)])
    (axis,) = _dims(node, len(value.shape) or 1)
    block = value.block_of(axis)
    if block is None or len(block.axes) > 1:
        return _fix(labels, node, value, [axis] if value.shape else [])
    labels.record(Contact(node, 0, axis, block.labels, None, None), to=labels.consumers)
    return value


@rule(
    "log_softmax", "_log_softmax", "cumprod", "logcumsumexp", "softmin", "sort", "cummax", "cummin", "flip", "roll",
    "argsort",
)  # fmt: skip
def scan(labels: Labels, node: fx.Node) -> Any:
    """Ops that mix or reorder an axis and keep it."""
    source = operand(node, 0)
    value = labels.values[source]
    index = 2 if "roll" in str(node.target) else 1
    dims = _dims(node, len(value.shape), index) if value.shape else []
    result = _fix(labels, node, value, dims)
    output = node.meta["val"]
    if (source, 0) in labels.points:
        labels.points[node, 0] = labels.points[source, 0]
    return [result] * len(output) if isinstance(output, (tuple, list)) else result


@rule("topk", "kthvalue")
def largest(labels: Labels, node: fx.Node) -> Any:
    """The largest entries along an axis, and where they stand: without a unit, it is as if its entry were minus
    infinity, and it is never chosen where enough others remain."""
    value = labels.values[operand(node, 0)]
    rank = max(len(value.shape), 1)
    dim = argument(node, 2, "dim", -1) % rank
    found = None
    if op_name(node) == "topk" and argument(node, 3, "largest", True):
        value, found = _choose(labels, node, dim, argument(node, 1, "k"))
    else:
        value = labels.fix_axis(value, dim, f"{where(node)} mixes it")
    if found is not None:
        labels.points[node, 1] = found
    shape = tuple(hint(size) for size in node.meta["val"][0].shape)
    if len(shape) < len(value.shape):
        value = labels.drop(value, dim)
        return [Value(shape, value.blocks, value.why)] * 2
    blocks = tuple(block for block in value.blocks if dim not in block.axes)
    why = tuple(each or (f"{where(node)} chooses it" if axis == dim else "") for axis, each in enumerate(value.why))
    return [Value(shape, blocks, why)] * 2


def _counted(labels: Labels, node: fx.Node, before: int) -> Value:
    """A value whose last axis, after `before` others, counts or marks what indices point to."""
    shape, name = shape_of(node), where(node)
    found = labels.points.get((operand(node, 0), 0))
    if found is None or len(found) != shape[-1]:
        if found is not None:
            labels.fix(found, f"{name} counts others too")
        return labels.plain(shape, f"{name} makes it of a fixed size")
    return Value(shape, (Block((before,), found),), (*[f"{name} counts along it"] * before, ""))


@rule("histc", "bincount")
def counts(labels: Labels, node: fx.Node) -> Any:
    """How many indices point to each entry."""
    labels.fix_all(labels.values[operand(node, 0)], where(node))
    return _counted(labels, node, 0)


@rule("one_hot")
def one_hot(labels: Labels, node: fx.Node) -> Any:
    """A one where an index points to."""
    labels.fix_all(labels.values[operand(node, 0)], where(node))
    return _counted(labels, node, len(shape_of(node)) - 1)


@rule("cosine_similarity")
def cosine_similarity(labels: Labels, node: fx.Node) -> Any:
    """x . y / (|x| |y|) along one axis."""
    args = [operand(node, place) for place in (0, 1)]
    values = [labels.values[arg] for arg in args]
    rank = max(len(value.shape) for value in values)
    names = [str(axis) for axis in range(rank)]
    operands = [
        (place, arg, value, names[rank - len(value.shape) :])
        for place, (arg, value) in enumerate(zip(args, values, strict=True))
    ]
    dim = argument(node, 2, "dim", 1) % rank
    return contract(labels, node, operands, names, [name for axis, name in enumerate(names) if axis != dim])[0]


@rule("cdist", "_cdist_forward")
def cdist(labels: Labels, node: fx.Node) -> Any:
    """y[.., m, n] = (sum_i |a[.., m, i] - b[.., n, i]|^p)^(1 / p)."""
    args = [operand(node, place) for place in (0, 1)]
    outer = [str(axis) for axis in range(len(shape_of(node)) - 2)]
    operands = []
    for place, (arg, own) in enumerate(zip(args, ("m", "n"), strict=True)):
        value = labels.values[arg]
        operands.append((place, arg, value, [*outer[len(outer) - (len(value.shape) - 2) :], own, "i"]))
    return contract(labels, node, operands, [*outer, "m", "n", "i"], [*outer, "m", "n"])[0]
