"""A network as a layered graph: units as nodes, layers as columns, weights as edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from deadhead.errors import DataError
from deadhead.graph.catalogue import op_of
from deadhead.graph.network import Network
from deadhead.graph.nodes import where
from deadhead.graph.units.labels import Contact
from deadhead.select.plan import Plan

if TYPE_CHECKING:
    import networkx as nx

INPUTS = "inputs"


@dataclass
class _Column:
    """A layer: the labels of its units, in order."""

    name: str
    kind: str
    roots: list[int] = field(default_factory=list)


def layered_graph(
    network: Network,
    scores: Mapping[str, Tensor] | None = None,
    removed: Plan | Mapping[str, Any] | None = None,
) -> nx.DiGraph:
    """The layered graph of a network: a node for each unit, a column for each layer, an edge for each weight.

    A node is (layer, index); units that can only be removed together, such as the channels of a residual stream, are
    one layer. Its attributes: `layer`, the number of its column from 0; `kind`: "input", "unit" (or "channel", "head",
    ...), or "fixed" for what cannot be pruned, outputs among it; `score`, or None; `removed`. An edge's `weight` is the
    Euclidean norm of the weights from one unit to the other. Layers are those of products with one matrix and of
    convolutions; what multiplies activations with each other (attention) gives no edges.

    Args:
        network: `dh.trace(model, inputs)`.
        scores: {group: (K,)} as `dh.score` gives them (default: none).
        removed: a plan, or {group: indices of its units} (default: none is).

    Returns:
        A `networkx.DiGraph`, whose `graph["layers"]` are the names of the columns.

    Raises:
        DataError: for groups or units that do not exist.

    Source: "Pruning in Neural Networks: Purpose and Concept", the drawing of a layered network by networkx.

    Example:
        >>> import deadhead as dh
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> graph = layered_graph(dh.trace(model, torch.zeros(1, 2)), removed={"0": [1]})
        >>> graph.graph["layers"], graph.number_of_nodes(), graph.number_of_edges()
        (['inputs', '0', '2'], 6, 9)
        >>> graph.nodes["0", 1]["removed"]
        True
    """
    import networkx as nx

    _check(network, scores or {}, _indices(removed))
    columns, edges = _columns_and_edges(network)
    facts = _facts(network, scores or {}, _indices(removed))
    graph = nx.DiGraph(layers=[column.name for column in columns])
    nodes: dict[int, tuple[str, int]] = {}
    for layer, column in enumerate(columns):
        for index, root in enumerate(column.roots):
            nodes[root] = (column.name, index)
            own = {"score": None, "removed": False, **facts.get(root, {})}
            graph.add_node(nodes[root], layer=layer, kind=column.kind, **own)
    for (source, target), weight in edges.items():
        if source in nodes and target in nodes:
            graph.add_edge(nodes[source], nodes[target], weight=weight)
    return graph


def _indices(removed: Plan | Mapping[str, Any] | None) -> dict[str, list[int]]:
    given = removed.removed if isinstance(removed, Plan) else removed or {}
    return {name: [int(unit) for unit in units] for name, units in given.items()}


def _check(network: Network, scores: Mapping[str, Tensor], removed: Mapping[str, Sequence[int]]) -> None:
    sizes = {group.name: group.size for group in network.groups}
    for name in (*scores, *removed):
        if name not in sizes:
            raise DataError(f"There is no group {name!r} to draw; the groups are {', '.join(sizes)}.")
    for name, values in scores.items():
        if len(values) != sizes[name]:
            raise DataError(f"The group {name} has {sizes[name]} units, and {len(values)} scores: give one for each.")
    for name, units in removed.items():
        if units and not 0 <= min(units) <= max(units) < sizes[name]:
            raise DataError(f"The group {name} has units 0 to {sizes[name] - 1}; {sorted(units)} has others.")


def _facts(
    network: Network, scores: Mapping[str, Tensor], removed: Mapping[str, Sequence[int]]
) -> dict[int, dict[str, Any]]:
    """Score and removal of each unit, by its label."""
    found: dict[int, dict[str, Any]] = {}
    for name, roots in network.static.units.roots.items():
        gone = set(removed.get(name, ()))
        for unit, root in enumerate(roots.tolist()):
            found[root] = {"removed": unit in gone}
            if name in scores:
                found[root]["score"] = float(scores[name][unit])
    return found


def _columns_and_edges(network: Network) -> tuple[list[_Column], dict[tuple[int, int], float]]:
    """Columns in forward order, and the norms of weights between labels."""
    labels = network.static.units.labels
    kinds = {root: group.kind for group in network.groups for root in network.static.units.roots[group.name].tolist()}
    names = {root: group.name for group in network.groups for root in network.static.units.roots[group.name].tolist()}
    inputs, columns, made_by = _Column(INPUTS, "input"), list[_Column](), dict[int, _Column]()
    squares: dict[tuple[int, int], float] = {}
    layer_of: dict[fx.Node, _Column] = {}
    for contact in _weighted(network):
        roots = [int(root) for root in labels.find(contact.labels).ravel()]
        column = next((made_by[root] for root in roots if root in made_by), None)
        if column is None:
            name = names.get(roots[0]) or (contact.weight or "").rpartition(".")[0] or where(contact.node)
            column = _Column(name, kinds.get(roots[0], "fixed"))
            columns.append(column)
        column.roots += [root for root in dict.fromkeys(roots) if root not in made_by]
        made_by.update(dict.fromkeys(roots, column))
        layer_of[contact.node] = column
        sources = _sources(network, contact, made_by, layer_of, inputs)
        for pair, square in _squares(network, contact, roots, sources).items():
            squares[pair] = squares.get(pair, 0.0) + square
    weights = {(a, b): value**0.5 for (a, b), value in squares.items() if a != b}
    return [inputs, *columns] if inputs.roots else columns, weights


def _weighted(network: Network) -> list[Contact]:
    """Where a matrix or the kernel of a convolution makes units, in forward order."""
    order = {node: rank for rank, node in enumerate(network.static.graph.nodes)}
    found = [
        contact
        for contact in network.static.units.labels.producers
        if contact.weight and contact.weight_axis in (0, 1) and contact.labels.ndim == 1 and contact.node in order
        and (op_of(contact.node).matrix or op_of(contact.node).family == "convolution")
    ]  # fmt: skip
    return sorted(found, key=lambda contact: order[contact.node])


def _sources(
    network: Network,
    contact: Contact,
    made_by: Mapping[int, _Column],
    layer_of: Mapping[fx.Node, _Column],
    inputs: _Column,
) -> list[int]:
    """The label of each entry along the axis of a weight that is contracted: that of the unit which is read there.

    Where labels do not lead on (inputs, and behind a normalisation), the layers before it in the graph do.
    """
    labels, axis = network.static.units.labels, 1 - (contact.weight_axis or 0)
    node = next(each for each, name in network.static.graph.state.items() if name == contact.weight)
    block = labels.values[node].block_of(axis)
    roots = [int(root) for root in labels.find(block.labels).ravel()] if block is not None else []
    if any(root in made_by for root in roots):
        return roots
    size = network.state()[str(contact.weight)].shape[axis]
    before = _layers_before(contact.node, layer_of)
    fitting = [column for column in before if size % len(column.roots) == 0]
    if fitting:
        each = size // len(fitting[0].roots)
        return [fitting[0].roots[i // each] for i in range(size)]
    if before:
        return [-1] * size  # of no unit
    inputs.roots += [-2 - i for i in range(len(inputs.roots), size)]
    return inputs.roots[:size]


def _layers_before(node: fx.Node, layer_of: Mapping[fx.Node, _Column]) -> list[_Column]:
    """The nearest layers that a node depends on."""
    waiting, seen, found = list(node.all_input_nodes), set[fx.Node](), list[_Column]()
    while waiting:
        each = waiting.pop()
        if each in layer_of:
            found.append(layer_of[each])
        elif each not in seen:
            seen.add(each)
            waiting += each.all_input_nodes
    return found


def _squares(
    network: Network, contact: Contact, targets: Sequence[int], sources: Sequence[int]
) -> dict[tuple[int, int], float]:
    """The squared norm of the weights between each two units of one layer and the next."""
    weight = network.state()[str(contact.weight)].detach()
    out = contact.weight_axis or 0
    blocks = weight.double().cpu().movedim((out, 1 - out), (0, 1)).reshape(len(targets), len(sources), -1)
    to, at = list(dict.fromkeys(targets)), list(dict.fromkeys(sources))
    rows, columns = (
        torch.tensor([{root: i for i, root in enumerate(unique)}[root] for root in roots])
        for unique, roots in ((to, targets), (at, sources))
    )
    summed = torch.zeros(len(to), len(at), dtype=torch.float64)
    summed.index_put_((rows[:, None], columns[None]), blocks.square().sum(2), accumulate=True)
    values = summed.tolist()
    return {(source, target): values[i][j] for i, target in enumerate(to) for j, source in enumerate(at)}
