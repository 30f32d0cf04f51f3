"""The picture of a layered graph: layers as columns, units coloured by their score, removed ones crossed out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from deadhead.drawing import FAINT, INK, REMOVED, canvas, plain
from deadhead.errors import DataError

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 32
"""How many units of a layer are shown."""
EDGES = 600
"""How many edges between two layers are shown, the strongest ones."""


def draw_layers(
    graph: nx.DiGraph,
    path: str | os.PathLike[str] | None = None,
    *,
    most: int = MOST,
    label: str = "score",
    onto: Figure | None = None,
) -> Figure:
    """Draw a layered graph: layers as columns, units coloured by their score relative to the largest of their layer,
    removed units and their edges crossed out and dashed, edges the darker the larger their weight.

    Args:
        graph: as `layered_graph` gives it.
        path: a file to write, in the format of its ending; None (default) writes none.
        most: how many units of a layer are shown, evenly chosen; the column says how many there are.
        label: what the scores are.
        onto: a figure to draw on (default: a new one).

    Returns:
        A Matplotlib figure that belongs to no window.

    Raises:
        DataError: where fewer than one unit shall be shown.

    Example:
        >>> import torch, deadhead as dh
        >>> from deadhead.explore import layered_graph
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> figure = draw_layers(layered_graph(dh.trace(model, torch.zeros(1, 2)), removed={"0": [1]}))
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['inputs\\n2', '0\\n2 of 3', '2\\n1']
    """
    if most < 1:
        raise DataError(f"most={most} would show no unit; give at least 1.")
    if onto is not None:
        _drawn(onto, graph, most, label)
        return onto
    with canvas(max(4.0, 1.4 * len(graph.graph["layers"])), 4.5) as whole:
        _drawn(whole, graph, most, label)
        if path is not None:
            whole.savefig(path, dpi=150)
    return whole


def _drawn(whole: Figure, graph: nx.DiGraph, most: int, label: str) -> None:
    axes = whole.subplots()
    layers = graph.graph["layers"]
    columns: list[list[Any]] = [[] for _ in layers]
    for node, facts in graph.nodes(data=True):
        columns[facts["layer"]].append(node)
    at = {node: place for layer, column in enumerate(columns) for node, place in _places(column, layer, most).items()}
    _draw_edges(axes, graph, at)
    colored = _draw_nodes(axes, graph, columns, at)
    for layer, (name, column) in enumerate(zip(layers, columns, strict=True)):
        kept = sum(not graph.nodes[node]["removed"] for node in column)
        count = f"{kept} of {len(column)}" if kept < len(column) else str(len(column))
        shown = f", {most} shown" if len(column) > most else ""
        axes.text(layer, 1.06, f"{plain(name, 14)}\n{count}{shown}", ha="center", va="bottom", fontsize=7)
    axes.set(xlim=(-0.5, len(layers) - 0.5), ylim=(-1.08, 1.3))
    axes.set_axis_off()
    if colored is not None:
        bar = whole.colorbar(colored, ax=axes, shrink=0.6)
        bar.set_label(f"{label} / largest of the layer", fontsize=7)
        bar.ax.tick_params(labelsize=7)
    if any(facts["removed"] for _, facts in graph.nodes(data=True)):
        axes.scatter([], [], marker="x", color=REMOVED, label="removed")
        axes.legend(frameon=False, fontsize=7, loc="lower right")


def _places(column: list[Any], layer: int, most: int) -> dict[Any, tuple[float, float]]:
    """Where the shown units of a column stand, the first at the top."""
    count = min(len(column), most)
    chosen = [column[(2 * i + 1) * len(column) // (2 * count)] for i in range(count)]
    height = min(1.0, 0.12 * count)
    return {node: (layer, height * (1 - 2 * (i + 0.5) / count) if count > 1 else 0.0) for i, node in enumerate(chosen)}


def _draw_edges(axes: Axes, graph: nx.DiGraph, at: dict[Any, tuple[float, float]]) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    between: dict[tuple[int, int], list[tuple[float, Any, Any]]] = {}
    for one, other, weight in graph.edges(data="weight"):
        if one in at and other in at:
            pair = graph.nodes[one]["layer"], graph.nodes[other]["layer"]
            between.setdefault(pair, []).append((weight, one, other))
    for edges in between.values():
        edges = sorted(edges, key=lambda edge: edge[0])[-EDGES:]
        largest = max(edges[-1][0], 1e-30)
        for dashed in (True, False):
            chosen = [edge for edge in edges if dashed == any(graph.nodes[node]["removed"] for node in edge[1:])]
            lines = [(at[one], at[other]) for _, one, other in chosen]
            colors = [
                to_rgba(REMOVED, 0.2) if dashed else to_rgba(INK, 0.03 + 0.67 * (weight / largest) ** 2)
                for weight, _, _ in chosen
            ]
            style: Any = (0, (1, 3)) if dashed else "solid"
            axes.add_collection(LineCollection(lines, colors=colors, linewidths=0.5, linestyles=style, zorder=1))


def _draw_nodes(axes: Axes, graph: nx.DiGraph, columns: list[list[Any]], at: dict[Any, tuple[float, float]]) -> Any:
    """Draw the units; returns what a colour bar is made of, or None where there are no scores."""
    scores: dict[Any, float] = {}
    for column in columns:
        own = {node: graph.nodes[node]["score"] for node in column if graph.nodes[node]["score"] is not None}
        largest = max([abs(score) for score in own.values()], default=0.0) or 1.0
        scores |= {node: score / largest for node, score in own.items()}
    bare = [node for node in at if node not in scores and not graph.nodes[node]["removed"]]
    axes.scatter(*_across(bare, at), s=22, color=FAINT, zorder=2, linewidths=0)
    gone = [node for node in at if graph.nodes[node]["removed"]]
    known = [node for node in at if node in scores]
    colored = None
    if known:
        lowest = min(0.0, *(scores[node] for node in known))
        colored = axes.scatter(
            *_across(known, at), s=26, c=[scores[node] for node in known], cmap="viridis_r", vmin=lowest, vmax=1.0,
            zorder=2, edgecolors=INK, linewidths=0.3,
        )  # fmt: skip
    axes.scatter(*_across(gone, at), s=30, marker="x", color=REMOVED, zorder=3, linewidths=1.2)
    return colored


def _across(nodes: list[Any], at: dict[Any, tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [at[node][0] for node in nodes], [at[node][1] for node in nodes]
