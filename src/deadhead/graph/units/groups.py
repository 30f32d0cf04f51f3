"""Units: the classes of labels that nothing fixed, gathered in groups of units of the same kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, fx

from deadhead.graph.graph import Graph
from deadhead.graph.nodes import module_path, where
from deadhead.graph.units.labels import Contact, Labels, Product, Value
from deadhead.graph.units.registry import plain_result
from deadhead.graph.units.rules import propagate
from deadhead.graph.units.union_find import Array
from deadhead.text import counted

MOST_INDICES = 65536
"""The maximum size of a constant of integers whose values labels follow."""


@dataclass(frozen=True)
class Slice:
    """The part of a parameter or buffer that belongs to a group.

    Attributes:
        parameter: its name.
        axis: the axis along which the units lie.
        units: the unit of each entry along the axis; -1 for none of this group.
    """

    parameter: str
    axis: int
    units: Tensor


@dataclass(frozen=True)
class Site:
    """A place in the graph where a group is read or made.

    Attributes:
        node: the node that reads or makes it.
        position: the argument that is read, with lists taken apart; -1 for the node's result.
        axis: the axis along which the units lie there.
        units: the unit of each entry along the axis; -1 for none of this group.
        weight: the parameter that it is contracted with; None where that is no parameter.
        weight_axis: the axis of that parameter.
        among: how many units must remain because the node chooses among them; 0 where it does not.
        product: the letters of the contraction, where it is one of the argument with `weight` alone.
    """

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
        """The module that the parameter belongs to; the op and its module where there is no parameter."""
        return (self.weight.rpartition(".")[0] or self.weight) if self.weight else where(self.node)


@dataclass(frozen=True)
class Group:
    """K units of the same kind, which can be removed one by one.

    Attributes:
        name: the module that makes them.
        kind: unit, channel, channel group, head or expert.
        size: K.
        slices: the parts of parameters and buffers that belong to the units.
        producers: where they are made.
        consumers: where they are read.
        norms: where a normalisation takes statistics over them, which change with the units that remain.
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
        """How many units must remain."""
        return max([1, *(site.among for site in self.consumers)])

    def at_producers(self) -> Group:
        """The group with its producers in the place of its consumers: raw outputs stand for what is read."""
        return replace(self, consumers=self.producers, norms=())

    def __str__(self) -> str:
        readers = ", ".join(dict.fromkeys(site.module for site in self.consumers)) or "nothing"
        return f"{self.name}: {counted(self.size, self.kind)}, read by {readers}"


@dataclass(frozen=True)
class Units:
    """The units of a graph.

    Attributes:
        groups: the groups of units, in forward order.
        fixed: {module whose outputs cannot be pruned: the reason}.
        labels: the labels of all tensors.
        roots: {group: the label of each unit}.
    """

    groups: tuple[Group, ...]
    fixed: dict[str, str]
    labels: Labels
    roots: dict[str, Array]


def label(
    graph: Graph, shapes: Mapping[str, Tensor], names: Mapping[int, str] | None = None, width: bool = False
) -> Labels:
    """Run labels through a graph.

    Args:
        graph: the traced graph.
        shapes: {name: parameter or buffer}; those that are one tensor under several names share their labels.
        names: {address: where it stands}, tensors that are reached by forward and not registered in the module.
        width: whether axes that a normalisation goes over are left free.
    """
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
    """Fix the labels over which parameters are contracted among themselves, where activations meet them too: a weight
    that is divided by a norm of itself, say, changes everywhere when one of its units is removed."""
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
    """Find the groups of units of a graph.

    Args:
        graph: the traced graph.
        tensors: {name: parameter or buffer}; those that are one tensor under several names share their labels.
        names: {address: where it stands}, tensors that are reached by forward and not registered in the module.
        width: whether axes that a normalisation goes over are left free.
    """
    labels = label(graph, tensors, names, width)
    axes = _parameter_axes(graph, tensors, labels)
    members = _Members(labels, axes)
    slices: list[list[Slice]] = [[] for _ in members.roots]
    for name, axis, found in axes:
        for group, units in members.units(found):
            slices[group].append(Slice(name, axis, units))
    producers, consumers, norms = (
        _sites(labels, members, contacts) for contacts in (labels.producers, labels.consumers, labels.normalised)
    )
    order = {node: rank for rank, node in enumerate(graph.nodes)}
    places = [i for i, roots in enumerate(members.roots) if len(roots) > 1 and producers[i]]
    places.sort(key=lambda i: min(order[site.node] for site in producers[i]))
    groups: list[Group] = []
    roots: dict[str, Array] = {}
    seen_names = {"": 0}
    for i in places:
        name = next((site.module for site in producers[i] if site.weight), "") or _module_of(slices[i][0].parameter)
        seen_names[name] = seen_names.get(name, 0) + 1
        unique = name if seen_names[name] == 1 else f"{name}#{seen_names[name]}"
        size = len(members.roots[i])
        why = _why_not(labels, producers[i], consumers[i], size)
        if why is not None:
            for site in producers[i]:
                labels.unknown.setdefault(site.weight or slices[i][0].parameter, why)
            continue
        kind = _kind(producers[i], consumers[i], size)
        made, read, normalised = (tuple(sites[i]) for sites in (producers, consumers, norms))
        groups.append(Group(unique, kind, size, tuple(slices[i]), made, read, normalised))
        roots[unique] = members.roots[i]
    return Units(tuple(groups), _fixed_axes(labels), labels, roots)


def _parameter_axes(graph: Graph, tensors: Mapping[str, Tensor], labels: Labels) -> list[tuple[str, int, Array]]:
    """(name, axis, labels along it) of every parameter and buffer, shared ones once."""
    seen: set[int] = set()
    axes: list[tuple[str, int, Array]] = []
    for node, name in graph.state.items():
        if id(tensors[name]) not in seen:
            seen.add(id(tensors[name]))
            axes += [(name, block.axes[0], labels.find(block.labels)) for block in labels.values[node].blocks]
    return axes


def _sites(labels: Labels, members: _Members, contacts: Sequence[Contact]) -> list[list[Site]]:
    """The places where the units of each group are made, read or normalised."""
    sites: list[list[Site]] = [[] for _ in members.roots]
    for contact in contacts:
        if contact.labels.ndim == 1 and contact.position >= -1:
            for group, units in members.units(labels.find(contact.labels)):
                place = (contact.node, contact.position, contact.axis)
                weight = (contact.weight, contact.weight_axis)
                sites[group].append(Site(*place, units, *weight, contact.among, contact.product))
    return sites


def _why_not(labels: Labels, producers: Sequence[Site], consumers: Sequence[Site], size: int) -> str | None:
    """Why units of a kind are no group that can be pruned; None where they are."""
    if not consumers and not any(site.node in labels.live for site in producers):
        return "what it makes depends on no input"
    if max([1, *(site.among for site in consumers)]) >= size:
        return f"all {size} of them are chosen"
    return None


def _module_of(parameter: str) -> str:
    """The module that a parameter belongs to, parametrized or not; its own name where that is the network itself."""
    return (
        parameter.partition(".parametrizations.")[0]
        if ".parametrizations." in parameter
        else (parameter.rpartition(".")[0] or parameter)
    )


class _Members:
    """The group, and the unit of it, that each label belongs to.

    Units that own the same number of entries of the same axes are of one kind: a group. `roots[g][k]` is the label of
    unit k of group g, units in the order in which they first appear.
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
    """The name of such units: experts (a few of them are chosen), channels, heads (several columns of a linear layer
    each), or just units."""
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
    """{module: why the axis that it makes is fixed}."""
    reasons = labels.reasons()
    fixed: dict[str, str] = {name.rpartition(".")[0] or name: why for name, why in labels.unknown.items()}
    for contact in labels.producers:
        root = int(labels.find(contact.labels.ravel()[:1])[0])
        if root in reasons:
            own = contact.weight and (contact.weight.rpartition(".")[0] or contact.weight)
            fixed.setdefault(own or module_path(contact.node) or where(contact.node), reasons[root])
    return fixed
