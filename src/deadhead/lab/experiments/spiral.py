"""Two spiral arms, learned by two hidden layers of 50: does it matter whether pruning or training comes first?"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deadhead.lab.distributions import density
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.experiments.spiral_claims import CLAIMS
from deadhead.lab.experiments.spiral_figures import PICTURES
from deadhead.lab.train import fit
from deadhead.progress import Progress, track

Net = Any
"""An `nn.Sequential` of linear, ReLU, linear, ReLU, linear, whose entries have no type that knows their weights."""
Keep = tuple[Tensor, Tensor]
"""Indices of the remaining units of both layers."""


@dataclass(frozen=True)
class Spiral:
    """Settings; the essay gives the widths and the share alone, and the others are choices.

    Args:
        width: units of each hidden layer.
        points: of each arm.
        turns: of each arm.
        noise: standard deviation of the points around their arm.
        epochs: passes over the points, also of fine-tuning.
        learning_rate: Adam's.
        batch_size: of training.
        removed: share of each layer that is removed.
        draws: random halves.
        grid: points along each side of [-1, 1]^2.
        film: epochs at which training is shown.
    """

    width: int = 50
    points: int = 500
    turns: float = 1.5
    noise: float = 0.02
    epochs: int = 200
    learning_rate: float = 0.01
    batch_size: int = 32
    removed: float = 0.5
    draws: int = 10
    grid: int = 200
    film: tuple[int, ...] = (1, 5, 20, 50)


QUICK = {"width": 20, "points": 100, "turns": 0.75, "epochs": 15, "draws": 3, "grid": 25, "film": (1, 5)}


@experiment("spiral", Spiral, claims=CLAIMS, pictures=PICTURES, quick=QUICK)
def spiral(settings: Spiral, seed: int, progress: Progress | None) -> dict[str, Any]:
    """Whether pruning before training and pruning after it give the same network, for random units and inactive ones.

    Three orders (train and prune; train, prune and fine-tune; prune and train), for a random half of each layer and
    for the half whose activations have the smallest standard deviation; removed units are replaced by their mean.

    Args:
        settings: see `Spiral`.
        seed: of start, data, order and random halves.
        progress: called after each training.

    Returns:
        Numbers that the claims are judged by, decision pictures and kernels.

    Source: "Train first vs prune first in neural networks", AI Alignment Forum.
    """
    s = settings
    x, y = arms(s, np.random.default_rng([seed, 1]))
    held, truth = arms(s, np.random.default_rng([seed, 2]))
    start = _start(s, seed)
    draw = torch.Generator().manual_seed(seed)
    count = s.width - round(s.removed * s.width)
    halves = [_random(s.width, count, draw) for _ in range(s.draws)]
    trained = _fitted(start, x, y, s, seed)
    deviations = [h.std(0) for h in hidden(trained, x)]
    active: Keep = (_largest(deviations[0], count), _largest(deviations[1], count))
    chance = halves[0]
    work = {
        "random, train, prune, fine-tune": (pruned(trained, chance, x), seed),
        "random, prune, train": (pruned(start, chance, x), seed),
        "random, prune, train again": (pruned(start, chance, x), seed + 1000),
        "inactive, prune, train": (pruned(start, active, x), seed),
    }
    nets = {"trained": trained, "random, train, prune": pruned(trained, chance, x)}
    for name, (net, order) in track(progress, "spiral", work.items()):
        nets[name] = _fitted(net, x, y, s, order)
    nets["inactive, train, prune"] = pruned(trained, active, x)
    box = _box(s.grid)
    shown = {name: _inside(net, box) for name, net in nets.items()}
    labels = {name: each > 0.5 for name, each in shown.items()}
    right = {name: accuracy(net, held, truth) for name, net in nets.items()}
    found = _scores(labels, right)
    found["wrong_share"] = float(
        np.median([((_inside(pruned(trained, each, x), box) > 0.5) != labels["trained"]).mean() for each in halves])
    )
    found["confidence"] = _confidence(trained, held)
    found |= _removable(s, trained, deviations, x, held, truth) | _constant_unit(trained, x)
    found |= _kernels(start, nets, chance, active, x)
    films = [_inside(_fitted(start, x, y, s, seed, epochs=each), box) for each in s.film]
    return found | {
        "accuracies": right,
        "pictures": {name: _coarse(each, s.grid) for name, each in shown.items() if "again" not in name},
        "film": [_coarse(each, s.grid) for each in films],
        "film_epochs": list(s.film),
        "points": [x[::4].numpy().round(3).tolist(), y[::4].tolist()],
    }


def arms(s: Spiral, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Points of two arms, (2 x points, 2), and which arm each belongs to."""
    t = draw.random((2, s.points))
    angle = 2 * np.pi * s.turns * t + np.array([[0], [np.pi]])
    x = 0.95 * t[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1) + s.noise * draw.normal(
        size=(2, s.points, 2)
    )
    inputs = torch.tensor(x.reshape(-1, 2), dtype=torch.float32)
    return inputs, torch.arange(2).repeat_interleave(s.points)


def hidden(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    """Activations of both hidden layers, (points, units) each."""
    with torch.no_grad():
        first = net[:2](x)
        return first, net[2:4](first)


def pruned(net: Net, keep: Keep, x: Tensor, *, adjust: bool = True) -> Net:
    """A smaller network in which removed units are replaced by their mean activation over x.

    Args:
        net: linear, ReLU, linear, ReLU, linear; it is left as it is.
        keep: indices of remaining units of both hidden layers.
        x: (points, 2).
        adjust: move the means into the biases of the next layer (default), or leave the units out.

    Source: "Train first vs prune first in neural networks", AI Alignment Forum, "What exactly is pruning".
    """
    net = copy.deepcopy(net)
    with torch.no_grad():
        for position, kept in zip((0, 2), keep, strict=True):
            producer, consumer = net[position], net[position + 2]
            mean = net[: position + 2](x).mean(0)
            gone = torch.ones(len(mean), dtype=torch.bool)
            gone[kept] = False
            if adjust:
                consumer.bias += consumer.weight[:, gone] @ mean[gone]
            producer.weight, producer.bias = nn.Parameter(producer.weight[kept]), nn.Parameter(producer.bias[kept])
            consumer.weight = nn.Parameter(consumer.weight[:, kept])
            producer.out_features = consumer.in_features = len(kept)
    return net


def accuracy(net: Net, x: Tensor, y: Tensor) -> float:
    """Share of points whose arm is found."""
    with torch.no_grad():
        return float((net(x).argmax(1) == y).double().mean())


def _start(s: Spiral, seed: int) -> Net:
    net: Net = nn.Sequential(
        nn.Linear(2, s.width), nn.ReLU(), nn.Linear(s.width, s.width), nn.ReLU(), nn.Linear(s.width, 2)
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in (net[0], net[2], net[4]):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            layer.bias.zero_()
    return net


def _fitted(net: Net, x: Tensor, y: Tensor, s: Spiral, seed: int, epochs: int | None = None) -> Net:
    net = copy.deepcopy(net)
    passes = s.epochs if epochs is None else epochs
    fit(net, x, y, epochs=passes, batch_size=s.batch_size, learning_rate=s.learning_rate, seed=seed)
    return net


def _random(width: int, count: int, draw: torch.Generator) -> Keep:
    first, second = (torch.randperm(width, generator=draw)[:count].sort().values for _ in range(2))
    return first, second


def _largest(values: Tensor, count: int) -> Tensor:
    return values.argsort(descending=True)[:count].sort().values


def _box(grid: int) -> Tensor:
    side = torch.linspace(-1, 1, grid)
    return torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2)


def _inside(net: Net, x: Tensor) -> Any:
    """Probability of the second arm, (points,)."""
    with torch.no_grad():
        return net(x).softmax(1)[:, 1].numpy()


def _coarse(values: Any, grid: int) -> list[list[float]]:
    step = max(1, grid // 80)
    found: list[list[float]] = values.reshape(grid, grid)[::step, ::step].astype(float).round(2).tolist()
    return found


def _confidence(net: Net, x: Tensor) -> float:
    with torch.no_grad():
        return float(net(x).softmax(1).amax(1).double().mean())


def _scores(labels: dict[str, Any], right: dict[str, float]) -> dict[str, Any]:
    """Accuracies and agreements of the orders."""

    def differ(first: str, second: str) -> float:
        return float((labels[first] != labels[second]).mean())

    orders = differ("random, train, prune", "random, prune, train")
    alike = 1 - differ("inactive, train, prune", "inactive, prune, train")
    return {
        "accuracy": right["trained"],
        "over_train_prune": right["random, prune, train"] - right["random, train, prune"],
        "over_fine_tuned": right["random, prune, train"] - right["random, train, prune, fine-tune"],
        "orders_less_two_runs": orders - differ("random, prune, train", "random, prune, train again"),
        "same_labels": 1 - differ("trained", "inactive, train, prune"),
        "accuracy_drop": right["trained"] - right["inactive, train, prune"],
        "inactive_agreement": alike,
        "agreement_over_random": alike - (1 - orders),
    }


def _removable(s: Spiral, net: Net, deviations: list[Tensor], x: Tensor, held: Tensor, truth: Tensor) -> dict[str, Any]:
    """The largest share of each layer whose removal, least active units first, costs at most 0.005 of accuracy."""
    intact, share = accuracy(net, held, truth), 0.0
    for removed in range(1, s.width):
        keep = _largest(deviations[0], s.width - removed), _largest(deviations[1], s.width - removed)
        if intact - accuracy(pruned(net, keep, x), held, truth) > 0.005:
            break
        share = removed / s.width
    return {"removable_share": share}


def _constant_unit(net: Net, x: Tensor) -> dict[str, Any]:
    """Change of the outputs by removing a planted constant unit, with and without its mean in the biases."""
    planted, points = copy.deepcopy(net).double(), x.double()
    with torch.no_grad():
        planted[0].weight[0], planted[0].bias[0] = 0.0, 0.7
        width = len(planted[0].bias)
        keep = torch.arange(1, width), torch.arange(width)
        adjusted, bare = (pruned(planted, keep, points, adjust=each)(points) for each in (True, False))
        before = planted(points)
    return {
        "constant_unit_change": float((adjusted - before).abs().max()),
        "bare_deletion_change": float((bare - before).abs().max()),
    }


def _kernels(start: Net, nets: dict[str, Net], chance: Keep, active: Keep, x: Tensor) -> dict[str, Any]:
    """What both orders did to the weights between the hidden layers that remain, and to their units."""
    found: dict[str, Any] = {}
    for name, (first, second) in (("random", chance), ("inactive", active)):
        before = start[2].weight.detach()[second][:, first]
        one, other = (nets[f"{name}, {order}"] for order in ("train, prune", "prune, train"))
        ends = [each[2].weight.detach() for each in (one, other)]
        moves = [(end - before).flatten().double().numpy() for end in ends]
        found[f"{name}_kernels"] = [end.flatten()[::2].numpy().astype(float).round(4).tolist() for end in ends]
        found[f"{name}_move_correlation"] = float(np.corrcoef(moves)[0, 1])
        found[f"{name}_never_moved"] = float(((moves[0] == 0) & (moves[1] == 0)).mean())
        found[f"{name}_unit_correlation"] = _unit_correlation(one, other, x)
    found["unit_correlation_over_random"] = found["inactive_unit_correlation"] - found["random_unit_correlation"]
    moved = (nets["trained"][2].weight - start[2].weight).detach().abs().flatten().double().numpy()
    peak, trough = _band(moved[moved > 0])
    return found | {"band": peak, "trough_to_peak": trough}


def _unit_correlation(one: Net, other: Net, x: Tensor) -> float:
    """Median over units of the correlation of their activations in two networks; a constant unit has none."""
    values = []
    for a, b in zip(hidden(one, x), hidden(other, x), strict=True):
        a, b = (a - a.mean(0)).double(), (b - b.mean(0)).double()
        norms = a.norm(dim=0) * b.norm(dim=0)
        values += [float(v) for v in torch.where(norms > 1e-9, (a * b).sum(0) / norms.clamp_min(1e-9), 0.0)]
    return float(np.median(values))


def _band(moves: Any) -> tuple[float, float]:
    """The highest peak of the moves beyond their first trough, and how deep the trough is; (0, 1) without one."""
    at = np.linspace(0, 1.5, 301)
    curve = density(moves, at, 0.03)
    inner = np.flatnonzero((curve[1:-1] > curve[:-2]) & (curve[1:-1] >= curve[2:])) + 1
    later = [i for i in inner if at[i] > 0.15]
    if not later:
        return 0.0, 1.0
    top = max(later, key=lambda i: curve[i])
    return float(at[top]), float(curve[:top].min() / curve[top])
