"""Certified bounds on the change of the loss by a removal: are they ever violated, how loose are they, and what does
pruning do to points that no decision saw?"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from deadhead.data.opened import opened
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network, trace
from deadhead.lab.data import load
from deadhead.lab.experiments.certificate.bounds import Case, Data, bounds
from deadhead.lab.experiments.certificate.claims import CLAIMS, TAKEAWAY
from deadhead.lab.experiments.certificate.figures import PICTURES
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.experiments.spiral.networks import arms
from deadhead.lab.experiments.spiral.networks import start as start_of
from deadhead.lab.lazily import stats
from deadhead.lab.models import digits_cnn, small_cnn
from deadhead.lab.train import evaluate, fit
from deadhead.progress import Progress, track
from deadhead.pruning.material import Material, Removable
from deadhead.pruning.options import Options
from deadhead.pruning.steps import Pruning
from deadhead.scores.score import score

METHODS: dict[str, dict[str, Any]] = {
    "mean": {"criterion": "activation_std", "compensate": "mean"},
    "least squares": {"criterion": "activation_std", "compensate": "least_squares"},
    "obs, least squares": {"criterion": "obs", "compensate": "least_squares"},
}
"""How units are chosen and replaced; the first is that of the post."""
TUNED = "mean, fine-tuned"
"""The first, then trained on, as the intact network that it is compared with is."""


@dataclass(frozen=True)
class Certificate:
    """Settings; the comment has no experiment, so that all but the network of the post are choices.

    Args:
        width: units of each hidden layer of the spiral network.
        turns: of each of two arms.
        noise: standard deviation of the points around their arm.
        points: how many are trained on; bounds are of the network of the second.
        unseen: points on which everything is measured.
        epochs: passes over the points.
        learning_rate: Adam's.
        batch_size: of training.
        removed: shares of each hidden layer, smallest deviation first.
        fine_tuning: passes over the points after a removal.
        sets: random sets of units that are removed together, besides every single unit.
        data: "mnist", for the small CNN, or "digits", for a smaller one.
        images: that the CNN is trained on.
        image_epochs: passes over them.
        unseen_images: on which its bounds are measured.
        image_sets: as `sets`, for the CNN.
    """

    width: int = 50
    turns: float = 1.5
    noise: float = 0.02
    points: tuple[int, ...] = (200, 1000, 5000)
    unseen: int = 5000
    epochs: int = 200
    learning_rate: float = 0.01
    batch_size: int = 32
    removed: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)
    fine_tuning: int = 10
    sets: int = 500
    data: str = "mnist"
    images: int = 5000
    image_epochs: int = 2
    unseen_images: int = 300
    image_sets: int = 60


QUICK = {
    "width": 12, "turns": 0.75, "points": (40, 100, 120), "unseen": 200, "epochs": 8, "removed": (0.5,),
    "fine_tuning": 1, "sets": 10, "data": "digits", "images": 300, "image_epochs": 1, "unseen_images": 20,
    "image_sets": 2,
}  # fmt: skip


@experiment("certificate", Certificate, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY)
def certificate(settings: Certificate, seed: int, progress: Progress | None) -> dict[str, Any]:
    """How far the loss on unseen points changes when units are replaced by their means, against the certified bound
    (Lipschitz constant times deviation), and how pruning changes the loss on unseen points for few and many points.

    Bounds are those of the spiral network before and after training and of the small CNN on MNIST, for every single
    unit and for random sets; measured in float64 on the points whose means and deviations were taken.

    Args:
        settings: see `Certificate`.
        seed: of start, data, order and random sets.
        progress: called after each network and each removal.

    Returns:
        Ratios of measured changes to bounds, and losses on unseen points by share removed.

    Source: "Train first vs prune first in neural networks", AI Alignment Forum, comments.
    """
    s = settings
    held, start = _arms(s, s.unseen, [seed, 2]), start_of(s.width, seed).double()
    data = {count: _arms(s, count, [seed, 1, count]) for count in s.points}
    network = trace(copy.deepcopy(start), held[0][:2])
    losses = []
    for count in track(progress, "certificate, training", s.points):
        net = copy.deepcopy(start).float()
        _fit(s, net, data[count], s.epochs, seed)
        network.module.load_state_dict(net.state_dict())
        losses.append(_pruned(s, network, data[count], held, seed, progress))
        if count == s.points[1]:
            trained, effects = net, _effects(network, held)
    cnn, images = _cnn(s, seed)
    cases = {
        "spiral, before training": Case(network, start, held, s.sets),
        "spiral, trained": Case(network, trained, held, s.sets, seen=data[s.points[1]]),
        "small CNN": Case(trace(copy.deepcopy(cnn).double(), images[0][:2]), cnn, images, s.image_sets),
    }
    return {
        **bounds(cases, np.random.default_rng([seed, 3]), progress),
        **effects,
        "losses": {name: [each[name] for each in losses] for name in losses[0]},
        "intact_loss": losses[-1]["mean"][0],
        "at_most_removed": {name: each[-1] for name, each in losses[-1].items()},
        "points": list(s.points),
        "removed": list(s.removed),
        **_falls(losses),
    }


def _arms(s: Certificate, count: int, seed: list[int]) -> Data:
    x, y = arms(count // 2, s.turns, s.noise, np.random.default_rng(seed))
    return x.double(), y


def _fit(s: Certificate, net: nn.Module, data: Data, epochs: int, seed: int) -> None:
    x, y = data
    fit(net, x.float(), y, epochs=epochs, batch_size=s.batch_size, learning_rate=s.learning_rate, seed=seed)


def _pruned(
    s: Certificate, network: Network, data: Data, held: Data, seed: int, progress: Progress | None
) -> dict[str, list[float]]:
    """Loss on unseen points, intact and by share removed, for each method."""
    loss, (batch,), _ = opened(network, [held], "cross_entropy", None)

    def measured(state: PrunedState) -> float:
        with torch.no_grad():
            return float(state.gates(loss).loss({}, batch).mean())

    def tuned(net: nn.Module) -> float:
        _fit(s, net.float(), data, s.fine_tuning, seed)
        return evaluate(net.double(), *held)[0]

    losses = {name: [measured(PrunedState.of(network))] for name in METHODS}
    losses[TUNED] = [tuned(copy.deepcopy(network.module))]
    work = [(name, share) for name in METHODS for share in s.removed]
    for name, share in track(progress, "certificate, pruning", work):
        options = Options(units=1 - share, curve=0, samples=len(data[0]), **METHODS[name])
        material = Material.read([data], None, "cross_entropy", options, 0)
        pruning = Pruning(Removable.of(network, material.batches, options, None), material, options)
        plan, compensation = pruning.compensate(pruning.select(pruning.score()))
        losses[name].append(measured(PrunedState.of(network, plan, compensation)))
        if name == "mean":
            losses[TUNED].append(tuned(pruning.cut(plan, compensation).module))
    return losses


FALL = 1e-3
"""A loss that falls by less than this share has stayed the same: removing a dead unit changes rounding alone."""


def _falls(found: list[dict[str, list[float]]]) -> dict[str, Any]:
    """Share of removals after which the loss on unseen points is lower, by number of points."""

    def share(losses: list[float]) -> float:
        return float(np.mean([each < (1 - FALL) * losses[0] for each in losses[1:]]))

    shares = {name: [share(each[name]) for each in found] for name in found[0]}
    return {"falls": shares, "falls_with_most_points": shares["mean"][-1]}


def _cnn(s: Certificate, seed: int) -> tuple[nn.Module, Data]:
    split = load(s.data)
    net = small_cnn(seed=seed) if s.data == "mnist" else digits_cnn(seed=seed)
    rows = torch.randperm(len(split.train_inputs), generator=torch.Generator().manual_seed(seed))[: s.images]
    fit(
        net, split.train_inputs[rows], split.train_targets[rows], epochs=s.image_epochs, batch_size=64,
        learning_rate=2e-3, seed=seed,
    )  # fmt: skip
    return net, (split.test_inputs[: s.unseen_images].double(), split.test_targets[: s.unseen_images])


def _effects(network: Network, held: Data) -> dict[str, Any]:
    """Deviation of each unit against what its removal changes, and how many units of large deviation change little."""

    def scores(criterion: str, reference: str) -> Any:
        found = score(
            network, [held], loss="cross_entropy", criterion=criterion, reference=reference, samples=len(held[0])
        )
        return torch.cat(list(found.values())).abs().numpy()

    deviation, effect = scores("activation_std", "zero"), scores("oracle", "mean")
    bound = scores("certificate", "mean")
    large, small = deviation >= np.quantile(deviation, 0.75), effect <= np.quantile(effect, 0.25)
    spread = np.quantile(effect[large], 0.9) / max(np.quantile(effect[large], 0.1), 1e-12)
    return {
        "deviation_effect_rho": float(stats.spearmanr(deviation, effect).statistic),
        "bound_effect_rho": float(stats.spearmanr(bound, effect).statistic),
        "exceptions": int((large & small).sum()),
        "effect_spread_of_large": float(spread),
        "quiet_share_of_small_effects": float((deviation[small] < 0.05 * deviation.max()).mean()),
        "deviations": deviation.round(5).tolist(),
        "effects": [float(f"{each:.4g}") for each in effect],
        "exception_units": np.flatnonzero(large & small).tolist(),
    }
