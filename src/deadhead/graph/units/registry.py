"""The registry of op rules, and the loop that runs them over a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.graph.catalogue import known, names_of, op_of
from deadhead.graph.nodes import argument, hint, is_tensor, op_name, operand, shape_of, tensor_arguments, where
from deadhead.graph.units.labels import Aligned, Contact, LabelRule, Labels, Product, Value

RULES: dict[str, LabelRule] = {}
NORMALISATIONS = frozenset(names_of(normalises=True))
"""Ops that take statistics over an axis, and can take them over a part of it (`gates/renormalise.py`)."""


def rule(*names: str) -> Callable[[LabelRule], LabelRule]:
    """Register a rule for ops by name, as in `aten::NAME`; all overloads and the in-place form are meant."""

    def register(function: LabelRule) -> LabelRule:
        for name in names:
            if name in RULES:
                raise ValueError(f"two rules for {name}")
            RULES[name] = function
        return function

    return register


def plain_result(node: fx.Node, why: str) -> Any:
    """Values without labels for the results of a node."""
    value = node.meta.get("val")
    if isinstance(value, Tensor):
        return Labels.plain([hint(dim) for dim in value.shape], why)
    if isinstance(value, (tuple, list)):
        return [
            Labels.plain([hint(dim) for dim in each.shape], why) if isinstance(each, Tensor) else None for each in value
        ]
    return None


def give_up(labels: Labels, node: fx.Node, why: str) -> Any:
    """Fix everything that a node reads, and return values without labels for its results.

    Args:
        labels: the labels so far.
        node: a node that no rule covers.
        why: the reason, as the report shows it.
    """
    for arg in tensor_arguments(node):
        if arg in labels.weights and not labels.muted:
            labels.unknown.setdefault(labels.weights[arg][0], why)
        value = labels.values.get(arg)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Value):
                labels.fix_all(each, why)
    return plain_result(node, why)


def broadcast(labels: Labels, node: fx.Node, values: list[Value]) -> Value:
    """Merge the labels of values that are broadcast against each other into the shape of the node's output.

    Args:
        labels: the labels so far.
        node: the node that broadcasts them.
        values: the labels of its arguments.
    """
    shape = shape_of(node)
    if len(values) == 1 and values[0].shape == shape:
        return values[0]
    names = [str(axis) for axis in range(len(shape))]
    sizes = dict(zip(names, shape, strict=True))
    operands = [(value, names[len(shape) - len(value.shape) :]) for value in values]
    aligned = labels.align(operands, sizes, (), where(node))
    return labels.assemble(shape, names, aligned, where(node))


def contract(
    labels: Labels,
    node: fx.Node,
    operands: Sequence[tuple[int, fx.Node, Value, Sequence[str]]],
    letters: Sequence[str],
    result: Sequence[str],
    record: bool = True,
) -> tuple[Value, Aligned]:
    """The labels of an einsum's result, after aligning its operands; records producers and consumers of units.

    Args:
        labels: the labels so far.
        node: the node that computes it.
        operands: (argument position, node, value, a letter for each axis).
        letters: all letters, in order.
        result: the letters of the result.
        record: whether producers and consumers are recorded here; False: the caller does it.
    """
    sizes = dict.fromkeys(letters, 1)
    for _, _, value, names in operands:
        for axis, letter in enumerate(names):
            sizes[letter] = max(sizes[letter], value.shape[axis])
    contracted = [letter for letter in letters if letter not in result]
    name = where(node)
    aligned = labels.align([(value, names) for _, _, value, names in operands], sizes, contracted, name)
    output = labels.assemble([sizes[letter] for letter in result], result, aligned, name)
    if record:
        _record(labels, node, operands, result, aligned)
    return output, aligned


def _record(
    labels: Labels,
    node: fx.Node,
    operands: Sequence[tuple[int, fx.Node, Value, Sequence[str]]],
    result: Sequence[str],
    aligned: Aligned,
) -> None:
    """Consumers: activations along a contracted axis. Producers: parameters, and what is made of them, along an axis of
    the result."""
    if not any(arg in labels.live for _, arg, _, _ in operands):
        contracted = {letter for _, _, _, names in operands for letter in names if letter not in result}
        labels.derived += (
            []
            if labels.muted
            else [(aligned.blocks[letter][1], where(node)) for letter in contracted & set(aligned.blocks)]
        )
    weights = {position: labels.weights.get(arg) for position, arg, _, _ in operands}
    for position, arg, _, names in operands:
        if arg in labels.live:
            for axis, letter in enumerate(names):
                if letter not in result and letter in aligned.blocks:
                    other = [
                        (weights[p], list(n).index(letter)) for p, _, _, n in operands if p != position and letter in n
                    ]
                    weight, place = next(((w, a) for w, a in other if w is not None), (None, None))
                    axis_there = None if weight is None or place is None else weight[1][place]
                    found = aligned.blocks[letter][1]
                    name = None if weight is None else weight[0]
                    product = _product(position, operands, result, weights)
                    labels.record(
                        Contact(node, position, axis, found, name, axis_there, product=product), to=labels.consumers
                    )
        else:
            weight = weights[position]
            for axis, letter in enumerate(names):
                if letter in result and aligned.blocks.get(letter, ((), None))[0] == (letter,):
                    found = aligned.blocks[letter][1]
                    own = (None, None) if weight is None else (weight[0], weight[1][axis])
                    labels.record(Contact(node, -1, list(result).index(letter), found, *own), to=labels.producers)


def _product(
    position: int,
    operands: Sequence[tuple[int, fx.Node, Value, Sequence[str]]],
    result: Sequence[str],
    weights: Mapping[int, tuple[str, tuple[int, ...]] | None],
) -> Product | None:
    """The letters of a product of the operand at `position` with a parameter, where that is what it is."""
    if len(operands) != 2:
        return None
    (_, _, value, names), (there, _, other, its) = sorted(operands, key=lambda each: each[0] != position)
    weight = weights[there]
    if weight is None:
        return None
    read = ["" if size == 1 else letter for size, letter in zip(other.shape, its, strict=True)]
    own = tuple("" if size == 1 and letter in read else letter for size, letter in zip(value.shape, names, strict=True))
    return Product(own, tuple(read[weight[1].index(axis)] for axis in range(len(read))), tuple(result))


def normalise(labels: Labels, node: fx.Node, value: Value, axis: int) -> Value:
    """`value` after a node took statistics over one of its axes, which fixes it. With `width`, an axis that is labelled
    by itself remains free, and the place is recorded: a cut normalises over what remains, which is another function.

    Args:
        labels: the labels so far.
        node: the node.
        value: the labels of what it reads.
        axis: the axis that it goes over.
    """
    block = value.block_of(axis)
    if labels.width and op_name(node) in NORMALISATIONS and block is not None and len(block.axes) == 1:
        labels.record(Contact(node, 0, axis, block.labels, None, None), to=labels.normalised)
        return value
    return labels.fix_axis(value, axis, f"{where(node)} mixes it")


def has_rule(node: fx.Node) -> bool:
    """Whether labels know the op of a node that works on tensors."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or op_name(node) in RULES or torch.Tag.pointwise in target.tags:
        return True
    return not tensor_arguments(node) or op_of(node).family in ("assertion", "size")


def _carry_points(labels: Labels, node: fx.Node, name: str) -> None:
    """Indices that choose among units still do where they are only moved; other ops fix those units."""
    if name == "getitem":
        found = labels.points.get((operand(node, 0), argument(node, 1, "index")))
        if found is not None:
            labels.points[node, 0] = found
        return
    for arg in node.all_input_nodes:
        found = labels.points.get((arg, 0))
        if found is None or not is_tensor(arg):
            continue
        indices = known(name).indices
        if indices in ("moved", "same"):
            labels.points[node, 0] = found
        elif indices != "read":
            labels.fix(found, f"{where(node)} reckons with which of them was chosen")


def propagate(labels: Labels, node: fx.Node) -> None:
    """Run the rule of one node and keep its value."""
    name = op_name(node)
    read = [arg for arg in node.all_input_nodes if not isinstance(arg.meta.get("val"), (int, float, torch.SymInt))]
    if not read or any(arg in labels.live for arg in read):
        labels.live.add(node)
    if known(name).indices == "same" and node.args and node.args[0] in labels.known:
        labels.known[node] = labels.known[node.args[0]]  # type: ignore[index]
    _carry_points(labels, node, name)
    function = RULES.get(name)
    pointwise = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
    if function is None and pointwise:
        function = RULES["pointwise"]
    if function is None:
        inputs = tensor_arguments(node)
        if inputs and isinstance(node.meta.get("val"), (Tensor, tuple, list)):
            labels.values[node] = give_up(labels, node, f"{where(node)} has no rule")
        else:
            labels.values[node] = plain_result(node, f"{where(node)} makes it of a fixed size")
        return
    labels.values[node] = function(labels, node)
