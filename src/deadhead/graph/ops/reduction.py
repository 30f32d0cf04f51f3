"""Reductions and scans: an axis that an op mixes is fixed, the others go along."""

from __future__ import annotations

from typing import Any

from torch import fx

from deadhead.graph.labels import Labels, Value
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
    "cummax", "cummin", "flip", "roll",
)  # fmt: skip
def scan(labels: Labels, node: fx.Node) -> Any:
    """Ops that mix or reorder an axis and keep it."""
    value = labels.values[operand(node, 0)]
    index = 2 if "roll" in str(node.target) else 1
    dims = _dims(node, len(value.shape), index) if value.shape else []
    result = _fix(labels, node, value, dims)
    output = node.meta["val"]
    return [result] * len(output) if isinstance(output, (tuple, list)) else result
