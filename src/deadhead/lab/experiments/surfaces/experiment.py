"""Error surfaces of removed units: what the error becomes as the gain of a unit goes from 0 to 10."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deadhead.gates.state import PrunedState
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.experiments.surfaces.claims import CLAIMS, TAKEAWAY, VARIANTS
from deadhead.lab.experiments.surfaces.figures import PICTURES
from deadhead.lab.lazily import stats
from deadhead.lab.measures.curves import LOSS, WAYS, Curve, Subject, Unit
from deadhead.lab.networks.tasks import Task, mnist20, shape
from deadhead.progress import Progress, track
from deadhead.scores.criterion import Question, ask
from deadhead.scores.surface import error_surface
from deadhead.select.plan import plan_of

Ways = dict[str, dict[str, Any]]
"""What was measured of a network's removed units, by the way they were chosen."""
CHOICES = ("brute force", "linear", "quadratic")
"""The paper's ways to choose the next unit."""


@dataclass(frozen=True)
class Surfaces:
    """Settings, the paper's but for the number of images that a curve is computed on.

    Args:
        images: trained and pruned on.
        units: hidden units of each network, in one layer or in two of half as many.
        every: a curve for the first, the eleventh, ... unit that is removed.
        step: of the gain.
        largest: gain.
        samples: images of a curve (a choice: 10,001 losses of 5,000 images each would take most of an hour).
        loss: that training lowers (see `mnist20`).
        learning_rate: Adam's.
        digits: digits; else points of a diamond, which need no data.
        most_epochs: of training, which ends before where the network is as good as the paper's.
    """

    images: int = 5000
    units: int = 100
    every: int = 10
    step: float = 0.001
    largest: float = 10.0
    samples: int = 500
    loss: str = "cross_entropy"
    learning_rate: float = 1e-3
    digits: bool = True
    most_epochs: int = 250


QUICK = {"images": 120, "units": 6, "every": 2, "step": 0.05, "samples": 60, "digits": False, "most_epochs": 15}


@experiment("surfaces", Surfaces, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY, variants=VARIANTS)
def surfaces(settings: Surfaces, seed: int, progress: Progress | None) -> dict[str, Any]:
    """How the error depends on the gain of units that are about to be removed, for three ways to choose them.

    Sigmoid networks with one hidden layer and with two are pruned unit by unit, re-ranked after each. At every tenth
    removal the unit's output is multiplied by 0 to 10 by 0.001, in the network as it is then: 1 is the unit as it is,
    0 is its removal. Beside each curve stand held-out images, the estimate that the unit was chosen by, and the unit
    replaced by its mean.

    Args:
        settings: see `Surfaces`.
        seed: of images, start and order.
        progress: called for each removal and each curve.

    Returns:
        Numbers that the claims are judged by, and curves at some of the gains.

    Source: Wolfe et al. (2016), sections 4.3.3 to 4.3.6 and 4.4.3 to 4.4.6.
    """
    found: dict[str, Any] = {"curves": {}}
    measured: dict[str, dict[str, dict[str, Any]]] = {}
    for layers in track(progress, "surfaces", ("one", "two")):
        subject = Subject(trained(settings, layers, seed, progress))
        measured[layers] = {}
        for way in CHOICES:
            criterion = WAYS[way]["criterion"]
            order = subject.order(criterion, progress=progress)
            curve = subject.curve(order)
            measured[layers][way] = _measured(settings, subject, curve, criterion, progress)
        found["curves"][layers] = {
            way: {key: each[key] for key in ("removed", "gains", "error", "held_error", "layers")}
            for way, each in measured[layers].items()
        }
    return found | _numbers(measured["one"], measured["two"])


def trained(s: Surfaces, layers: str, seed: int, progress: Progress | None) -> Task:
    """The network with "one" hidden layer or "two", trained to the paper's accuracy."""
    hidden, wanted = ((s.units,), 0.998) if layers == "one" else ((s.units // 2, s.units // 2), 1.0)
    if s.digits:
        return mnist20(
            hidden, wanted, images=s.images, loss=s.loss, learning_rate=s.learning_rate, seed=seed,
            most_epochs=s.most_epochs, progress=progress,
        )  # fmt: skip
    return shape("diamond", hidden=hidden, points=s.images, held=s.images, seed=seed, most_epochs=s.most_epochs)


def _measured(s: Surfaces, subject: Subject, curve: Curve, criterion: str, progress: Progress | None) -> dict[str, Any]:
    """Curves over the gain of every tenth removed unit, and what its removal was estimated to cost and did cost."""
    gains = torch.arange(round(s.largest / s.step) + 1, dtype=torch.float64) * s.step
    places = range(0, len(curve.order), s.every)
    data = [(subject.task.inputs[: s.samples], subject.task.targets[: s.samples])]
    held = [(subject.task.held_inputs[: s.samples], subject.task.held_targets[: s.samples])]
    shown = _shown(gains)
    whole, rows, held_rows, estimates, by_mean = [], [], [], [], []
    for place in track(progress, "error surfaces", places):
        unit, before = curve.order[place], curve.order[:place]
        error = _surface(subject, data, unit, before, gains)
        whole.append(error)
        rows.append(_short(error[shown].tolist()))
        held_rows.append(_short(_surface(subject, held, unit, before, gains[shown]).tolist()))
        estimates.append(subject.scores(criterion, before)[unit[0]][unit[1]].item())
        by_mean.append(_mean_replaced(subject, unit, before))
    return {
        "removed": list(places), "gains": gains[shown].tolist(), "error": rows, "held_error": held_rows,
        "layers": [curve.layers[place] for place in places], "whole": whole, "all_gains": gains,
        "estimates": estimates, "changes": [curve.error[place + 1] - curve.error[place] for place in places],
        "by_mean": by_mean, "mean_log_error": curve.mean_log_error(), "bare": curve.bare, "start": curve.error[0],
    }  # fmt: skip


def _surface(subject: Subject, data: list[Any], unit: Unit, removed: Sequence[Unit], gains: Tensor) -> Tensor:
    found = error_surface(subject.network, data, loss=LOSS, units=[unit], gains=gains, removed=removed, samples=None)
    return found[unit]


def _mean_replaced(subject: Subject, unit: Unit, removed: Sequence[Unit]) -> float:
    """Change of the error where the unit is replaced by its mean, others being removed."""
    state = PrunedState.of(subject.network, plan_of(removed))
    groups = tuple(group for group in subject.network.groups if group.name == unit[0])
    question = Question(state, groups, subject.batches, subject.loss, reference="mean")
    return ask(question, "oracle")[unit[0]][unit[1]].item()


def _shown(gains: Tensor) -> Tensor:
    """Indices of the gains that are kept: about forty up to 2, and forty beyond."""
    near = int((gains <= 2 + 1e-9).sum()) - 1
    first = torch.linspace(0, near, min(41, near + 1)).round().long()
    beyond = torch.linspace(near, len(gains) - 1, min(41, len(gains) - near)).round().long()
    return torch.cat([first, beyond[1:]])


def at(curve: Tensor, gains: Tensor, gain: float) -> float:
    """The error at the nearest of the gains."""
    return curve[(gains - gain).abs().argmin()].item()


def convex(curve: Tensor, gains: Tensor, spacing: float = 0.05) -> bool:
    """Whether an error is convex in the gain from 0 to 2, to a millionth of the error at 1.

    Args:
        curve: (gains,).
        gains: (gains,), evenly spaced from 0.
        spacing: of the points that are compared: neighbours of float32 losses differ by rounding.

    >>> gains = torch.arange(201, dtype=torch.float64) / 100
    >>> convex((gains - 1) ** 2 + 1, gains), convex(torch.sin(gains) + 1, gains)
    (True, False)
    """
    part = curve[:: max(round(spacing / (gains[1] - gains[0]).item()), 1)][: round(2 / spacing) + 1]
    return bool(((part[2:] - 2 * part[1:-1] + part[:-2]) >= -1e-6 * at(curve, gains, 1)).all())


def _numbers(one: Ways, two: Ways) -> dict[str, Any]:
    """What the claims are judged by, and what explains them."""
    gains = one["brute force"]["all_gains"]
    quadrupled = [at(c, gains, 4) - at(c, gains, 1) for way in one.values() for c in way["whole"]]
    relative = [abs(at(c, gains, 4) / at(c, gains, 1) - 1) for way in one.values() for c in way["whole"]]
    until = int((gains <= 1 + 1e-9).sum())
    ranges = [(curve[:until].max() - curve[:until].min()).item() for curve in one["brute force"]["whole"]]
    return {
        "start_one": one["brute force"]["start"],
        "start_two": two["brute force"]["start"],
        "quadrupled": min(relative),
        "quadrupled_share": sum(each <= 0.01 for each in relative) / len(relative),
        "quadrupled_of_bare": min(map(abs, quadrupled)) / one["brute force"]["bare"],
        "steeper": [_steeper(net["brute force"], gains, relative=True) for net in (one, two)],
        "steeper_absolute": [_steeper(net["brute force"], gains, relative=False) for net in (one, two)],
        "earlier_range": max(ranges[:-1]) / ranges[-1],
        "earlier_range_until_70": max(ranges[: max(1, len(ranges) - 3)]) / ranges[-1],
        "ranges_to_last": [each / ranges[-1] for each in ranges],
        **{f"spread_{way.split()[0]}": _spread(one[way]) for way in CHOICES},
        **{f"change_{way.split()[0]}": _change(one[way], gains) for way in CHOICES},
        "quadratic_spread_more": _spread(one["quadratic"]) - _spread(one["brute force"]),
        "convex_share": _share(two["brute force"], gains),
        "convex_shares": {
            f"{layers}, {way}": _share(net[way], gains) for layers, net in (("one", one), ("two", two)) for way in net
        },
        "linear_error": _median_error(two["linear"]),
        "quadratic_error": _median_error(two["quadratic"]),
        "linear_error_of_level": _of_level(two["linear"]),
        "linear_wrong_sign": _wrong_sign(two["linear"]),
        "linear_curve_higher": two["linear"]["mean_log_error"] - two["brute force"]["mean_log_error"],
        "estimates": {way: _short(each["estimates"]) for way, each in two.items()},
        "changes": {way: _short(each["changes"]) for way, each in two.items()},
        "changes_by_mean": {way: _short(each["by_mean"]) for way, each in two.items()},
    }


def _steeper(way: dict[str, Any], gains: Tensor, *, relative: bool) -> float:
    """Rank correlation of the order of removal with what doubling does to the error, or to its logarithm."""
    ends = [(at(curve, gains, 2), at(curve, gains, 1)) for curve in way["whole"]]
    slopes = [math.log(double / single) if relative else double - single for double, single in ends]
    return float(stats.spearmanr(range(len(slopes)), slopes)[0])


def _spread(way: dict[str, Any]) -> float:
    """Standard deviation of log E(0) over every tenth unit."""
    return torch.stack([curve[0].log() for curve in way["whole"]]).std().item()


def _change(way: dict[str, Any], gains: Tensor) -> float:
    """Mean of log E(0) / E(1): what removal does, without the level to which the error has risen before."""
    return torch.tensor([math.log(curve[0].item() / at(curve, gains, 1)) for curve in way["whole"]]).mean().item()


def _median_error(way: dict[str, Any]) -> float:
    """Median of the estimate's error, relative to the measured change."""
    pairs = zip(way["estimates"], way["changes"], strict=True)
    return float(torch.tensor([abs(e - c) / max(abs(c), 1e-12) for e, c in pairs]).median())


def _wrong_sign(way: dict[str, Any]) -> float:
    """Share of the units whose removal was estimated to lower the error and raised it."""
    pairs = list(zip(way["estimates"], way["changes"], strict=True))
    return float(sum(e < 0 < c for e, c in pairs) / len(pairs))


def _of_level(way: dict[str, Any]) -> float:
    """Median of the estimate's error, relative to the error of the network rather than to its change."""
    found = [abs(e - c) / curve[0] for e, c, curve in zip(way["estimates"], way["changes"], way["error"], strict=True)]
    return float(torch.tensor(found).median())


def _share(way: dict[str, Any], gains: Tensor) -> float:
    return sum(convex(curve, gains) for curve in way["whole"]) / len(way["whole"])


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
