"""Units: the classes of labels that nothing fixed, gathered in groups of units of the same kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, fx

from deadhead.graph.graph import Graph
from deadhead.graph.nodes import module_path, where
from deadhead.graph.units.labels import Labels, Product, Value
from deadhead.graph.units.registry import plain_result
from deadhead.graph.units.rules import propagate
from deadhead.graph.units.union_find import Array
from deadhead.text import counted

MOST_INDICES = 65536
"""The largest constant of integers whose values labels follow."""


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
    `weight_axis`; None where that is no parameter. Where the node chooses `among` units, so many must stay. `product`
    has the letters of the contraction, where it is one of the argument with `weight` alone."""

    node: fx.Node
    position: int
    axis: int
    units: Tensor
    weight: str | None
    weight_axis: int | None
    among: int = 0
    product: Product | None = None

    @property
    def module(self) -> str:
        return (self.weight.rpartition(".")[0] or self.weight) if self.weight else where(self.node)


@dataclass(frozen=True)
class Group:
    """K units of the same kind: each owns one set of the slices, is made at the producers and read at the consumers.

    `norms` are the places where a normalisation takes statistics over the units, which then change with what is left.
    """

    name: str
    kind: str
    size: int
    slices: tuple[Slice, ...]
    producers: tuple[Site, ...]
    consumers: tuple[Site, ...]
    norms: tuple[Site, ...] = ()

    @property
    def minimum(self) -> int:
        """How many units must stay."""
        return max([1, *(site.among for site in self.consumers)])

    def at_producers(self) -> Group:
        """The group as it is where it is made: the producers' raw outputs stand for what the consumers read."""
        return replace(self, consumers=self.producers, norms=())

    def __str__(self) -> str:
        readers = ", ".join(dict.fromkeys(site.module for site in self.consumers)) or "nothing"
        return f"{self.name}: {counted(self.size, self.kind)}, read by {readers}"


@dataclass(frozen=True)
class Units:
    """What labels found in a graph: the groups, in forward order, why other axes are fixed, and the labels themselves;
    `roots[group][k]` is the label of unit k."""

    groups: tuple[Group, ...]
    fixed: dict[str, str]
    labels: Labels
    roots: dict[str, Array]


def label(
    graph: Graph, shapes: Mapping[str, Tensor], names: Mapping[int, str] | None = None, width: bool = False
) -> Labels:
    """Run labels through a graph. `shapes` has the tensors behind its parameters and buffers: those that are one
    tensor under several names share their labels. `names` says where tensors that are no parameters stand, by
    address. `width` leaves axes free that a normalisation goes over."""
    labels, alive = Labels(width), set(graph.calls)
    shared: dict[int, tuple[str, Value]] = {}
    for node, name in graph.state.items():
        tensor = shapes[name]
        if id(tensor) not in shared:
            shared[id(tensor)] = (name, labels.parameter(tensor.shape))
        first, value = shared[id(tensor)]
        labels.values[node] = value
        labels.weights[node] = (first, tuple(range(len(value.shape))))
    for node, constant in graph.constants.items():
        where_it_is = (names or {}).get(constant.data_ptr()) if isinstance(constant, Tensor) else None
        why = f"it meets {where_it_is}, which is not registered in the module" if where_it_is else ""
        labels.values[node] = plain_result(node, why or "it meets a constant of the module")
        labels.live.add(node)
        if isinstance(constant, Tensor) and constant.dtype == torch.int64 and constant.numel() <= MOST_INDICES:
            labels.known[node] = constant.cpu().numpy()
    for node in graph.inputs:
        labels.values[node] = plain_result(node, "it meets an input of the model")
        labels.live.add(node)
    for node in graph.every_call:
        labels.muted = node not in alive
        propagate(labels, node)
    labels.muted = False
    for out in graph.outputs:
        if isinstance(out, fx.Node) and isinstance(labels.values.get(out), Value):
            labels.fix_all(labels.values[out], "it is an output of the model")
    _fix_normalised(labels)
    labels.settle()
    return labels


def _fix_normalised(labels: Labels) -> None:
    """A weight that is divided by a norm of itself, or the like, changes everywhere when one of its units goes: what
    parameters are contracted over among themselves is fixed where activations meet it too."""
    met = [
        labels.find(contact.labels).ravel()
        for contact in (*labels.consumers, *labels.producers)
        if contact.node in labels.live
    ]
    there = np.unique(np.concatenate(met)) if met else np.zeros(0, dtype=np.int64)
    for found, name in labels.derived:
        roots = labels.find(found).ravel()
        labels.fix(roots[np.isin(roots, there)], f"{name} mixes it within its weight")


def find_units(
    graph: Graph, tensors: Mapping[str, Tensor], names: Mapping[int, str] | None = None, width: bool = False
) -> Units:
    """The groups of units of a graph."""
    labels = label(graph, tensors, names, width)
    seen: set[int] = set()
    axes: list[tuple[str, int, Array]] = []
    for node, name in graph.state.items():
        if id(tensors[name]) not in seen:
            seen.add(id(tensors[name]))
            axes += [(name, block.axes[0], labels.find(block.labels)) for block in labels.values[node].blocks]
    members = _Members(labels, axes)
    slices: list[list[Slice]] = [[] for _ in members.roots]
    producers: list[list[Site]] = [[] for _ in members.roots]
    consumers: list[list[Site]] = [[] for _ in members.roots]
    norms: list[list[Site]] = [[] for _ in members.roots]
    for name, axis, found in axes:
        for group, units in members.units(found):
            slices[group].append(Slice(name, axis, units))
    for contacts, sites in (
        (labels.producers, producers),
        (labels.consumers, consumers),
        (labels.normalised, norms),
    ):
        for contact in contacts:
            if contact.labels.ndim == 1 and contact.position >= -1:
                for group, units in members.units(labels.find(contact.labels)):
                    place = (contact.node, contact.position, contact.axis)
                    weight = (contact.weight, contact.weight_axis)
                    sites[group].append(Site(*place, units, *weight, contact.among, contact.product))
    order = {node: rank for rank, node in enumerate(graph.nodes)}
    places = [i for i, roots in enumerate(members.roots) if len(roots) > 1 and producers[i]]
    places.sort(key=lambda i: min(order[site.node] for site in producers[i]))
    groups, kept, seen_names = [], [], {"": 0}
    for i in places:
        name = next((site.module for site in producers[i] if site.weight), "") or _home(slices[i][0].parameter)
        seen_names[name] = seen_names.get(name, 0) + 1
        unique = name if seen_names[name] == 1 else f"{name}#{seen_names[name]}"
        size = len(members.roots[i])
        if not consumers[i] and not any(site.node in labels.live for site in producers[i]):
            for site in producers[i]:
                labels.unknown.setdefault(site.weight or slices[i][0].parameter, "what it makes depends on no input")
            continue
        least = max([1, *(site.among for site in consumers[i])])
        if least >= size:
            for site in producers[i]:
                labels.unknown.setdefault(site.weight or slices[i][0].parameter, f"all {size} of them are chosen")
            continue
        kind = _kind(producers[i], consumers[i], size)
        kept.append(i)
        made, read, normalised = (tuple(found[i]) for found in (producers, consumers, norms))
        groups.append(Group(unique, kind, size, tuple(slices[i]), made, read, normalised))
    roots = {group.name: members.roots[i] for group, i in zip(groups, kept, strict=True)}
    return Units(tuple(groups), _fixed_axes(labels), labels, roots)


def _home(parameter: str) -> str:
    """The module that a parameter belongs to, parametrized or not; its own name where that is the network itself."""
    return (
        parameter.partition(".parametrizations.")[0]
        if ".parametrizations." in parameter
        else (parameter.rpartition(".")[0] or parameter)
    )


class _Members:
    """Which group, and which unit of it, each label belongs to.

    Units that own equally many entries of the same axes are of one kind: a group. `roots[g][k]` is the label of unit k
    of group g, units in the order in which they first appear.
    """

    def __init__(self, labels: Labels, axes: list[tuple[str, int, Array]]) -> None:
        self.roots: list[Array] = []
        everything = [found for _, _, found in axes] or [np.zeros(0, dtype=np.int64)]
        roots = np.concatenate(everything)
        owner = np.repeat(np.arange(len(everything)), [len(found) for found in everything])
        free = ~labels.fixed(roots)
        roots, owner = roots[free], owner[free]
        top = int(roots.max(initial=0)) + 1
        self._group = np.full(top, -1, dtype=np.int64)
        self._unit = np.full(top, -1, dtype=np.int64)
        pairs, counts = np.unique(roots * len(everything) + owner, return_counts=True)
        names, starts = np.unique(pairs // len(everything), return_index=True)
        kinds: dict[bytes, list[int]] = {}
        signature = np.stack([pairs % len(everything), counts], axis=1)
        ends = np.append(starts[1:], len(pairs))
        first = np.full(top, len(roots), dtype=np.int64)
        np.minimum.at(first, roots, np.arange(len(roots)))
        for place in np.argsort(first[names], kind="stable"):
            kinds.setdefault(signature[starts[place] : ends[place]].tobytes(), []).append(int(names[place]))
        for group, members in enumerate(kinds.values()):
            self.roots.append(np.array(members))
            self._group[members] = group
            self._unit[members] = np.arange(len(members))

    def units(self, roots: Array) -> list[tuple[int, Tensor]]:
        """For each group that `roots` touch: (group, the unit of each entry, or -1)."""
        inside = roots < len(self._group)
        groups = np.where(inside, self._group[np.where(inside, roots, 0)], -1)
        units = np.where(inside, self._unit[np.where(inside, roots, 0)], -1)
        return [
            (int(group), torch.from_numpy(np.where(groups == group, units, -1)))
            for group in np.unique(groups)
            if group >= 0
        ]


def _kind(producers: Sequence[Site], consumers: Sequence[Site], size: int) -> str:
    """What people call such a unit: an expert (a few of them are chosen), a channel, a head (several columns of a
    linear layer in one), or just a unit."""
    if any("topk" in str(site.node.target) for site in consumers):
        return "expert"
    if any("conv" in str(site.node.target) for site in producers):
        wide = max(int((site.units >= 0).sum()) for site in producers) > size
        return "channel group" if wide else "channel"
    wide = any(
        int((site.units == 0).sum()) > 1 and bool((site.units == 0).nonzero()[:2, 0].diff() == 1) for site in consumers
    )
    return "head" if wide else "unit"


def _fixed_axes(labels: Labels) -> dict[str, str]:
    """For each parameter axis that a producer makes and something fixed: which, and why."""
    reasons = labels.reasons()
    fixed: dict[str, str] = {name.rpartition(".")[0] or name: why for name, why in labels.unknown.items()}
    for contact in labels.producers:
        root = int(labels.find(contact.labels.ravel()[:1])[0])
        if root in reasons:
            own = contact.weight and (contact.weight.rpartition(".")[0] or contact.weight)
            fixed.setdefault(own or module_path(contact.node) or where(contact.node), reasons[root])
    return fixed
