"""Importance of single weights by magnitude, by how much training adjusted them and by gradient, and of whole units."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deadhead.graph.network import trace
from deadhead.lab.experiments.importance.claims import CLAIMS, TAKEAWAY
from deadhead.lab.experiments.importance.figures import PICTURES
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.networks.mnist_cnn import Pairs, Parts, batches, epoch, network, parts
from deadhead.lab.train import evaluate
from deadhead.progress import Progress, track
from deadhead.pruning.prune import prune
from deadhead.scores import score_parameters
from deadhead.training.watching.adjustments import Adjustments

Net = Any
Scores = Mapping[str, Tensor]
STRUCTURES = {
    "random": ("random", "zero"), "magnitude": ("magnitude", "zero"), "mrs, means": ("mrs", "mean"),
    "obs, least squares": ("obs", "least_squares"),
}  # fmt: skip
"""Ways to remove whole units: a criterion and a compensation."""


@dataclass(frozen=True)
class Settings:
    """Settings; the essay has no experiment, so that they are those of Evci (2018), section 2.1, and choices.

    Args:
        epochs: passes over the training images.
        batch_size: of a step.
        learning_rate: of plain SGD.
        removed: the share of each layer's weights that is removed; half, so that chance alone has a hard time.
        shares: shares for the curve.
        draws: random choices, of which the mean is taken.
        images: of each part at most; 0 is all.
        samples: training images that gradients, means and compensations are taken from.
        structures: the ways to remove whole units.
    """

    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 0.01
    removed: float = 0.5
    shares: tuple[float, ...] = (0.2, 0.4, 0.5, 0.6, 0.8, 0.9)
    draws: int = 10
    images: int = 0
    samples: int = 1000
    structures: tuple[str, ...] = tuple(STRUCTURES)


QUICK = {"epochs": 2, "images": 1000, "learning_rate": 0.1, "shares": (0.5,), "draws": 2, "samples": 250,
         "structures": ("obs, least squares",)}  # fmt: skip


@experiment("importance", Settings, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY)
def importance(settings: Settings, seed: int, progress: Progress | None) -> dict[str, Any]:
    """Half of the weights of every layer of a trained small CNN removed at once, by their magnitude, by how much
    training adjusted them, by gradient, or at random: what the loss of MNIST's test images changes by. Beside, whole
    units removed until half of the parameters remain.

    "Least adjusted" is the smallest sum of absolute steps; the distance from start to end stands beside it.
    """
    data = parts(1000, settings.images)
    net, scored = trained(settings, data, seed, progress)
    start = evaluate(net, *data.test)[0]
    draw = torch.Generator().manual_seed(seed)
    chances = [{name: torch.rand(each.shape, generator=draw) for name, each in scored["magnitude"].items()}
               for _ in range(settings.draws)]  # fmt: skip
    shares = sorted({*settings.shares, settings.removed})
    curve: dict[str, list[float]] = {name: [] for name in (*scored, "random")}
    for share in track(progress, "removing weights", shares):
        for name, values in scored.items():
            curve[name].append(evaluate(without(net, values, share), *data.test)[0] - start)
        drawn = [evaluate(without(net, values, share), *data.test)[0] - start for values in chances]
        curve["random"].append(sum(drawn) / len(drawn))
    at = {name: values[shares.index(settings.removed)] for name, values in curve.items()}
    return {
        "loss": start,
        "shares": shares,
        "curve": curve,
        "change": at,
        **{f"{name}_less_random": at[name] - at["random"] for name in scored},
        "layers": by_layer(settings, net, scored, chances[0], data, start, progress),
        "structure": structured(settings, net, batches(data.train, settings.samples), data, start, progress),
        "agreement": {name: _overlap(scored["magnitude"], scored[name], settings.removed) for name in scored},
    }


def trained(
    s: Settings, data: Parts, seed: int, progress: Progress | None = None
) -> tuple[Net, dict[str, Scores]]:  # fmt: skip
    """Train the network, and score the weights of its matrices and kernels.

    Args:
        s: settings.
        data: the parts of MNIST.
        seed: of the start and of the order of samples.
        progress: called after each step.

    Returns:
        The network, and the scores by name: magnitude, adjusted (sum of absolute steps), moved (distance from the
        start), gradient (absolute, of the mean loss), taylor1 (absolute).
    """
    net = network(seed)
    start = copy.deepcopy(net)
    optimizer, order = torch.optim.SGD(net.parameters(), lr=s.learning_rate), torch.Generator().manual_seed(seed)
    adjusted = Adjustments(net, optimizer)
    ticks = track(progress, "training", range(s.epochs * (len(data.train[1]) // s.batch_size)))
    for _ in range(s.epochs):
        for _ in epoch(net, optimizer, data.train, s.batch_size, order, adjusted.add):
            next(ticks, None)
    names = [name for name, each in net.named_parameters() if each.dim() > 1]
    weights = {name: net.get_parameter(name).detach() for name in names}
    how: dict[str, Any] = {"loss": "cross_entropy", "parameters": names, "absolute": True}
    traced, reads = trace(net, data.train[0][:2]), batches(data.train, s.samples)
    return net, {
        "magnitude": {name: each.abs() for name, each in weights.items()},
        "adjusted": {name: adjusted.totals[name] for name in names},
        "moved": {name: (each - start.get_parameter(name).detach()).abs() for name, each in weights.items()},
        "gradient": score_parameters(traced, reads, criterion="taylor1", change="sensitivity", **how),
        "taylor1": score_parameters(traced, reads, criterion="taylor1", **how),
    }


def without(net: Net, values: Scores, share: float, only: str | None = None) -> Net:
    """A copy of a network without the share of each layer's weights that scores lowest.

    Args:
        net: the network.
        values: the scores by parameter.
        share: of the weights.
        only: the one parameter that is pruned; all by default.
    """
    smaller = copy.deepcopy(net)
    with torch.no_grad():
        for name, each in values.items():
            if only in (None, name):
                smaller.get_parameter(name)[_lowest(each, share)] = 0.0
    return smaller


def _lowest(values: Tensor, share: float) -> Tensor:
    """True at the lowest scores."""
    found = torch.zeros(values.numel(), dtype=torch.bool)
    found[values.flatten().argsort(stable=True)[: round(share * values.numel())]] = True
    return found.reshape(values.shape)


def _overlap(first: Scores, second: Scores, share: float) -> float:
    """The share of what one score removes that another removes, too."""
    pairs = [(_lowest(first[name], share), _lowest(second[name], share)) for name in first]
    return sum(int((a & b).sum()) for a, b in pairs) / sum(int(a.sum()) for a, _ in pairs)


def by_layer(
    s: Settings, net: Net, scored: Mapping[str, Scores], chance: Scores, data: Parts, start: float,
    progress: Progress | None = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """The change of the loss where one layer alone is pruned: {layer: {score: change}}."""
    found: dict[str, dict[str, float]] = {}
    for layer in track(progress, "layers", list(chance)):
        every = {**scored, "random": chance}
        models = {name: without(net, values, s.removed, layer) for name, values in every.items()}
        found[layer] = {name: evaluate(model, *data.test)[0] - start for name, model in models.items()}
    return found


def structured(
    s: Settings, net: Net, reads: Pairs, data: Parts, start: float, progress: Progress | None = None
) -> dict[str, float]:
    """The change of the loss where whole units are removed until the same share of the parameters remains."""
    traced, found = trace(net, data.train[0][:2]), {}
    for name, (criterion, compensate) in track(progress, "units", [(each, STRUCTURES[each]) for each in s.structures]):
        how: dict[str, Any] = {"loss": "cross_entropy", "curve": 0, "samples": s.samples}
        smaller = prune(traced, reads, params=1 - s.removed, criterion=criterion, compensate=compensate, **how).model
        found[name] = evaluate(smaller, *data.test)[0] - start
    return found
