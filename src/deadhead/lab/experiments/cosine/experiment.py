"""The cosine, learned by 20 and by 100 sigmoid units, which are then removed one by one: how many does it take?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from deadhead.lab.experiments.cosine.claims import CLAIMS, TAKEAWAY
from deadhead.lab.experiments.cosine.figures import PICTURES
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.measures.curves import Curve, Subject, beyond_zeros, by_ways
from deadhead.lab.networks.tasks import Task, cosine
from deadhead.progress import Progress

WAYS = ("brute force", "linear", "quadratic", "quadratic, mean threshold", "exact quadratic")
SHORT = {"brute force": "brute", "linear": "linear", "quadratic": "quadratic"}
"""How results name the paper's ways."""


@dataclass(frozen=True)
class Cosine:
    """Settings; the paper gives the widths, and the others are choices.

    Args:
        small: units of each hidden layer of the small network.
        large: units of each hidden layer of the large one.
        few: units of the network, of one layer, that shows how few units can learn the task.
        points: x between `low` and `high`; as many are held out.
        low: smallest x; the paper names no interval, and this is a whole period.
        high: largest x.
        start: "torch", its own, or "normal", weights and biases from the standard normal distribution.
        wanted: mean squared error at which training ends; the paper starts from 1 - 0.9999993 and 1 - 0.9999996.
        epochs: steps of training after which a network is taken as it is.
        step: units between the points of the curves of refitted networks.
        extras: run what the paper lacks.
    """

    small: int = 10
    large: int = 50
    few: int = 11
    points: int = 1000
    low: float = -math.pi
    high: float = math.pi
    start: str = "torch"
    wanted: float = 1e-6
    epochs: int = 40000
    step: int = 5
    extras: bool = True


QUICK = {"small": 4, "large": 7, "few": 4, "points": 60, "wanted": 1e-4, "epochs": 300, "step": 6}

VARIANTS: dict[str, dict[str, Any]] = {
    "x from 0 to 1": {"low": 0.0, "high": 1.0, "extras": False},
    "normal start": {"start": "normal", "extras": False},
}


@experiment("cosine", Cosine, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY, variants=VARIANTS)
def cosine_experiment(settings: Cosine, seed: int, progress: Progress | None) -> dict[str, Any]:
    """How far the error of a network that has learned the cosine stays flat while units are removed, not retrained.

    Two networks of two layers, by brute force, linear and quadratic estimates, re-ranked after each removal; beside
    them thresholded and exact quadratic estimates, mean replacement, least squares, the optimal brain surgeon and the
    race.
    "Flat" ends where the error first passes its start by 5 % of what the network without any unit has above it.

    Args:
        settings: see `Cosine`.
        seed: of the starts.
        progress: called on the way.

    Returns:
        Curves, and numbers that the claims are judged by.

    Source: Wolfe et al. (2016), section 4.1 and figure 2.
    """
    s = settings
    found: dict[str, Any] = {"curves": {}, "start": {}, "steps": {}}
    free: dict[str, dict[str, Curve]] = {}
    how: dict[str, Any] = {
        "points": s.points, "low": s.low, "high": s.high, "start": s.start, "wanted": s.wanted, "seed": seed,
        "most_epochs": s.epochs, "progress": progress,
    }  # fmt: skip
    for size, width in (("small", s.small), ("large", s.large)):
        task = cosine((width, width), **how)
        subject = Subject(task)
        curves = by_ways(subject, WAYS if s.extras else tuple(SHORT), progress=progress)
        if s.extras:
            curves |= beyond_zeros(subject, curves["brute force"].order, s.step, seed=seed, progress=progress)
        free[size] = curves
        found["curves"][size] = {name: curve.plain() for name, curve in curves.items()}
        found["start"][size] = 2 * curves["brute force"].error[0]
        found["steps"][size] = task.steps
    few = cosine((s.few,), **how)
    found["few_error_ratio"] = _error(few) / s.wanted
    found["few_steps"] = few.steps
    return found | _flat(free) | _compared(free)


def _error(task: Task) -> float:
    return float((task.model(task.inputs) - task.targets).detach().square().mean())


def _flat(curves: dict[str, dict[str, Curve]]) -> dict[str, Any]:
    """How far each curve is flat, and how many units are left where brute force's ends to be."""
    found: dict[str, Any] = {
        f"flat_{size}": {name: curve.free_by_error() for name, curve in each.items()} for size, each in curves.items()
    }
    for size, each in curves.items():
        for name, short in SHORT.items():
            found[f"flat_{size}_{short}"] = each[name].free_by_error()
        found[f"held_flat_{size}_brute"] = each["brute force"].free_by_error(held=True)
    left = [round((1 - found[f"flat_{size}_brute"]) * each["brute force"].total) for size, each in curves.items()]
    return found | {"units_left": left, "units_left_difference": abs(left[0] - left[1])}


def _compared(curves: dict[str, dict[str, Curve]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for size, each in curves.items():
        for name in ("linear", "quadratic"):
            gap = each[name].free_by_error() - each["brute force"].free_by_error()
            found[f"flat_{size}_{name}_less_brute"] = gap
    found["curves_that_return"] = sum(
        returns(each[name]) for each in curves.values() for name in ("linear", "quadratic")
    )
    return found


def returns(curve: Curve) -> bool:
    """Whether the error rises above start + 10 % of its range and is later below start + 2 % of it.

    The range is that from the start to the error with no unit.

    >>> returns(Curve(4, 1.0, error=[0.0, 0.5, 0.01])), returns(Curve(4, 1.0, error=[0.0, 0.01, 0.5]))
    (True, False)
    """
    start, whole = curve.error[0], curve.bare - curve.error[0]
    risen = next((i for i, error in enumerate(curve.error) if error > start + 0.1 * whole), None)
    return risen is not None and any(error < start + 0.02 * whole for error in curve.error[risen:])
