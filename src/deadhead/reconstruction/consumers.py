"""Consumers that can be compensated: which weights read units, in which layout, and where a constant can go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from deadhead.graph.catalogue import op_of
from deadhead.graph.graph import Graph
from deadhead.graph.network import Network
from deadhead.graph.nodes import module_path, where
from deadhead.graph.units.groups import Group, Site
from deadhead.graph.units.matrices import Arrangement, Layout, bias_of, fits, layout_of, operands_of
from deadhead.reconstruction.blocks import blocks_of

Layouts = Mapping[fx.Node, Layout]


@dataclass(frozen=True)
class Constant:
    """Where a constant can be added to what a consumer gives: `add` to a bias, `subtract` from a batch norm's running
    mean, or a bias that is `new`."""

    kind: str
    name: str


@dataclass(frozen=True)
class Consumer:
    """One weight that reads units: the nodes it is used at, how it is a matrix, and where its constant goes. `reads`
    has, for each group that it reads, the unit of each column of the matrix, or -1, the same in each of its groups.
    Where there are too many columns for one matrix of their products, `blocks` has those of each part."""

    weight: str
    nodes: tuple[fx.Node, ...]
    reads: Mapping[str, Tensor]
    arrangement: Arrangement
    constant: Constant | None
    blocks: tuple[Tensor, ...] = ()

    @property
    def groups(self) -> int:
        return self.arrangement.groups

    @property
    def products(self) -> int:
        """How many products its statistics hold: of each two columns of a block, and a one."""
        sizes = [len(block) for block in self.blocks] or [self.arrangement.columns]
        return self.groups * sum((size + 1) ** 2 for size in sizes)

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as (groups, outputs, columns)."""
        return self.arrangement.matrix(weight)

    def units(self, name: str, weight: Tensor) -> Tensor:
        """The unit of a group that each column of the matrix belongs to, or -1, shape (columns,)."""
        return self.reads[name].to(weight.device)

    def removed_columns(self, weight: Tensor, removed: Mapping[str, Tensor]) -> Tensor:
        """Which columns of the matrix go with `removed[group]`, shape (groups, columns)."""
        dead = torch.zeros(self.arrangement.columns, dtype=torch.bool, device=weight.device)
        for name in self.reads:
            if name in removed:
                dead |= torch.isin(self.units(name, weight), removed[name].to(weight.device))
        return dead[None].expand(self.groups, -1)

    def weight_of(self, matrix: Tensor, like: Tensor) -> Tensor:
        """The weight that such a matrix stands for."""
        return self.arrangement.weight_of(matrix, like.shape)


def consumers_of(network: Network, groups: Sequence[Group]) -> tuple[list[Consumer], dict[str, str]]:
    """The weights that read the units of some groups, front to back, and why others cannot be compensated."""
    graph = network.static.graph
    sites: dict[str, list[tuple[Group, Site]]] = {}
    left: dict[str, str] = {}
    for group in groups:
        for site in group.consumers:
            if site.weight is not None and site.weight_axis is not None:
                sites.setdefault(site.weight, []).append((group, site))
            elif _is_derived(network, site):
                left[where(site.node)] = "its weight is computed from other parameters"
    tensors = network.state()
    found: list[Consumer] = []
    for weight, reads in sites.items():
        tensor = tensors[weight]
        known = {site.node: layout_of(site, tensor.shape) for _, site in reads}
        layouts = {node: layout for node, layout in known.items() if isinstance(layout, Layout)}
        refused = [layout for layout in known.values() if isinstance(layout, str)]
        elsewhere = [where(node) for node in _uses(network, weight) if node not in known]
        if elsewhere:
            refused = [f"its weight is used elsewhere too: {', '.join(dict.fromkeys(elsewhere))}"]
        elif not refused and len({layout.arrangement for layout in layouts.values()}) > 1:
            refused = [f"its weight is laid out in one way for {' and in another for '.join(map(where, layouts))}"]
        if refused:
            left[weight] = refused[0]
            continue
        arrangement = next(iter(layouts.values())).arrangement
        of_units: dict[str, Tensor] = {}
        for group, site in reads:
            axis = site.weight_axis or 0
            along = arrangement.along(site.units[: tensor.shape[axis]], axis, tensor.shape)
            of_units[group.name] = torch.maximum(of_units.get(group.name, along), along)
        constant = _constant_place(network, graph, layouts, weight)
        blocks = blocks_of(list(of_units.values()))
        found.append(Consumer(weight, tuple(layouts), of_units, arrangement, constant, blocks))
    order = {node: rank for rank, node in enumerate(graph.nodes)}
    found.sort(key=lambda consumer: min(order[node] for node in consumer.nodes))
    return found, left


def new_biases(network: Network, groups: Sequence[Group]) -> dict[str, list[str]]:
    """The weights that would be given a bias, with the groups that they read."""
    consumers, _ = consumers_of(network, groups)
    new = {consumer.weight for consumer in consumers if consumer.constant and consumer.constant.kind == "new"}
    return {
        weight: [group.name for group in groups if any(site.weight == weight for site in group.consumers)]
        for weight in new
    }


def _is_derived(network: Network, site: Site) -> bool:
    """Whether a node multiplies units by what is made of parameters, and is none itself."""
    live, operands = network.static.units.labels.live, operands_of(site.node)
    others = [arg for place, arg in operands.items() if place != site.position]
    return site.position in operands and all(arg not in live for arg in others)


def _uses(network: Network, weight: str) -> list[fx.Node]:
    """The nodes that compute with a parameter, as it is or with its axes in another order."""
    known = network.static.units.labels.weights
    mine = {node for node, (name, _) in known.items() if name == weight}
    return [node for node in network.static.graph.calls if node not in mine and mine & set(node.all_input_nodes)]


def _constant_place(network: Network, graph: Graph, layouts: Layouts, weight: str) -> Constant | None:
    """Where a constant on the output of these nodes can go: their bias, the batch norm behind, or a new bias."""
    places = {_place_at(network, node, layout) for node, layout in layouts.items()}
    place = places.pop() if len(places) == 1 else None
    if place is not None:
        uses = {user for node, name in graph.state.items() if name == place.name for user in node.users}
        readers = set(layouts) if place.kind == "add" else {user for node in layouts for user in node.users}
        return place if uses <= readers else None
    path, _, leaf = weight.rpartition(".")
    owner = network.module.get_submodule(path)
    plain = isinstance(owner, (nn.Linear, nn.modules.conv._ConvNd)) and owner.bias is None and leaf == "weight"
    if plain and type(owner).forward in (nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward):
        itself = all(_module_of(network, node) is owner for node in layouts)
        return Constant("new", f"{path}.bias" if path else "bias") if itself else None
    return None


def _module_of(network: Network, node: fx.Node) -> nn.Module | None:
    """The module whose forward a node stands in."""
    try:
        return network.module.get_submodule(module_path(node))
    except AttributeError:
        return None


def _place_at(network: Network, node: fx.Node, layout: Layout) -> Constant | None:
    state, tensors = network.static.graph.state, network.state()
    bias = bias_of(node)
    if bias is not None:
        there = bias in state and fits(layout, tensors[state[bias]])
        return Constant("add", state[bias]) if there else None
    users = list(node.users)
    centre = op_of(users[0]).centre if len(users) == 1 else None
    if centre is not None:
        mean = users[0].args[centre]
        if isinstance(mean, fx.Node) and mean in state and layout.channels(node.meta["val"].dim()) == 1:
            return Constant("subtract", state[mean])
    return None
