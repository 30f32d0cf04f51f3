"""One digit against the rest, training stopped early: does removing units improve the network?"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.lab.experiments.one_digit.claims import CLAIMS, TAKEAWAY, VARIANTS
from deadhead.lab.experiments.one_digit.figures import PICTURES
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.measures.curves import Curve, Subject, by_ways
from deadhead.lab.networks.tasks import Task, shape
from deadhead.lab.networks.tasks import one_digit as trained_on
from deadhead.progress import Progress, track

CHOICES = ("brute force", "linear", "quadratic")
"""The paper's ways to choose the next unit."""


@dataclass(frozen=True)
class OneDigit:
    """Settings, the paper's but for those called choices.

    Args:
        digits: each has a network of its own.
        hidden: units.
        images: trained on.
        deciding: images on which units are chosen and errors measured (a choice: all 60,000 take twelve times as long).
        start: of the weights: "torch", its own (a choice), or "normal" (see `sigmoid_network`).
        start_epochs: passes after which a network that has not reached the paper's accuracy is taken as it is.
        held: held-out images.
        twin: accuracy to which a twin of the same start and order is trained on, in place of stopping early.
        most_epochs: of the twin's training (a choice).
        refitted: numbers of removed units at which the remaining weights are refitted.
        beside: also what the paper lacks: mean replacement, refitted weights, the race.
        digital: digits; else points of a shape, which need no data.
    """

    digits: tuple[int, ...] = (0, 1, 2)
    hidden: int = 100
    images: int = 60000
    deciding: int = 5000
    held: int = 5000
    start: str = "torch"
    start_epochs: int = 20
    twin: float = 0.995
    most_epochs: int = 10
    refitted: tuple[int, ...] = (20, 40, 60, 70, 80, 90, 95)
    beside: bool = True
    digital: bool = True


QUICK = {
    "hidden": 6, "images": 150, "deciding": 100, "held": 50, "most_epochs": 2, "refitted": (3,), "digital": False,
}  # fmt: skip


@experiment("one_digit", OneDigit, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY, variants=VARIANTS)
def one_digit(settings: OneDigit, seed: int, progress: Progress | None) -> dict[str, Any]:
    """What pruning does to networks that tell one digit from the others and whose training was stopped early.

    Networks of 784-100-2 with softmax and squared error lose their hidden units one by one, re-ranked after each, by
    brute force and by the linear and the quadratic estimate, without retraining. A twin that is trained on shows what
    of that comes from stopping early. Beside them: units replaced by their mean, the remaining weights refitted by
    least squares, the optimal brain surgeon, a race in place of brute force, and held-out images.

    Args:
        settings: see `OneDigit`.
        seed: of images, starts and orders.
        progress: called for each network and each removal.

    Returns:
        Numbers that the claims are judged by, and curves.

    Source: Wolfe et al. (2016), section 4.5.
    """
    found: dict[str, Any] = {"digits": {}, "saturated": [], "output_weight": []}
    curves: list[dict[str, Curve]] = []
    for digit in track(progress, "one digit", settings.digits):
        subject = Subject(from_hidden(trained(settings, digit, seed, progress), settings.deciding))
        found["saturated"].append(_saturated(subject.task.inputs))
        found["output_weight"].append(_output_weight(subject.task))
        measured = by_ways(subject, CHOICES, progress=progress)
        if settings.beside:
            measured |= _beside(settings, subject, measured["brute force"], seed, progress)
        twin = Subject(from_hidden(trained(settings, digit, seed, progress, twin=True), settings.deciding))
        measured["twin"] = twin.curve(twin.order("oracle", progress=progress))
        curves.append(measured)
        found["digits"][str(digit)] = {way: _plain(each) for way, each in measured.items()}
    return found | _numbers(curves)


def _beside(s: OneDigit, subject: Subject, brute: Curve, seed: int, progress: Progress | None) -> dict[str, Curve]:
    """Ways that the paper lacks."""
    counts = (0, *s.refitted)
    return {
        "race": subject.curve(subject.race(seed=seed, progress=progress)),
        "means": subject.by_means(progress),
        "least squares": subject.refitted(brute.order, counts, progress),
        "surgeon": subject.by_surgeon(counts, progress),
    }


def trained(s: OneDigit, digit: int, seed: int, progress: Progress | None = None, *, twin: bool = False) -> Task:
    """The network of a digit, stopped at the paper's accuracy, or its twin, trained on."""
    if not s.digital:
        task = shape("diamond", hidden=(s.hidden,), points=s.images, held=s.held, seed=seed + digit, most_epochs=2)
        hidden, activation, last, _ = task.model
        return dataclasses.replace(task, model=nn.Sequential(hidden, activation, last, nn.Softmax(1)).eval())
    options: dict[str, Any] = (
        {"wanted": s.twin, "most_epochs": s.most_epochs} if twin else {"most_epochs": s.start_epochs}
    )
    options |= {"start": s.start, "images": s.images, "held": s.held, "hidden": s.hidden}
    return trained_on(digit, seed=seed, progress=progress, **options)


def from_hidden(task: Task, samples: int) -> Task:
    """The same network from its hidden units on: a layer that copies reads their values, which are computed once.

    Removing one of its units is removing that hidden unit, and what is replayed is the output layer alone.

    Args:
        task: whose network has one hidden layer.
        samples: of the data that decides.
    """
    first, activation, *rest = task.model
    assert isinstance(first, nn.Linear)
    width = first.out_features
    copying = nn.Linear(width, width, bias=False).to(task.inputs.dtype)
    with torch.no_grad():
        copying.weight.copy_(torch.eye(width))
        inputs, held = (activation(first(each)) for each in (task.inputs[:samples], task.held_inputs))
    model = nn.Sequential(copying, *(copy.deepcopy(each) for each in rest)).eval()
    return Task(task.name, model, inputs, task.targets[:samples], held, task.held_targets, task.steps)


def _saturated(hidden: Tensor) -> float:
    """Share of the hidden units' values below 0.01 or above 0.99."""
    return ((hidden < 0.01) | (hidden > 0.99)).double().mean().item()


def _output_weight(task: Task) -> float:
    """Mean absolute difference of the weights with which the two outputs read a hidden unit."""
    last = task.model[1]
    assert isinstance(last, nn.Linear)
    return (last.weight[1] - last.weight[0]).detach().double().abs().mean().item()


def _plain(curve: Curve) -> dict[str, Any]:
    return {"bare": curve.bare, **{key: value for key, value in curve.plain().items() if key != "layers"}}


def first_above(curve: Curve) -> float:
    """Share of units removed when the error is first above that of the intact network; 1 where it never is.

    >>> first_above(Curve(4, 9.0, removed=[0, 1, 2], error=[2.0, 1.0, 3.0])), first_above(Curve(4, 9.0, error=[1.0]))
    (0.5, 1.0)
    """
    above = (n for n, error in zip(curve.removed, curve.error, strict=False) if error > curve.error[0])
    return next(above, curve.total) / curve.total


def after_failure(curve: Curve) -> float | None:
    """Smallest error, to the intact network's, once the curve has left its flat part; None where it never does.

    >>> round(after_failure(Curve(4, 10.0, removed=[0, 1, 2, 3], error=[1.0, 1.1, 5.0, 0.9])), 2)
    0.9
    """
    flat = round(curve.free_by_error() * curve.total)
    later = [error for n, error in zip(curve.removed, curve.error, strict=True) if n > flat]
    return min(later) / curve.error[0] if later else None


def gain(curve: Curve) -> float:
    """By how much the error is lower at its lowest than at the start, relative."""
    return 1 - min(curve.error) / curve.error[0]


def _numbers(curves: list[dict[str, Curve]]) -> dict[str, Any]:
    """What the claims are judged by; the networks are those of the digits 0, 1 and 2."""
    zero, one, two = curves
    brute = [each["brute force"] for each in curves]
    taylor = [one["linear"], one["quadratic"]]
    return {
        "lowest_within_10": [min(each.error[1:11]) / each.error[0] for each in brute],
        **{f"first_above_{digit}": first_above(each) for digit, each in enumerate(brute)},
        "quadratic_over_linear_0": _over(zero, "quadratic", "linear"),
        "linear_within_5_0": max(zero["linear"].error[1:6]) / zero["linear"].error[0],
        "taylor_free_1": [each.free_by_error() for each in taylor],
        "taylor_after_failure_1": [low for each in taylor if (low := after_failure(each)) is not None] or None,
        "linear_over_quadratic_2": _over(two, "linear", "quadratic"),
        "end_2": two["brute force"].bare / two["brute force"].error[0],
        "gain": [gain(each) for each in brute],
        "twin_gain": [gain(each["twin"]) for each in curves],
        "gain_over_twin": sum(gain(each["brute force"]) - gain(each["twin"]) for each in curves) / len(curves),
        **{f"free_{way.replace(' ', '_')}": _free(curves, way) for way in SHARED},
        **{f"at_60_{way.replace(' ', '_')}": _at_60(curves, way) for way in ("twin", *SHARED, *REFITTED)},
        "held_gain": [1 - min(each.held_error) / each.held_error[0] for each in brute],
        "start_accuracy": [each.accuracy[0] for each in brute],
        "twin_accuracy": [each["twin"].accuracy[0] for each in curves],
    }  # fmt: skip


SHARED = (*CHOICES, "race", "means")
"""Ways whose curves have a point after every removal."""


def _over(curves: Mapping[str, Curve], way: str, other: str) -> float:
    """Mean log error of a way less that of another."""
    return curves[way].mean_log_error() - curves[other].mean_log_error()


REFITTED = ("least squares", "surgeon")
"""Ways whose curves have points only after the numbers of removals that are set."""


def _at_60(curves: list[dict[str, Curve]], way: str) -> float | None:
    """Error without 60 units, to the intact network's, mean over digits; None where that was not measured."""
    found = [curve for each in curves if (curve := each.get(way)) is not None and 60 in curve.removed]
    return sum(c.error[c.removed.index(60)] / c.error[0] for c in found) / len(found) if found else None


def _free(curves: list[dict[str, Curve]], way: str) -> float | None:
    """Mean share of units removed while the error is flat; None where a way was left out."""
    found = [each[way].free_by_error() for each in curves if way in each]
    return sum(found) / len(found) if found else None
