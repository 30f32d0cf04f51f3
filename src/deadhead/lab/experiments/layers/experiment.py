"""Networks drawn as layered graphs: units as nodes, layers as columns, removed units and their edges crossed out."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deadhead.explore import layered_graph
from deadhead.graph.network import trace
from deadhead.lab.data import load
from deadhead.lab.experiments.layers.figures import PICTURES
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.experiments.spiral.networks import arms
from deadhead.lab.models import digits_cnn, small_cnn
from deadhead.lab.train import fit
from deadhead.progress import Progress, track
from deadhead.scores.score import score


@dataclass(frozen=True)
class Layers:
    """Settings; the web page draws made-up nodes, so that networks and score are choices.

    Args:
        criterion: what the units are scored by.
        removed: share of each layer with the lowest scores.
        width: units of each hidden layer of the spiral network.
        epochs: that it is trained.
        data: "mnist", for the small CNN, or "digits", for a smaller one.
        images: that the CNN is trained on, for one epoch.
        scored: images that its units are scored on.
    """

    criterion: str = "mrs"
    removed: float = 0.5
    width: int = 50
    epochs: int = 50
    data: str = "mnist"
    images: int = 5000
    scored: int = 500


QUICK = {"width": 6, "epochs": 2, "data": "digits", "images": 200, "scored": 50}
TAKEAWAY = (
    "Removing {spiral.removed_units:mean%} of the units of a network of linear layers leaves "
    "{spiral.edges_left:mean%} of its weights, and of the small CNN {cnn.edges_left:mean%} of the connections between "
    "its units: a weight remains only where both of its ends do."
)


@experiment("layers", Layers, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY)
def layers(settings: Layers, seed: int, progress: Progress | None) -> dict[str, Any]:
    """Two trained networks as layered graphs: the spiral network and the small CNN, a node for each unit, coloured by
    its saliency, with the half of each layer that has the lowest ones crossed out.

    Drawn by `deadhead.explore.layered_graph` and `draw_layers`, which take any network.

    Args:
        settings: see `Layers`.
        seed: of start, data and order.
        progress: called after each network.

    Returns:
        For each network its graph as plain lists, and the shares of units removed and of edges that remain.

    Source: "Pruning in Neural Networks: Purpose and Concept", the drawing of a layered network by networkx.
    """
    s = settings
    found = {}
    for name, make in track(progress, "layers", {"spiral": _spiral, "cnn": _cnn}.items()):
        net, x, y = make(s, seed)
        network = trace(net, x[:2])
        scores = score(network, [(x, y)], loss="cross_entropy", criterion=s.criterion)
        removed = {
            group: each.argsort(stable=True)[: round(s.removed * len(each))].tolist() for group, each in scores.items()
        }
        graph = layered_graph(network, scores, removed)
        found[name] = {**plain_graph(graph), **_shares(graph)}
    return found | {"criterion": s.criterion}


def plain_graph(graph: Any) -> dict[str, Any]:
    """A layered graph as lists: names of layers, (layer, index, kind, score, removed) of nodes, (from, to, weight)."""
    number = {node: i for i, node in enumerate(graph)}
    nodes = [
        [*node, facts["layer"], facts["kind"], _short(facts["score"]), facts["removed"]]
        for node, facts in graph.nodes(data=True)
    ]
    edges = [[number[a], number[b], _short(weight)] for a, b, weight in graph.edges(data="weight")]
    return {"layers": graph.graph["layers"], "nodes": nodes, "edges": edges}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _shares(graph: Any) -> dict[str, float]:
    gone = {node for node, removed in graph.nodes(data="removed") if removed}
    units = [node for node, kind in graph.nodes(data="kind") if kind not in ("input", "fixed")]
    left = [1 for a, b in graph.edges if a not in gone and b not in gone]
    return {"removed_units": len(gone) / len(units), "edges_left": len(left) / graph.number_of_edges()}


def _spiral(s: Layers, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    x, y = arms(300, 1.5, 0.02, np.random.default_rng([seed, 1]))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = nn.Sequential(
            OrderedDict(
                hidden1=nn.Linear(2, s.width),
                relu1=nn.ReLU(),
                hidden2=nn.Linear(s.width, s.width),
                relu2=nn.ReLU(),
                outputs=nn.Linear(s.width, 2),
            )
        )
    fit(net, x, y, epochs=s.epochs, batch_size=32, learning_rate=0.01, seed=seed)
    return net, x, y


def _cnn(s: Layers, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    split = load(s.data)
    net = small_cnn(seed=seed) if s.data == "mnist" else digits_cnn(seed=seed)
    x, y = split.train_inputs[: s.images], split.train_targets[: s.images]
    fit(net, x, y, epochs=1, batch_size=64, learning_rate=2e-3, seed=seed)
    return net, x[: s.scored], y[: s.scored]
