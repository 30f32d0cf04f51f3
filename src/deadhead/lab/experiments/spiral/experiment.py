"""Two spiral arms, learned by two hidden layers of 50: does it matter whether pruning or training comes first?"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deadhead.graph.network import Network, trace
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.experiments.spiral.claims import CLAIMS, TAKEAWAY
from deadhead.lab.experiments.spiral.figures import FRAMES, PICTURES
from deadhead.lab.experiments.spiral.moves import kernels, one_gradient_move
from deadhead.lab.experiments.spiral.networks import (
    Keep,
    Net,
    box,
    most_active,
    pruned,
    random_units,
    second_arm,
    start,
)
from deadhead.lab.experiments.spiral.trial import Spiral, Trial
from deadhead.progress import Progress
from deadhead.pruning.prune import prune

BARE = ", units left out"
"""After the name of an order in which no bias makes up for removed units."""
UNSHOWN = ("random, prune, train again", "inactive, train, prune, refit")
"""Orders without a decision picture."""
ESSAY_RATE = 0.1
"""The learning rate at which Adam makes the essay's band at 0.59: six times the rate."""


QUICK = {"width": 20, "points": 100, "turns": 0.75, "epochs": 15, "draws": 3, "shares": [0.5], "grid": 25}
FEWER: dict[str, Any] = {"shares": [0.5]}
"""A variant compares no ways of pruning."""
VARIANTS: dict[str, dict[str, Any]] = {
    "whole batches": {"batch_size": 1000, "epochs": 2000, **FEWER},
    "twice the rate": {"learning_rate": 0.02, **FEWER},
    "ten times the rate": {"learning_rate": ESSAY_RATE, "batch_size": 1000, **FEWER},
    "ten times the rate, half the turns": {"learning_rate": ESSAY_RATE, "batch_size": 1000, "turns": 0.75, **FEWER},
}


@experiment("spiral", Spiral, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY, variants=VARIANTS)
def spiral(settings: Spiral, seed: int, progress: Progress | None) -> dict[str, Any]:
    """Whether pruning before training and pruning after it give the same network, for random units and inactive ones.

    Three orders (train and prune; train, prune and fine-tune; prune and train), for a random half of each layer and
    for the half whose activations have the smallest standard deviation; removed units are replaced by their mean, or
    left out. Beside them, the half that the optimal brain surgeon chooses, the others refitted by least squares. The
    learning rate of 0.01 is a choice; the essay's own number of 0.59 fits 0.1, whose kernels and decisions are shown
    beside.

    Args:
        settings: see `Spiral`.
        seed: of start, data, order and random halves.
        progress: called after every step of each training.

    Returns:
        Numbers that the claims are judged by, decision pictures and kernels.

    Source: "Train first vs prune first in neural networks", AI Alignment Forum.
    """
    trial, before = Trial.of(settings, seed, progress), start(settings.width, seed)
    draw = torch.Generator().manual_seed(seed)
    count = settings.width - round(settings.removed * settings.width)
    chances = [random_units(settings.width, count, draw) for _ in range(settings.draws)]
    film: list[list[list[int]]] = []
    moments = _moments(settings)
    trained = trial.fitted(before, seed, lambda net, step: film.append(_shades(net, 28)) if step in moments else None)
    halves = {"random": chances[0], "inactive": most_active(trained, trial.x, count)}
    nets, curves = _orders(trial, before, trained, halves)
    found = _ways(trial, trained, nets)
    found |= _scores(trial, nets) | _removable(trial, trained, chances) | _constant_unit(trained, trial.x)
    found |= kernels(before, nets, halves, trial.x)
    found["unit_correlation_over_random"] = found["inactive_unit_correlation"] - found["random_unit_correlation"]
    return found | {
        "one_gradient_move": one_gradient_move(settings.learning_rate),
        "curves": curves,
        "pictures": {name: _shades(net, 42) for name, net in nets.items() if name not in UNSHOWN},
        "film": [_shades(before, 28), *film],
        "film_steps": [0, *moments],
        "points": [trial.x[::4].numpy().round(3).tolist(), trial.y[::4].tolist()],
        "essay": _at_the_essays_rate(trial, before, halves["random"]),
    }


def _orders(
    trial: Trial, before: Net, trained: Net, halves: dict[str, Keep]
) -> tuple[dict[str, Net], dict[str, list[float]]]:
    """The networks of every order, and the accuracies of those of random halves as they train."""
    nets, work = {"trained": trained}, {}
    for kind, keep in halves.items():
        for adjust, ending in ((True, ""), (False, BARE)):
            nets[f"{kind}, train, prune{ending}"] = pruned(trained, keep, trial.x, adjust=adjust)
            if kind == "random":
                work[f"{kind}, train, prune, fine-tune{ending}"] = nets[f"{kind}, train, prune{ending}"]
            work[f"{kind}, prune, train{ending}"] = pruned(before, keep, trial.x, adjust=adjust)
    curves: dict[str, list[float]] = {}
    nets |= trial.together(work, curves)
    nets["random, prune, train again"] = trial.fitted(work["random, prune, train"], trial.seed + 1000)
    return nets, {name: curve for name, curve in curves.items() if name.startswith("random") and BARE not in name}


def _scores(trial: Trial, nets: dict[str, Net]) -> dict[str, Any]:
    """Accuracies and agreements of the orders."""
    labels = {name: trial.labels(net) for name, net in nets.items()}
    right = {name: trial.accuracy(net) for name, net in nets.items()}

    def differ(first: str, second: str) -> float:
        return float((labels[first] != labels[second]).mean())

    orders = differ("random, train, prune", "random, prune, train")
    alike = 1 - differ("inactive, train, prune", "inactive, prune, train")
    with torch.no_grad():
        confidence = float(nets["trained"](trial.held).softmax(1).amax(1).double().mean())
    return {
        "accuracies": right,
        "accuracy": right["trained"],
        "confidence": confidence,
        "over_train_prune": right["random, prune, train"] - right["random, train, prune"],
        "over_fine_tuned": right["random, prune, train"] - right["random, train, prune, fine-tune"],
        "orders_less_two_runs": orders - differ("random, prune, train", "random, prune, train again"),
        "same_labels": 1 - differ("trained", "inactive, train, prune"),
        "accuracy_drop": right["trained"] - right["inactive, train, prune"],
        "inactive_agreement": alike,
        "agreement_over_random": alike - (1 - orders),
    }


def _removable(trial: Trial, net: Net, chances: list[Keep]) -> dict[str, Any]:
    """What random halves break, and the largest share of each layer, least active units first, that costs 0.005."""
    labels, intact, share = trial.labels(net), trial.accuracy(net), 0.0
    wrong = [float((trial.labels(pruned(net, each, trial.x)) != labels).mean()) for each in chances]
    width = trial.settings.width
    for removed in range(1, width):
        if intact - trial.accuracy(pruned(net, most_active(net, trial.x, width - removed), trial.x)) > 0.005:
            break
        share = removed / width
    return {"wrong_share": float(np.median(wrong)), "removable_share": share}


def _ways(trial: Trial, net: Net, nets: dict[str, Net]) -> dict[str, Any]:
    """Held-out accuracies where some of each layer is removed from the trained network in one step, in three ways."""
    network: Network = trace(net, (trial.x[:2],))
    data, s = [(trial.x, trial.y)], trial.settings

    def refitted(share: float, criterion: str) -> Net:
        units = s.width - round(share * s.width)
        how: dict[str, Any] = {"loss": "cross_entropy", "compensate": "least_squares", "curve": 0}
        return prune(network, data, units=units, criterion=criterion, **how).model

    ways: dict[str, list[float]] = {"inactive, means": [], "inactive, least squares": [], "obs, least squares": []}
    shares = sorted({*s.shares, s.removed})
    for share in shares:
        keep = most_active(net, trial.x, s.width - round(share * s.width))
        found = pruned(net, keep, trial.x), refitted(share, "activation_std"), refitted(share, "obs")
        if share == s.removed:
            nets["inactive, train, prune, refit"], nets["obs, train, prune, refit"] = found[1:]
        for name, each in zip(ways, found, strict=True):
            ways[name].append(trial.accuracy(each))
    intact = trial.accuracy(net)
    free = {name: [intact - each <= 0.005 for each in right] for name, right in ways.items()}
    removable = {name: max([0.0, *shares[: (*each, False).index(False)]]) for name, each in free.items()}
    return {"ways": ways, "shares": shares, "removable_by": removable}


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


def _at_the_essays_rate(trial: Trial, before: Net, chance: Keep) -> dict[str, Any]:
    """Kernels, moves and decisions of networks trained with the learning rate of which the essay's band is a trace."""
    s, seed = trial.settings, trial.seed
    trial = replace(trial, settings=replace(s, learning_rate=ESSAY_RATE, batch_size=2 * s.points))
    trained = trial.fitted(before, seed)
    halves = {"random": chance, "inactive": most_active(trained, trial.x, len(chance[0]))}
    nets = {f"{kind}, train, prune": pruned(trained, keep, trial.x) for kind, keep in halves.items()}
    work = {f"{kind}, prune, train": pruned(before, keep, trial.x) for kind, keep in halves.items()}
    nets = {"trained": trained} | nets | trial.together(work)
    return kernels(before, nets, halves, trial.x) | {
        "accuracies": {name: trial.accuracy(net) for name, net in nets.items()},
        "pictures": {name: _shades(net, 42) for name, net in nets.items() if not name.startswith("random")},
    }


def _moments(s: Spiral) -> list[int]:
    """Steps of training after which a frame of the film is taken."""
    steps = s.epochs * -(-2 * s.points // s.batch_size)
    return sorted({round(each) for each in np.geomspace(1, steps, FRAMES - 1)})


def _shades(net: Net, grid: int) -> list[list[int]]:
    """The probability of the second arm over [-1, 1]^2 in percent: (grid, grid)."""
    found: list[list[int]] = (100 * second_arm(net, box(grid))).round().astype(int).reshape(grid, grid).tolist()
    return found
