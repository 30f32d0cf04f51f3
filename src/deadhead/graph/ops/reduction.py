"""Reductions and scans: an axis that an op mixes is fixed, the others go along."""

from __future__ import annotations

from typing import Any

from torch import fx

from deadhead.graph.labels import Labels, Value, hint, shape_of
from deadhead.graph.ops.registry import argument, broadcast, is_tensor, operand, rule, where


def _dims(node: fx.Node, rank: int, index: int = 1) -> list[int]:
    dims = argument(node, index, "dim", None)
    if dims is None or dims == []:
        return list(range(rank))
    return sorted({dim % rank for dim in (dims if isinstance(dims, list) else [dims])})


def _fix(labels: Labels, node: fx.Node, value: Value, dims: list[int]) -> Value:
    for axis in dims:
        value = labels.fix_axis(value, axis, f"{where(node)} mixes it")
    return value


@rule(
    "mean", "sum", "amax", "amin", "prod", "var", "std", "logsumexp", "all", "any", "argmax", "argmin", "nansum",
    "nanmean", "max", "min", "median", "var_mean", "std_mean", "norm", "linalg_vector_norm", "count_nonzero", "mode",
)  # fmt: skip
def reduce(labels: Labels, node: fx.Node) -> Any:
    """Reductions over some axes, or all; of two tensors, the larger or smaller entries."""
    if len(node.args) > 1 and is_tensor(node.args[1]):
        return broadcast(labels, node, [labels.values[operand(node, place)] for place in (0, 1)])
    value = labels.values[operand(node, 0)]
    rank = len(value.shape)
    norm = "norm" in str(node.target)
    dims = _dims(node, rank, 2 if norm else 1)
    value = _fix(labels, node, value, dims)
    output = node.meta["val"]
    several = isinstance(output, (tuple, list))
    kept = len((output[0] if several else output).shape) == rank
    if kept:
        result = Value(tuple(1 if a in dims else s for a, s in enumerate(value.shape)), value.blocks, value.why)
    else:
        result = value
        for axis in reversed(dims):
            result = labels.drop(result, axis)
    return [result] * len(output) if several else result


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
    """x . y / (|x| |y|) along one axis, which it mixes."""
    values = [labels.values[operand(node, place)] for place in (0, 1)]
    rank = max(len(value.shape) for value in values)
    dim = argument(node, 2, "dim", 1) % rank
    names = [str(axis) for axis in range(rank)]
    operands = []
    for value in values:
        axis = dim - (rank - len(value.shape))
        value = labels.fix_axis(value, axis, f"{where(node)} mixes it") if axis >= 0 else value
        operands.append((value, names[rank - len(value.shape) :]))
    sizes = dict.fromkeys(names, 1)
    for value, letters in operands:
        for axis, letter in enumerate(letters):
            sizes[letter] = max(sizes[letter], value.shape[axis])
    aligned = labels.align(operands, sizes, (), where(node))
    left = [name for axis, name in enumerate(names) if axis != dim]
    return labels.assemble(shape_of(node), left, aligned, where(node))
