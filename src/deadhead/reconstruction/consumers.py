"""Consumers that can be compensated: which weights read units, in which layout, and where a constant can be added."""

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
    """Where a constant can be added to a consumer's output.

    Attributes:
        kind: "add" to a bias, "subtract" from a batch norm's running mean, or "new", a bias that there is not yet.
        name: the bias's or running mean's name.
    """

    kind: str
    name: str


@dataclass(frozen=True)
class Consumer:
    """One weight that reads units.

    Attributes:
        weight: its name.
        nodes: the nodes that use it.
        reads: {group: (columns,)}, the unit of each column of its matrix or -1; the same in each convolution group.
        arrangement: how its entries form matrices, (groups, outputs, columns).
        constant: where a constant can be added to its output; None where nowhere.
        blocks: the columns of each block where they are too many for one matrix of their products.
    """

    weight: str
    nodes: tuple[fx.Node, ...]
    reads: Mapping[str, Tensor]
    arrangement: Arrangement
    constant: Constant | None
    blocks: tuple[Tensor, ...] = ()

    @property
    def groups(self) -> int:
        """The number of matrices that its weight forms: 1 but for grouped convolutions."""
        return self.arrangement.groups

    @property
    def products(self) -> int:
        """The number of entries in its statistics: a product for each two columns of a block, a one among them."""
        sizes = [len(block) for block in self.blocks] or [self.arrangement.columns]
        return self.groups * sum((size + 1) ** 2 for size in sizes)

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as (groups, outputs, columns)."""
        return self.arrangement.matrix(weight)

    def units(self, name: str, weight: Tensor) -> Tensor:
        """The unit of group `name` that each column of the matrix belongs to, or -1: (columns,)."""
        return self.reads[name].to(weight.device)

    def removed_columns(self, weight: Tensor, removed: Mapping[str, Tensor]) -> Tensor:
        """Which columns of the matrix belong to the units `removed[group]`: (groups, columns), true where one does."""
        columns = torch.zeros(self.arrangement.columns, dtype=torch.bool, device=weight.device)
        for name in self.reads:
            if name in removed:
                columns |= torch.isin(self.units(name, weight), removed[name].to(weight.device))
        return columns[None].expand(self.groups, -1)

    def weight_of(self, matrix: Tensor, like: Tensor) -> Tensor:
        """A matrix, (groups, outputs, columns), as a weight in the shape of `like`: the inverse of `matrix`."""
        return self.arrangement.weight_of(matrix, like.shape)


def consumers_of(network: Network, groups: Sequence[Group]) -> tuple[list[Consumer], dict[str, str]]:
    """The weights that read the units of some groups, front to back, and why others cannot be compensated.

    Returns:
        The consumers that can be compensated; {weight or node: the reason} of the others.
    """
    graph = network.static.graph
    sites: dict[str, list[tuple[Group, Site]]] = {}
    refused: dict[str, str] = {}
    for group in groups:
        for site in group.consumers:
            if site.weight is not None and site.weight_axis is not None:
                sites.setdefault(site.weight, []).append((group, site))
            elif _is_derived(network, site):
                refused[where(site.node)] = "its weight is computed from other parameters"
    tensors = network.state()
    consumers: list[Consumer] = []
    for weight, reads in sites.items():
        layouts = _layouts_of(network, weight, tensors[weight], [site for _, site in reads])
        if isinstance(layouts, str):
            refused[weight] = layouts
        else:
            consumers.append(_consumer(network, weight, tensors[weight], reads, layouts))
    order = {node: rank for rank, node in enumerate(graph.nodes)}
    consumers.sort(key=lambda consumer: min(order[node] for node in consumer.nodes))
    return consumers, refused


def _layouts_of(network: Network, weight: str, tensor: Tensor, sites: Sequence[Site]) -> Layouts | str:
    """How each node that uses a weight lays it out, or why the weight cannot be compensated."""
    known = {site.node: layout_of(site, tensor.shape) for site in sites}
    elsewhere = [where(node) for node in _uses(network, weight) if node not in known]
    if elsewhere:
        return f"its weight is used elsewhere too: {', '.join(dict.fromkeys(elsewhere))}"
    layouts: dict[fx.Node, Layout] = {}
    for node, layout in known.items():
        if isinstance(layout, str):
            return layout
        layouts[node] = layout
    if len({layout.arrangement for layout in layouts.values()}) > 1:
        return f"its weight is laid out in one way for {' and in another for '.join(map(where, layouts))}"
    return layouts


def _consumer(
    network: Network, weight: str, tensor: Tensor, reads: Sequence[tuple[Group, Site]], layouts: Layouts
) -> Consumer:
    """The consumer that a weight is, from the groups and sites that it reads."""
    arrangement = next(iter(layouts.values())).arrangement
    units: dict[str, Tensor] = {}
    for group, site in reads:
        axis = site.weight_axis or 0
        along = arrangement.along(site.units[: tensor.shape[axis]], axis, tensor.shape)
        units[group.name] = torch.maximum(units.get(group.name, along), along)
    constant = _constant_place(network, network.static.graph, layouts, weight)
    return Consumer(weight, tuple(layouts), units, arrangement, constant, blocks_of(list(units.values())))


def new_biases(network: Network, groups: Sequence[Group]) -> dict[str, list[str]]:
    """The weights that compensation would give a new bias, each with the names of the groups that it reads."""
    consumers, _ = consumers_of(network, groups)
    new = {consumer.weight for consumer in consumers if consumer.constant and consumer.constant.kind == "new"}
    return {
        weight: [group.name for group in groups if any(site.weight == weight for site in group.consumers)]
        for weight in new
    }


def _is_derived(network: Network, site: Site) -> bool:
    """Whether a node multiplies units by a tensor computed from parameters, and not by a parameter itself."""
    live, operands = network.static.units.labels.live, operands_of(site.node)
    others = [arg for place, arg in operands.items() if place != site.position]
    return site.position in operands and all(arg not in live for arg in others)


def _uses(network: Network, weight: str) -> list[fx.Node]:
    """The nodes that use a parameter, as it is or with its axes in another order."""
    known = network.static.units.labels.weights
    mine = {node for node, (name, _) in known.items() if name == weight}
    return [node for node in network.static.graph.calls if node not in mine and mine & set(node.all_input_nodes)]


def _constant_place(network: Network, graph: Graph, layouts: Layouts, weight: str) -> Constant | None:
    """Where a constant on the output of these nodes can be added: their bias, the batch norm behind, a new bias."""
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
    """The module whose forward makes a node."""
    try:
        return network.module.get_submodule(module_path(node))
    except AttributeError:
        return None


def _place_at(network: Network, node: fx.Node, layout: Layout) -> Constant | None:
    """The bias of one node, or the running mean of the batch norm behind it, where a constant can be added to it."""
    state, tensors = network.static.graph.state, network.state()
    bias = bias_of(node)
    if bias is not None:
        usable = bias in state and fits(layout, tensors[state[bias]])
        return Constant("add", state[bias]) if usable else None
    users = list(node.users)
    centre = op_of(users[0]).centre if len(users) == 1 else None
    if centre is not None:
        mean = users[0].args[centre]
        if isinstance(mean, fx.Node) and mean in state and layout.channels(node.meta["val"].dim()) == 1:
            return Constant("subtract", state[mean])
    return None
