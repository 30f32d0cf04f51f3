"""Reductions and scans: sums read an axis, what mixes it otherwise fixes it; the others go along."""

from __future__ import annotations

from typing import Any

from torch import fx

from deadhead.graph.labels import UNIFORM, Block, Labels, Value, hint, shape_of
from deadhead.graph.ops.registry import (
    argument,
    broadcast,
    contract,
    is_tensor,
    normalise,
    op_name,
    operand,
    rule,
    where,
)


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
    left = [name for axis, name in enumerate(names) if axis not in dims]
    output, _ = contract(labels, node, [(0, operand(node, 0), value, names)], names, left)
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


@rule(
    "softmax", "_softmax", "log_softmax", "_log_softmax", "cumsum", "cumprod", "logcumsumexp", "softmin", "sort",
    "cummax", "cummin", "flip", "roll", "argsort",
)  # fmt: skip
def scan(labels: Labels, node: fx.Node) -> Any:
    """Ops that mix or reorder an axis and keep it."""
    value = labels.values[operand(node, 0)]
    index = 2 if "roll" in str(node.target) else 1
    dims = _dims(node, len(value.shape), index) if value.shape else []
    result = _fix(labels, node, value, dims)
    output = node.meta["val"]
    return [result] * len(output) if isinstance(output, (tuple, list)) else result


@rule("topk", "kthvalue")
def largest(labels: Labels, node: fx.Node) -> Any:
    """The largest entries along an axis, and where they stand."""
    value = labels.values[operand(node, 0)]
    dim = argument(node, 2, "dim", -1) % max(len(value.shape), 1)
    value = labels.fix_axis(value, dim, f"{where(node)} mixes it")
    shape = tuple(hint(size) for size in node.meta["val"][0].shape)
    if len(shape) < len(value.shape):
        value = labels.drop(value, dim)
    return [Value(shape, value.blocks, value.why)] * 2


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
