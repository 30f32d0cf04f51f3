"""Digits of 20x20 pixels, learned by one layer of 100 units and by two of 50, which are then removed one by one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deadhead.lab.experiments.mnist20.claims import CLAIMS, TAKEAWAY
from deadhead.lab.experiments.mnist20.estimates import estimates, recursion_errors
from deadhead.lab.experiments.mnist20.figures import PICTURES
from deadhead.lab.experiments.mnist20.numbers import PAPER, of_part, of_tasks, of_two_networks, of_widths
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.measures.curves import WAYS, Curve, Subject, beyond_zeros, by_ways
from deadhead.lab.networks.tasks import Task, cosine, mnist20, one_digit, shape
from deadhead.progress import Progress, track


@dataclass(frozen=True)
class Mnist20:
    """Settings; the paper gives the widths and the number of images, and the others are choices.

    Args:
        width: units of the network of one layer; the two layers of the other have half of it each.
        images: that are trained on and that decide.
        held: images held out.
        part: images that decide where a part does.
        loss: that training lowers, "cross_entropy" of each output, or "squared_error", which stops short of the paper's
            accuracies at the start.
        learning_rate: Adam's.
        epochs: of training, after which a network is taken as it is.
        step: units between the points of the curves of refitted networks.
        others: samples that decide in small versions of the paper's other tasks (cosine with 2x10 units, diamond, one
            digit against the rest); 0 leaves them out.
        digits: each of which is told from the rest.
        cosine_epochs: steps of training of the cosine's network.
        extras: run what the paper lacks, and networks of other widths.
    """

    width: int = 100
    images: int = 5000
    held: int = 1000
    part: int = 500
    loss: str = "cross_entropy"
    learning_rate: float = 1e-3
    epochs: int = 250
    step: int = 10
    others: int = 2000
    digits: tuple[int, ...] = (0, 1, 2)
    cosine_epochs: int = 40000
    extras: bool = True


QUICK = {
    "width": 10, "images": 150, "held": 50, "part": 30, "learning_rate": 0.02, "epochs": 15, "step": 7, "others": 60,
    "digits": (0,), "cosine_epochs": 100,
}  # fmt: skip

VARIANTS = {
    "squared error": {
        "loss": "squared_error", "learning_rate": 0.01, "epochs": 60, "others": 0, "extras": False,
    },
}  # fmt: skip


@experiment("mnist20", Mnist20, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY, variants=VARIANTS)
def mnist20_experiment(settings: Mnist20, seed: int, progress: Progress | None) -> dict[str, Any]:
    """How many units of trained sigmoid networks can go without retraining, by brute force and by Taylor estimates.

    Networks of 1x100 and 2x50 units, by a single ranking and by re-ranking after each removal; of 3x33, 1x50 and 1x200
    units, by brute force; beside them exact second derivatives, thresholds, mean replacement, least squares, the
    optimal brain surgeon, the race, deciding on a part of the images, and small versions of the paper's other tasks.
    "Free" ends where the accuracy is first down by more than a point, "flat" where the error passes its start by 5 % of
    what the network without any unit has above it. All curves are in mean of 1/2 sum (o - t)^2.

    Args:
        settings: see `Mnist20`.
        seed: of images, starts and orders.
        progress: called on the way.

    Returns:
        Curves, and numbers that the claims are judged by.

    Source: Wolfe et al. (2016), sections 3 to 5.
    """
    s, half = settings, settings.width // 2
    nets = {"one": (s.width,), "two": (half, half)}
    single: dict[str, dict[str, Curve]] = {}
    ranked: dict[str, dict[str, Curve]] = {}
    found: dict[str, Any] = {"estimates": {}, "start_accuracy": {}}
    subjects = {}
    for name in track(progress, "networks", nets):
        subject = subjects[name] = Subject(_digits(s, nets[name], seed, progress))
        found["estimates"][name], numbers = estimates(subject, name)
        found |= numbers
        single[name] = by_ways(subject, PAPER, rerank=False, progress=progress)
        ways = [way for way in WAYS if s.extras and (name == "two" or way != "exact quadratic")] or PAPER
        ranked[name] = by_ways(subject, ways, progress=progress)  # on one layer the recursion is exact
        found["start_accuracy"][name] = ranked[name]["brute force"].accuracy[0]
    again = Subject(_digits(s, nets["one"], seed + 1000, progress))
    found |= recursion_errors(subjects, min(s.images, 200))
    found |= of_two_networks(single, ranked, by_ways(again, PAPER, rerank=False, progress=progress))
    tasks = dict(ranked)
    if s.extras:
        for name, subject in track(progress, "beyond", subjects.items(), 2):
            order = ranked[name]["brute force"].order
            ranked[name] |= beyond_zeros(subject, order, s.step, seed=seed, progress=progress)
            found |= of_part(name, subject, ranked[name]["brute force"], s.part, progress)
        found |= of_widths(_brute_of_widths(s, seed, progress), ranked)
    if s.others:
        tasks |= _others(s, seed, progress)
        found |= of_tasks(tasks)
    found["free"] = {name: _each(curves, "free_by_accuracy") for name, curves in ranked.items()}
    found["held_free"] = {name: _each(curves, "free_by_accuracy", held=True) for name, curves in ranked.items()}
    found["flat"] = {name: _each(curves, "free_by_error") for name, curves in ranked.items()}
    found["curves"] = {
        name: {"single": _plain(single[name]), "re-ranked": _plain(ranked[name])} for name in nets
    }  # fmt: skip
    return found


def _digits(s: Mnist20, hidden: tuple[int, ...], seed: int, progress: Progress | None) -> Task:
    """Networks of one layer start at the paper's 0.998, deeper ones at its 1.000."""
    return mnist20(
        hidden, 0.998 if len(hidden) == 1 else 1.0, images=s.images, held=s.held, loss=s.loss, seed=seed,
        learning_rate=s.learning_rate, most_epochs=s.epochs, progress=progress,
    )  # fmt: skip


def _brute_of_widths(s: Mnist20, seed: int, progress: Progress | None) -> dict[str, Curve]:
    """Brute force on three layers of a third each, and on one layer of half and of double the width."""
    nets = {"three": (s.width // 3,) * 3, "narrow": (s.width // 2,), "wide": (2 * s.width,)}
    found = {}
    for name, hidden in track(progress, "widths", nets.items(), len(nets)):
        subject = Subject(_digits(s, hidden, seed, progress))
        found[name] = by_ways(subject, ["brute force"], progress=progress)["brute force"]
    return found


def _others(s: Mnist20, seed: int, progress: Progress | None) -> dict[str, dict[str, Curve]]:
    """The paper's ways on small versions of its other tasks."""
    seeded: dict[str, Any] = {"seed": seed, "progress": progress}
    made: dict[str, Callable[[], Task]] = {
        "cosine": lambda: cosine(
            (max(2, s.width // 10),) * 2, points=min(s.others, 1000), most_epochs=s.cosine_epochs, **seeded
        ),
        "diamond": lambda: shape(
            "diamond", hidden=(s.width // 2,) * 2, points=5 * s.others // 2, most_epochs=s.epochs, **seeded
        ),
    }
    for digit in s.digits:
        made[f"digit {digit}"] = functools.partial(
            one_digit, digit, hidden=s.width, images=10 * s.others, held=s.held, **seeded
        )
    found = {}
    for name, make in track(progress, "other tasks", made.items(), len(made)):
        task = make()
        task = dataclasses.replace(task, inputs=task.inputs[: s.others], targets=task.targets[: s.others])
        ways = (*PAPER, "quadratic, mean threshold") if name == "cosine" else PAPER
        found[name] = by_ways(Subject(task), ways, progress=progress)
    return found


def _each(curves: dict[str, Curve], measure: str, **options: Any) -> dict[str, float]:
    return {way: getattr(curve, measure)(**options) for way, curve in curves.items()}


def _plain(curves: dict[str, Curve]) -> dict[str, Any]:
    return {way: curve.plain() for way, curve in curves.items()}
