"""Normalisation: over the batch it keeps the labels of the channels; over an axis it fixes that axis."""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from deadhead.graph.nodes import argument, is_tensor, operand, where
from deadhead.graph.units.labels import Labels, Value
from deadhead.graph.units.registry import broadcast, normalise, rule


def _per_channel(labels: Labels, node: fx.Node, value: Value, positions: tuple[int, ...]) -> Value:
    """Merge the labels of the channels, axis 1, with those of the vectors at the argument `positions`."""
    names = [str(axis) for axis in range(len(value.shape))]
    vectors = [arg for p in positions if len(node.args) > p and is_tensor(arg := node.args[p])]
    operands = [(value, names), *((labels.values[v], ["1"]) for v in vectors)]
    aligned = labels.align(operands, dict(zip(names, value.shape, strict=True)), (), where(node))
    return labels.assemble(value.shape, names, aligned, where(node))


@rule("batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "native_batch_norm", "instance_norm")
def batch_norm(labels: Labels, node: fx.Node) -> Any:
    """Batch and instance norm: each channel by itself."""
    value = labels.values[operand(node, 0)]
    if "instance_norm" in str(node.target):
        for axis in range(2, len(value.shape)):
            value = labels.fix_axis(value, axis, f"{where(node)} mixes it")
    result = _per_channel(labels, node, value, (1, 2, 3, 4))
    return [result, None, None] if isinstance(node.meta["val"], (tuple, list)) else result


@rule("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm")
def layer_norm(labels: Labels, node: fx.Node) -> Any:
    """LayerNorm and RMSNorm mix the last axes, so they fix them, unless the caller prunes the width."""
    value = labels.values[operand(node, 0)]
    count = len(argument(node, 1, "normalized_shape"))
    value = labels.tidy(value)
    for axis in range(len(value.shape) - count, len(value.shape)):
        value = (
            normalise(labels, node, value, axis)
            if count == 1
            else labels.fix_axis(value, axis, f"{where(node)} mixes it")
        )
    vectors = [labels.values[arg] for arg in node.all_input_nodes[1:] if is_tensor(arg)]
    names = [str(axis) for axis in range(len(value.shape))]
    operands = [(value, names), *((each, names[len(names) - len(each.shape) :]) for each in vectors)]
    aligned = labels.align(operands, dict(zip(names, value.shape, strict=True)), (), where(node))
    result = labels.assemble(value.shape, names, aligned, f"{where(node)} mixes it")
    return [result, None, None] if isinstance(node.meta["val"], (tuple, list)) else result


@rule("group_norm", "native_group_norm")
def group_norm(labels: Labels, node: fx.Node) -> Any:
    """GroupNorm mixes the channels of a group: the group is the unit."""
    value = labels.values[operand(node, 0)]
    native = "native" in str(node.target)
    groups = argument(node, 6 if native else 1, "num_groups")
    name, shape = f"{where(node)} mixes it", value.shape
    for axis in range(2, len(shape)):
        value = labels.fix_axis(value, axis, name)
    split = labels.reshape(value, (shape[0], groups, shape[1] // groups, math.prod(shape[2:])))
    split = labels.fix_axis(split, 2, name)
    merged = labels.reshape(split, shape)
    result = _per_channel(labels, node, merged, (1, 2) if native else (2, 3))
    return [result, None, None] if native else result


@rule("_weight_norm", "_weight_norm_interface")
def weight_norm(labels: Labels, node: fx.Node) -> Any:
    """Weight norm, w = g v / |v| over all axes but one: these are mixed."""
    value, size = (labels.values[operand(node, place)] for place in (0, 1))
    dim = argument(node, 2, "dim", 0) % len(value.shape)
    for axis in range(len(value.shape)):
        if axis != dim:
            value = labels.fix_axis(value, axis, f"{where(node)} mixes it")
    result = broadcast(labels, node, [value, size]) if len(size.shape) == len(value.shape) else value
    return [result, None] if isinstance(node.meta["val"], (tuple, list)) else result
