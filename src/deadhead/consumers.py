"""Consumers that can be compensated: which weights read units, in which layout, and where a constant can go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from deadhead.graph.graph import Graph
from deadhead.graph.network import Network
from deadhead.graph.ops.registry import argument, op_name
from deadhead.graph.units import Group, Site


@dataclass(frozen=True)
class Constant:
    """Where a constant can be added to what a consumer gives: `add` to a bias, `subtract` from a batch norm's running
    mean, or a bias that is `new`."""

    kind: str
    name: str


@dataclass(frozen=True)
class Consumer:
    """One weight that reads units: the nodes it is used at, its layout, and where its constant goes. `reads` has, for
    each group that it reads, the unit of each entry along the weight's axis, or -1."""

    weight: str
    nodes: tuple[fx.Node, ...]
    reads: Mapping[str, Tensor]
    transposed: bool
    groups: int
    constant: Constant | None

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as (groups, outputs, columns)."""
        weight = weight.T if self.transposed else weight
        return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)

    def units(self, name: str, weight: Tensor) -> Tensor:
        """The unit of a group that each column of the matrix belongs to, or -1, shape (columns,)."""
        taps = 1 if weight.dim() == 2 else weight[0, 0].numel()
        return self.reads[name].repeat_interleave(taps).to(weight.device)

    def dead_columns(self, weight: Tensor, removed: Mapping[str, Tensor]) -> Tensor:
        """Which columns of the matrix go with `removed[group]`, shape (groups, columns)."""
        dead = torch.zeros(self.matrix(weight).shape[-1], dtype=torch.bool, device=weight.device)
        for name in self.reads:
            if name in removed:
                dead |= torch.isin(self.units(name, weight), removed[name].to(weight.device))
        return dead[None].expand(self.groups, -1)

    def weight_of(self, matrix: Tensor, like: Tensor) -> Tensor:
        """The weight that such a matrix stands for."""
        return matrix.reshape(like.shape[::-1]).T.contiguous() if self.transposed else matrix.reshape(like.shape)


def consumers_of(network: Network, groups: Sequence[Group]) -> tuple[list[Consumer], dict[str, str]]:
    """The weights that read the units of some groups, front to back, and why others cannot be compensated."""
    graph = network.static.graph
    sites: dict[str, list[tuple[Group, Site]]] = {}
    for group in groups:
        for site in group.consumers:
            if site.weight is not None and site.weight_axis is not None:
                sites.setdefault(site.weight, []).append((group, site))
    tensors = network.state()
    holders = {id(tensors[name]): node for node, name in graph.state.items()}
    found: list[Consumer] = []
    left: dict[str, str] = {}
    for weight, reads in sites.items():
        tensor = tensors[weight]
        nodes = tuple(dict.fromkeys(site.node for _, site in reads))
        users = {user for node, name in graph.state.items() if tensors[name] is tensor for user in node.users}
        if holders.get(id(tensor)) is None or not users <= set(nodes):
            left[weight] = "its weight is used elsewhere too"
            continue
        axis = reads[0][1].weight_axis
        assert axis is not None
        of_units: dict[str, Tensor] = {}
        for group, site in reads:
            along = site.units[: tensor.shape[axis]]
            of_units[group.name] = torch.maximum(of_units.get(group.name, along), along)
        names = {op_name(node) for node in nodes}
        if not names <= {"linear", "addmm", "mm", "matmul", "conv1d", "conv2d", "conv3d"}:
            left[weight] = f"{', '.join(sorted(names))} cannot be compensated yet"
            continue
        if any(site.position != (op_name(site.node) == "addmm") for _, site in reads):
            left[weight] = "it multiplies from the left, which cannot be compensated yet"
            continue
        groups_of = {argument(node, 6, "groups", 1) if "conv" in op_name(node) else 1 for node in nodes}
        transposed = tensor.dim() == 2 and axis == 0
        flat = not any("conv" in name for name in names)
        if len(groups_of) > 1 or (axis != 1 and not transposed) or (flat and tensor.dim() != 2):
            left[weight] = "its uses differ"
            continue
        constant = _constant_place(network, graph, nodes, weight)
        found.append(Consumer(weight, nodes, of_units, transposed, groups_of.pop(), constant))
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


def _constant_place(network: Network, graph: Graph, nodes: tuple[fx.Node, ...], weight: str) -> Constant | None:
    """Where a constant on the output of these nodes can go: their bias, the batch norm behind, or a new bias."""
    places = {_place_at(graph, node) for node in nodes}
    place = places.pop() if len(places) == 1 else None
    if place is not None:
        uses = {user for node, name in graph.state.items() if name == place.name for user in node.users}
        readers = set(nodes) if place.kind == "add" else {user for node in nodes for user in node.users}
        return place if uses <= readers else None
    path, _, leaf = weight.rpartition(".")
    owner = network.module.get_submodule(path)
    plain = isinstance(owner, (nn.Linear, nn.modules.conv._ConvNd)) and owner.bias is None and leaf == "weight"
    if plain and type(owner).forward in (nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward):
        return Constant("new", f"{path}.bias" if path else "bias")
    return None


def _place_at(graph: Graph, node: fx.Node) -> Constant | None:
    name = op_name(node)
    place = 0 if name == "addmm" else 2
    bias = node.args[place] if len(node.args) > place and name not in ("mm", "matmul") else node.kwargs.get("bias")
    if isinstance(bias, fx.Node):
        return Constant("add", graph.state[bias]) if bias in graph.state else None
    users = list(node.users)
    if len(users) == 1 and op_name(users[0]) in ("batch_norm", "_native_batch_norm_legit_no_training"):
        mean = users[0].args[3]
        if isinstance(mean, fx.Node) and mean in graph.state:
            return Constant("subtract", graph.state[mean])
    return None
