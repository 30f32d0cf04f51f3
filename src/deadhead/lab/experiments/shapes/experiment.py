"""A diamond and a random shape in the plane, told from the rest by two layers of 50 units, which are then removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deadhead.gates.state import PrunedState
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.experiments.shapes.claims import CLAIMS, TAKEAWAY
from deadhead.lab.experiments.shapes.figures import PICTURES
from deadhead.lab.measures.curves import Curve, Subject, beyond_zeros, by_ways
from deadhead.lab.networks.tasks import SHAPES, shape
from deadhead.progress import Progress
from deadhead.select.plan import plan_of

WAYS = ("brute force", "linear", "quadratic", "exact quadratic")


@dataclass(frozen=True)
class Shapes:
    """Settings; the paper gives the widths, and the others are choices.

    Args:
        width: units of each of two hidden layers.
        points: to train on and decide by, uniform in [-1, 1]^2.
        held: points held out.
        epochs: of training, after which a network is taken as it is.
        step: units between the points of the curves of refitted networks.
        grid: points along each side of the decision pictures.
    """

    width: int = 50
    points: int = 5000
    held: int = 1000
    epochs: int = 200
    step: int = 10
    grid: int = 60


QUICK = {"width": 6, "points": 400, "held": 50, "epochs": 60, "step": 10, "grid": 12}


@experiment("shapes", Shapes, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY)
def shapes(settings: Shapes, seed: int, progress: Progress | None) -> dict[str, Any]:
    """How far two networks that know a shape in the plane can lose units without retraining, by each way to choose.

    Brute force, linear and quadratic estimates, re-ranked after each removal; beside them exact second derivatives,
    mean replacement, least squares, the optimal brain surgeon and the race.

    Args:
        settings: see `Shapes`.
        seed: of points, shape, start and order.
        progress: called on the way.

    Returns:
        Curves, decision pictures, and numbers that the claims are judged by.

    Source: Wolfe et al. (2016), section 4.6 and figure 25.
    """
    s = settings
    found: dict[str, Any] = {"curves": {}, "pictures": {}, "start_accuracy": {}, "free": {}, "flat": {}}
    curves: dict[str, dict[str, Curve]] = {}
    for kind in SHAPES:
        task = shape(
            kind, hidden=(s.width, s.width), points=s.points, held=s.held, seed=seed, most_epochs=s.epochs,
            progress=progress,
        )  # fmt: skip
        subject, name = Subject(task), kind.split()[0]
        each = curves[name] = by_ways(subject, WAYS, progress=progress)
        each |= beyond_zeros(subject, each["brute force"].order, s.step, seed=seed, progress=progress)
        found["curves"][name] = {way: curve.plain() for way, curve in each.items()}
        found["start_accuracy"][name] = each["brute force"].accuracy[0]
        found["free"][name] = {way: curve.free_by_accuracy() for way, curve in each.items()}
        found["flat"][name] = {way: curve.free_by_error() for way, curve in each.items()}
        found["pictures"][name] = _pictures(subject, each, s.grid)
    return found | _judged(curves)


def _judged(curves: dict[str, dict[str, Curve]]) -> dict[str, Any]:
    """How much of the way from brute force to linear estimates the quadratic ones leave, and linear's share."""
    gaps, exact, shares = [], [], []
    for each in curves.values():
        log = {way: each[way].mean_log_error() for way in WAYS}
        whole = max(log["linear"] - log["brute force"], 1e-9)
        gaps.append((log["quadratic"] - log["brute force"]) / whole)
        exact.append((log["exact quadratic"] - log["brute force"]) / whole)
        shares.append(each["linear"].free_by_error() / max(each["brute force"].free_by_error(), 1e-9))
    return {"quadratic_gap": gaps, "exact_quadratic_gap": exact, "linear_flat_by_brute": shares}


def _pictures(subject: Subject, curves: dict[str, Curve], grid: int) -> dict[str, list[list[int]]]:
    """Where the network sees the shape: intact, and by each way of the paper without half of the units."""
    side = torch.linspace(-1, 1, grid)
    box = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2)
    batch = subject.batch(box)
    found = {}
    for name in ("intact", *WAYS[:3]):
        order = [] if name == "intact" else curves[name].order[: subject.total // 2]
        outputs = PrunedState.of(subject.network, plan_of(order)).outputs(batch)
        assert isinstance(outputs, Tensor)
        found[name] = outputs.argmax(1).reshape(grid, grid).tolist()
    return found
