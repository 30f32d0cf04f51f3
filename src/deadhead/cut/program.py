"""Cutting a traced program: the sizes that its ops were given as numbers are rewritten along with its tensors.

A module of a user's class computes its sizes in its forward, or cannot be cut; the graph module of an exported program
has them written down, and labels show what each becomes.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from deadhead.errors import CutError
from deadhead.graph.catalogue import known, names_of, op_of
from deadhead.graph.graph import reaching
from deadhead.graph.network import Traced
from deadhead.graph.nodes import argument, concrete, module_path, op_name
from deadhead.graph.units.labels import Labels, Value
from deadhead.graph.units.union_find import Array

Rewrite = tuple[str, int, Any]
"""(node, argument position, new value): entries of a list that do not change are None."""

FILLED = {name: place for name in names_of(filled=True) if (place := known(name).sizes) is not None}
"""{op that fills a tensor of a given size: the argument that has the size}."""
GROUPED = ("convolution", "transposed convolution", "normalisation")
"""The families whose number of groups is rewritten."""


def rewrites(module: nn.Module, traced: Traced, removed: Mapping[str, Tensor]) -> list[Rewrite]:
    """The arguments of a graph module's nodes that change when units are removed.

    Args:
        module: the intact program; of any other module none change.
        traced: its graph with labels.
        removed: {group: the units that are removed}.

    Raises:
        CutError: where the program has another graph when it is traced again.
    """
    if not isinstance(module, fx.GraphModule):
        return []
    labels = traced.units.labels
    removed_labels = _removed_labels(traced, removed)
    alive = reaching(node for node in module.graph.nodes if node.op == "output")
    ours = [node for node in module.graph.nodes if node in alive and _counts(node)]
    theirs = [node for node in traced.graph.calls if _counts(node)]
    if [op_name(node) for node in ours] != [op_name(node) for node in theirs]:
        raise CutError(
            "The program's graph changes when it is traced again, so that its sizes cannot be rewritten; give the "
            "module that it was exported from."
        )
    changes: list[Rewrite] = []
    for own, node in zip(ours, theirs, strict=True):
        changes += [
            (
                own.name,
                position,
                _as_written(own.args[position] if position < len(own.args) else None, node, position, value),
            )
            for position, value in _changes(labels, node, removed_labels)
        ]
    return changes


def _as_written(own: Any, node: fx.Node, position: int, value: Any) -> Any:
    """A change as it is written down: where the program computes a size (from the number of samples, say), the fraction
    of it, [new, old], that remains."""
    if not isinstance(value, list) or not isinstance(own, (list, tuple)):
        return value
    old = concrete(node.args[position])
    return [
        [new, old[place]] if new is not None and isinstance(own[place], fx.Node) else new
        for place, new in enumerate(value)
    ]


def settings_of(module: nn.Module, traced: Traced, removed: Mapping[str, Tensor]) -> list[tuple[str, str, Any]]:
    """The attributes of torch's modules that change when units are removed and that no tensor of theirs shows, such as
    those of GroupNorm and Unflatten.

    Args:
        module: the intact module.
        traced: its graph with labels.
        removed: {group: the units that are removed}.

    Returns:
        (path of the module, attribute, new value), as a `Surgery` holds them.
    """
    labels = traced.units.labels
    removed_labels = _removed_labels(traced, removed)
    settings: dict[tuple[str, str], Any] = {}
    for node in traced.graph.calls:
        path = module_path(node)
        try:
            owner = module.get_submodule(path) if path else module
        except AttributeError:
            continue
        value = labels.values.get(node)
        if isinstance(owner, nn.GroupNorm) and op_name(node) == "group_norm" and isinstance(value, Value):
            remaining = _remaining(labels, value, 1, removed_labels)
            if remaining != owner.num_channels:
                settings[path, "num_channels"] = remaining
                settings[path, "num_groups"] = remaining * owner.num_groups // owner.num_channels
        if isinstance(owner, nn.modules.batchnorm._NormBase) and "norm" in op_name(node) and isinstance(value, Value):
            remaining = _remaining(labels, value, 1, removed_labels)
            if remaining != value.shape[1]:
                settings[path, "num_features"] = remaining
        if isinstance(owner, nn.Unflatten) and op_name(node) == "unflatten" and isinstance(value, Value):
            axis = int(owner.dim) % (len(value.shape) - len(owner.unflattened_size) + 1)
            sizes = tuple(
                size if size == -1 else _remaining(labels, value, axis + i, removed_labels)
                for i, size in enumerate(owner.unflattened_size)
            )
            if sizes != tuple(owner.unflattened_size):
                settings[path, "unflattened_size"] = sizes
    return [(path, attribute, value) for (path, attribute), value in settings.items()]


def _removed_labels(traced: Traced, removed: Mapping[str, Tensor]) -> Array:
    """The labels of the units that are removed."""
    labels = traced.units.labels
    parts = [labels.find(traced.units.roots[name])[units.numpy()] for name, units in removed.items()]
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def _counts(node: fx.Node) -> bool:
    """Whether a node works on tensors: arithmetic on sizes is there in one trace and not in another."""
    if node.op != "call_function" or op_of(node).retraced:
        return False
    return isinstance(node.target, torch._ops.OpOverload) or op_name(node) == "getitem"


def _changes(labels: Labels, node: fx.Node, removed_labels: Array) -> list[tuple[int, Any]]:
    """(argument position, new value) of a node."""
    op = op_of(node)
    value = labels.values.get(node)
    if op.rewritten == "sizes" and op.sizes is not None and isinstance(value, Value):
        sizes = node.args[op.sizes]
        new = [_remaining(labels, value, axis, removed_labels) for axis in range(len(value.shape))]
        if isinstance(sizes, (list, tuple)):
            lead = len(value.shape) - len(sizes)
            changed = [
                new[lead + i] if size == value.shape[lead + i] and size != new[lead + i] else None
                for i, size in enumerate(sizes)
            ]
            return [(op.sizes, changed)] if any(each is not None for each in changed) else []
    if op.rewritten == "unflatten" and isinstance(value, Value):
        axis = argument(node, 1, "dim") % (len(value.shape) - len(argument(node, 2, "sizes")) + 1)
        sizes = argument(node, 2, "sizes")
        new = [_remaining(labels, value, axis + i, removed_labels) for i in range(len(sizes))]
        return [(2, [n if s not in (n, -1) else None for s, n in zip(sizes, new, strict=True)])]
    source = node.args[0] if node.args else None
    given = labels.values.get(source) if isinstance(source, fx.Node) else None
    if not isinstance(given, Value):
        return []
    if op.rewritten == "parts" and isinstance(value, list):
        axis = argument(node, 2, "dim", 0) % len(given.shape)
        unchanged = _remaining(labels, given, axis, removed_labels) == given.shape[axis]
        return [] if unchanged else [(1, [_remaining(labels, part, axis, removed_labels) for part in value])]
    if op.rewritten == "range":
        axis = (argument(node, 1, "dim", 0) or 0) % len(given.shape)
        kept = _kept(labels, given, axis, removed_labels)
        if kept.all():
            return []
        ends = [argument(node, position, key, None) for position, key in ((2, "start"), (3, "end"))]
        places = [None if end is None else int(kept[: slice(None, end).indices(len(kept))[1]].sum()) for end in ends]
        return [(position, place) for position, place in zip((2, 3), places, strict=True) if place is not None]
    place = op.groups if op.family in GROUPED else None
    count = 1 if place is None else argument(node, place, "groups", 1)
    if place is not None and count > 1 and (op.family == "normalisation" or given.shape[1] == count):
        remaining = _remaining(labels, given, 1, removed_labels) * count // given.shape[1]
        return [(place, remaining)] if remaining != count else []
    return []


def _kept(labels: Labels, value: Value, axis: int, removed_labels: Array) -> Any:
    """Which entries along an axis are kept."""
    block = value.block_of(axis)
    if block is None:
        return np.ones(value.shape[axis], dtype=np.bool_)
    remains = ~np.isin(labels.find(block.labels), removed_labels)
    others = tuple(i for i in range(len(block.axes)) if block.axes[i] != axis)
    return remains.any(axis=others)


def _remaining(labels: Labels, value: Value, axis: int, removed_labels: Array) -> int:
    """The size of an axis after the cut."""
    return int(_kept(labels, value, axis, removed_labels).sum()) if value.shape[axis] > 0 else value.shape[axis]


def _resized(module: fx.GraphModule, node: fx.Node, own: Any, new: Any) -> Any:
    """One size of a node: as it was, a number, or a fraction of what the program computes."""
    if not isinstance(new, (list, tuple)):
        return own if new is None else new
    if not isinstance(own, fx.Node):
        raise CutError(f"The size of {node.name} is no longer computed: the result belongs to another program.")
    numerator, denominator = new
    common = math.gcd(numerator, denominator)
    with module.graph.inserting_before(node):
        scaled = module.graph.call_function(operator.mul, (own, numerator // common))
        return module.graph.call_function(operator.floordiv, (scaled, denominator // common))


def apply(module: nn.Module, changes: list[Rewrite]) -> None:
    """Carry the rewrites out on the graph of a graph module."""
    if not changes:
        return
    if not isinstance(module, fx.GraphModule):
        raise CutError(
            f"This result was made from an exported program, and {type(module).__name__} is a class: give the program."
        )
    nodes = {node.name: node for node in module.graph.nodes}
    for name, position, value in changes:
        if name not in nodes:
            raise CutError(f"The program has no node {name}: the result belongs to another program.")
        node = nodes[name]
        if position >= len(node.args):
            key = node.target._schema.arguments[position].name
            node.kwargs = {**node.kwargs, key: value}
            continue
        old = node.args[position]
        if isinstance(value, list) and isinstance(old, (list, tuple)):
            value = [_resized(module, node, own, new) for own, new in zip(old, value, strict=True)]
        elif isinstance(value, list):
            node.target = torch.ops.aten.split_with_sizes.default
        node.update_arg(position, value)
    module.graph.eliminate_dead_code()
    module.recompile()
