"""Units: the classes of labels that nothing fixed, gathered in groups of units of the same kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from deadhead.graph.graph import Graph
from deadhead.graph.labels import Array, Contact, Labels, Value
from deadhead.graph.ops import propagate
from deadhead.graph.ops.registry import plain_result, where


@dataclass(frozen=True)
class Slice:
    """The part of a parameter or buffer that belongs to a group: entry i along `axis` is of unit `units[i]`, or of
    none of the group's where that is -1."""

    parameter: str
    axis: int
    units: Tensor


@dataclass(frozen=True)
class Site:
    """A place in the graph where a group is read or made: argument `position` of `node` (its result, where that is
    -1), whose entry i along `axis` is of unit `units[i]`. `weight` is the parameter it is contracted with, along
    `weight_axis`; None where that is no parameter."""

    node: fx.Node
    position: int
    axis: int
    units: Tensor
    weight: str | None
    weight_axis: int | None

    @property
    def module(self) -> str:
        return self.weight.rpartition(".")[0] if self.weight else where(self.node)


@dataclass(frozen=True)
class Group:
    """K units of the same kind: each owns one set of the slices, is made at the producers and read at the consumers."""

    name: str
    kind: str
    size: int
    slices: tuple[Slice, ...]
    producers: tuple[Site, ...]
    consumers: tuple[Site, ...]

    def __str__(self) -> str:
        readers = ", ".join(dict.fromkeys(site.module for site in self.consumers)) or "nothing"
        return f"{self.name}: {self.size} {self.kind}s, read by {readers}"


@dataclass(frozen=True)
class Units:
    """What labels found in a graph: the groups, in forward order, why other axes are fixed, and the labels themselves;
    `roots[group][k]` is the label of unit k."""

    groups: tuple[Group, ...]
    fixed: dict[str, str]
    labels: Labels
    roots: dict[str, Array]


def label(graph: Graph, shapes: Mapping[str, Tensor]) -> Labels:
    """Run labels through a graph. `shapes` has the tensors behind its parameters and buffers: those that are one
    tensor under several names share their labels."""
    labels = Labels()
    shared: dict[int, tuple[str, Value]] = {}
    for node, name in graph.state.items():
        tensor = shapes[name]
        if id(tensor) not in shared:
            shared[id(tensor)] = (name, labels.parameter(tensor.shape))
        first, value = shared[id(tensor)]
        labels.values[node] = value
        labels.weights[node] = (first, tuple(range(len(value.shape))))
    for node in graph.constants:
        labels.values[node] = plain_result(node, f"{node.name} is a constant of the module")
    for node in graph.inputs:
        labels.values[node] = plain_result(node, f"{node.name} is an input")
        labels.live.add(node)
    for node in graph.calls:
        propagate(labels, node)
    for out in graph.outputs:
        if isinstance(out, fx.Node) and isinstance(labels.values.get(out), Value):
            labels.fix_all(labels.values[out], "it is an output of the model")
    labels.settle()
    return labels


def find_units(graph: Graph, tensors: Mapping[str, Tensor]) -> Units:
    """The groups of units of a graph."""
    labels = label(graph, tensors)
    first_name: dict[int, str] = {}
    axes: list[tuple[str, int, Array]] = []
    for node, name in graph.state.items():
        if id(tensors[name]) in first_name:
            continue
        first_name[id(tensors[name])] = name
        value = labels.values[node]
        axes += [(name, block.axes[0], labels.find(block.labels)) for block in value.blocks]
    members = _members(labels, axes)
    found = [(_group(labels, axes, roots), roots) for roots in members]
    order = {node: rank for rank, node in enumerate(graph.nodes)}
    found = [(group, roots) for group, roots in found if group.size > 1 and group.producers]
    found.sort(key=lambda pair: min(order[site.node] for site in pair[0].producers))
    groups = _unique_names([group for group, _ in found])
    roots = {group.name: held for group, (_, held) in zip(groups, found, strict=True)}
    return Units(tuple(groups), _fixed_axes(labels), labels, roots)


def _members(labels: Labels, axes: list[tuple[str, int, Array]]) -> list[Array]:
    """The roots of each group: units that own equally many entries of the same axes are of one kind."""
    if not axes:
        return []
    roots = np.concatenate([found for _, _, found in axes])
    owner = np.concatenate([np.full(len(found), i) for i, (_, _, found) in enumerate(axes)])
    free = ~labels.fixed(roots)
    roots, owner = roots[free], owner[free]
    if not len(roots):
        return []
    pairs, counts = np.unique(np.stack([roots, owner]), axis=1, return_counts=True)
    first = {int(root): place for place, root in reversed(list(enumerate(roots)))}
    kinds: dict[int, list[tuple[int, int]]] = {}
    for (root, place), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        kinds.setdefault(root, []).append((place, count))
    together: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for root in sorted(kinds, key=first.__getitem__):
        together.setdefault(tuple(kinds[root]), []).append(root)
    return [np.array(each) for each in together.values()]


def _group(labels: Labels, axes: list[tuple[str, int, Array]], roots: Array) -> Group:
    ranks = np.argsort(roots)
    ordered = roots[ranks]

    def units(found: Array) -> Tensor | None:
        found = labels.find(found)
        place = np.searchsorted(ordered, found).clip(max=len(ordered) - 1)
        here = ordered[place] == found
        return torch.from_numpy(np.where(here, ranks[place], -1)) if here.any() else None

    slices = tuple(Slice(name, axis, index) for name, axis, found in axes if (index := units(found)) is not None)
    producers = _sites(labels.producers, units)
    consumers = _sites(labels.consumers, units)
    name = next((site.module for site in producers if site.weight), slices[0].parameter)
    return Group(
        name or slices[0].parameter, _kind(producers, consumers, len(roots)), len(roots), slices, producers, consumers
    )


def _sites(contacts: list[Contact], units: object) -> tuple[Site, ...]:
    sites = []
    for contact in contacts:
        index = units(contact.labels) if contact.labels.ndim == 1 else None  # type: ignore[operator]
        if index is not None and contact.position >= -1:
            sites.append(Site(contact.node, contact.position, contact.axis, index, contact.weight, contact.weight_axis))
    return tuple(sites)


def _kind(producers: tuple[Site, ...], consumers: tuple[Site, ...], size: int) -> str:
    """What people call such a unit: a channel, a head (several columns of a linear layer in one), or just a unit."""
    if any("conv" in str(site.node.target) for site in producers):
        wide = max(int((site.units >= 0).sum()) for site in producers) > size
        return "channel group" if wide else "channel"
    return "head" if any(int((site.units >= 0).sum()) > size for site in consumers) else "unit"


def _unique_names(groups: list[Group]) -> list[Group]:
    seen: dict[str, int] = {}
    result = []
    for group in groups:
        count = seen.get(group.name, 0)
        seen[group.name] = count + 1
        name = group.name if not count else f"{group.name}#{count + 1}"
        result.append(Group(name, group.kind, group.size, group.slices, group.producers, group.consumers))
    return result


def _fixed_axes(labels: Labels) -> dict[str, str]:
    """For each parameter axis that a producer makes and something fixed: which, and why."""
    reasons = labels.reasons()
    fixed: dict[str, str] = {}
    for contact in labels.producers:
        if contact.weight is not None:
            root = int(labels.find(contact.labels.ravel()[:1])[0])
            if root in reasons:
                fixed.setdefault(contact.weight.rpartition(".")[0] or contact.weight, reasons[root])
    return fixed
