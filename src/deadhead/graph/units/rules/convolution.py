"""Convolutions of any rank, grouped, depthwise and transposed."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from deadhead.graph.catalogue import names_of
from deadhead.graph.nodes import argument, is_tensor, operand, shape_of, where
from deadhead.graph.units.labels import Contact, Labels, Value
from deadhead.graph.units.registry import contract, rule


def _convolve(labels: Labels, node: fx.Node, groups: int, transposed: bool) -> Value:
    """y[n, (g, o), s] = sum_c,k x[n, (g, c), s + k] W[(g, o), c, k] + b[(g, o)].

    A transposed convolution's weight is W[(g, c), o, k]. With one input channel for each group (depthwise) a unit is a
    group; else a unit is one channel of each group, so that the number of groups, which forward reads, does not change.
    """
    x, weight = operand(node, 0), operand(node, 1)
    value, kernel = labels.values[x], labels.values[weight]
    name, shape = where(node), shape_of(node)
    batched = len(value.shape) == len(kernel.shape)
    channel = 1 if batched else 0
    outer = ["n"] if batched else []
    for axis in range(channel + 1, len(value.shape)):
        value = labels.fix_axis(value, axis, f"{name} slides along it")
    for axis in range(2, len(kernel.shape)):
        kernel = labels.fix_axis(kernel, axis, f"{name} slides along it")
    space = [f"s{axis}" for axis in range(len(kernel.shape) - 2)]
    taps = [f"k{axis}" for axis in range(len(kernel.shape) - 2)]
    window = [f"w{axis}" for axis in range(len(kernel.shape) - 2)]
    into, out = ("o", "c") if transposed else ("c", "o")
    if groups == 1:
        operands = [(0, x, value, [*outer, "c", *window]), (1, weight, kernel, [out, into, *taps])]
        found, _ = contract(labels, node, operands, [*outer, "c", "o", *window, *taps], [*outer, "o"])
    else:
        found = _grouped(labels, node, value, kernel, groups, transposed)
    bias = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
    if is_tensor(bias):
        own = labels.values[bias]
        sizes = dict(zip([*outer, "o"], found.shape, strict=True))
        aligned = labels.align([(found, [*outer, "o"]), (own, ["o"])], sizes, (), name)
        found = labels.assemble(found.shape, [*outer, "o"], aligned, name)
    why = (*found.why, *(f"{name} slides along it" for _ in space))
    return Value(shape, found.blocks, why)


def _grouped(labels: Labels, node: fx.Node, value: Value, kernel: Value, groups: int, transposed: bool) -> Value:
    """The channels of a grouped convolution's output, without its axes in space."""
    x, weight = operand(node, 0), operand(node, 1)
    channel = len(value.shape) - len(kernel.shape) + 1
    outer, space = ["n"] * channel, len(kernel.shape) - 2
    taps, window = [f"k{axis}" for axis in range(space)], [f"w{axis}" for axis in range(space)]
    into, out = ("o", "c") if transposed else ("c", "o")
    name = where(node)
    wide = value.shape[channel]
    split = labels.reshape(value, (*value.shape[:channel], groups, wide // groups, *value.shape[channel + 1 :]))
    blocks = labels.reshape(kernel, (groups, kernel.shape[0] // groups, *kernel.shape[1:]))
    if wide == groups:
        blocks = labels.fix_axis(blocks, 2 if transposed else 1, f"{name} has one input channel for each group")
    else:
        split = labels.fix_axis(split, channel, f"{name} is grouped")
        blocks = labels.fix_axis(blocks, 0, f"{name} is grouped")
    operands = [(0, x, split, [*outer, "g", "c", *window]), (1, weight, blocks, ["g", out, into, *taps])]
    letters = [*outer, "g", "c", "o", *window, *taps]
    found, aligned = contract(labels, node, operands, letters, [*outer, "g", "o"], record=False)
    found = labels.reshape(found, (*found.shape[:channel], found.shape[channel] * found.shape[channel + 1]))
    owner = labels.weights.get(weight)
    parameter = owner[0] if owner else None
    if "c" in aligned.blocks and wide != groups:
        read = np.tile(aligned.blocks["c"][1], groups)
        labels.record(
            Contact(node, 0, channel, read, parameter, owner[1][0 if transposed else 1] if owner else None),
            to=labels.consumers,
        )
    made = found.block_of(channel)
    if made is None and parameter is not None and not labels.muted:
        labels.unknown.setdefault(parameter, found.why[channel])
    if made is not None and weight not in labels.live:
        axis = owner[1][1 if transposed else 0] if owner else None
        labels.record(Contact(node, -1, channel, made.labels, parameter, axis), to=labels.producers)
    return found


@rule(*names_of("convolution"))
def convolution(labels: Labels, node: fx.Node) -> Any:
    """Convolutions."""
    return _convolve(labels, node, argument(node, 6, "groups", 1), transposed=False)


@rule(*names_of("transposed convolution"))
def transposed_convolution(labels: Labels, node: fx.Node) -> Any:
    """Transposed convolutions."""
    return _convolve(labels, node, argument(node, 6, "groups", 1), transposed=True)


@rule(*names_of("general convolution"))
def any_convolution(labels: Labels, node: fx.Node) -> Any:
    """Convolutions whose arguments say whether they are transposed."""
    return _convolve(labels, node, argument(node, 8, "groups", 1), transposed=argument(node, 6, "transposed", False))
