"""Elementwise ops: the labels of aligned axes are merged."""

from __future__ import annotations

from typing import Any

from torch import fx

from deadhead.graph.nodes import argument, is_tensor, operand, where
from deadhead.graph.units.labels import Labels
from deadhead.graph.units.registry import broadcast, plain_result, rule


@rule(
    "pointwise", "selu", "celu", "relu6", "rrelu", "gelu", "hardswish", "hardsigmoid", "hardtanh", "leaky_relu",
    "log_sigmoid", "softplus", "mish", "silu", "elu", "threshold", "hardshrink", "softshrink", "tanhshrink",
    "masked_fill", "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "where", "lerp",
    "clamp", "rsub", "square", "float_power", "nan_to_num", "addcmul", "addcdiv", "true_divide", "_conj", "real",
)  # fmt: skip
def pointwise(labels: Labels, node: fx.Node) -> Any:
    """Pointwise ops in general; the registry sends ops here that torch itself tags as pointwise."""
    values = [labels.values[arg] for arg in node.all_input_nodes if is_tensor(arg)]
    if not values:
        return plain_result(node, f"{where(node)} makes it of a fixed size")
    return broadcast(labels, node, values)


@rule(
    "clone", "contiguous", "detach", "alias", "lift_fresh_copy", "lift_fresh", "to", "_to_copy", "type_as", "dropout",
    "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "dropout1d", "dropout2d",
    "dropout3d", "identity", "bernoulli", "float", "double", "half", "requires_grad", "cpu", "cuda",
)  # fmt: skip
def same(labels: Labels, node: fx.Node) -> Any:
    """Ops that leave every entry where it is."""
    value = labels.values[operand(node, 0)]
    return [value, value] if isinstance(node.meta["val"], (tuple, list)) else value


@rule("prelu", "_prelu_kernel")
def prelu(labels: Labels, node: fx.Node) -> Any:
    """PReLU: a slope for each channel, the second axis, or one for all."""
    value, slope = (labels.values[operand(node, i)] for i in (0, 1))
    if slope.shape == (1,) or len(value.shape) < 2 or len(slope.shape) > 1:
        return pointwise(labels, node)
    names = [str(axis) for axis in range(len(value.shape))]
    sizes = dict(zip(names, value.shape, strict=True))
    aligned = labels.align([(value, names), (slope, ["1"])], sizes, (), where(node))
    return labels.assemble(value.shape, names, aligned, where(node))


@rule("copy")
def copy(labels: Labels, node: fx.Node) -> Any:
    """copy(self, source): the values of source in the shape of self."""
    return pointwise(labels, node)


@rule("glu")
def glu(labels: Labels, node: fx.Node) -> Any:
    """glu: the first half of an axis times the sigmoid of the second."""
    value = labels.values[operand(node, 0)]
    dim = argument(node, 1, "dim", -1) % len(value.shape)
    split = labels.reshape(value, (*value.shape[:dim], 2, value.shape[dim] // 2, *value.shape[dim + 1 :]))
    split = labels.fix_axis(split, dim, where(node))
    return labels.drop(split, dim)
