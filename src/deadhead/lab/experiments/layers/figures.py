"""Figures of the experiment `layers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deadhead.explore import draw_layers
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def as_graph(plain: Mapping[str, Any]) -> Any:
    """A layered graph from lists, as `plain_graph` makes them."""
    import networkx as nx

    graph, nodes = nx.DiGraph(layers=plain["layers"]), []
    for name, index, layer, kind, score, removed in plain["nodes"]:
        nodes.append((name, index))
        graph.add_node(nodes[-1], layer=layer, kind=kind, score=score, removed=removed)
    graph.add_weighted_edges_from((nodes[a], nodes[b], weight) for a, b, weight in plain["edges"])
    return graph


def spiral(whole: Figure, results: Results) -> None:
    """The spiral network, first seed."""
    draw_layers(as_graph(results[0]["spiral"]), onto=whole, most=50, label=results[0]["criterion"].upper())


def cnn(whole: Figure, results: Results) -> None:
    """The small CNN, first seed."""
    draw_layers(as_graph(results[0]["cnn"]), onto=whole, most=32, label=results[0]["criterion"].upper())


PICTURES = (
    Picture(
        "spiral",
        "The spiral network: half of each hidden layer removed, by the lowest saliency; 600 of 2500 weights are drawn.",
        (5, 4.4),
        spiral,
    ),
    Picture("cnn", "The small CNN on MNIST: half of each layer's channels and units removed.", (6, 4.4), cnn),
)
