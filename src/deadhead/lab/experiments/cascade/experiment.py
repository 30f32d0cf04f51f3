"""Networks that grow by cascade correlation beside networks that are pruned: which is smaller at equal error?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from deadhead.lab.experiments.cascade.claims import CLAIMS, NAMES, TAKEAWAY, VARIANTS
from deadhead.lab.experiments.cascade.figures import PICTURES
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.measures.curves import Curve, Subject
from deadhead.lab.networks.cascade import Cascade, Recipe, grow
from deadhead.lab.networks.tasks import Task, cosine, mnist20, shape, sigmoid_network, train
from deadhead.progress import Progress, track

RISE = 0.05
"""Equal error: start + 5 % of (error with no unit - start), where brute force's flat part is taken to end."""

SMALL_RISE = 0.005
"""The same at a tenth of that rise."""


@dataclass(frozen=True)
class Growth:
    """Settings; those of the tasks are the paper's, those of the growth are choices.

    Args:
        tasks: of `NAMES`, in pairs on the same data where that is so.
        width: units of each hidden layer of the shapes' networks.
        points: of the shapes.
        images: of digits.
        most_epochs: of the training of the shapes' networks, which ends before where it is as good as the paper's.
        candidates: in a pool of cascade correlation.
        candidate_steps: of each candidate.
        output_steps: of the outputs after each unit.
        most: hidden units at which growth ends where the error of the intact network is not met before.
        most_digits: the same for digits, whose units read 400 pixels.
        scratch: widths of hidden layers that are trained from scratch, from small to large, until the error is met.
        scratch_steps: of a training from scratch, of at most 50 samples each for digits and shapes.
    """

    tasks: tuple[str, ...] = tuple(NAMES)
    width: int = 50
    points: int = 5000
    images: int = 5000
    most_epochs: int = 200
    candidates: int = 8
    candidate_steps: int = 150
    output_steps: int = 60
    most: int = 30
    most_digits: int = 15
    scratch: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24)
    scratch_steps: int = 4000


QUICK = {
    "tasks": ("diamond",), "width": 6, "points": 200, "candidates": 3, "candidate_steps": 30, "output_steps": 20,
    "most_epochs": 30, "most": 6, "scratch": (3,), "scratch_steps": 150,
}  # fmt: skip


@experiment("cascade", Growth, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY, variants=VARIANTS)
def cascade(settings: Growth, seed: int, progress: Progress | None) -> dict[str, Any]:
    """How many hidden units a network needs that grows by cascade correlation, and how many pruning leaves, at equal
    error on the same data.

    Six networks are pruned unit by unit by brute force without retraining; the error at which its flat part ends (5 %
    of the way to the error with no unit) is the error that all are compared at. Networks grow on the same data by
    cascade correlation, as published and with outputs that do not read the inputs. Beside them stand pruning with the
    remaining weights refitted (least squares) and with the optimal brain surgeon, and layered networks of the pruned
    one's depth, trained from scratch at the smallest width that meets the error.

    Args:
        settings: see `Growth`.
        seed: of data, starts, orders and candidates.
        progress: called for each task and each unit.

    Returns:
        For each task, hidden units and weights by each way, and curves of the error by the number of units.

    Source: Wolfe et al. (2016), section 5; Fahlman and Lebiere (1990).
    """
    found: dict[str, Any] = {"tasks": {}}
    grown: dict[str, dict[str, Cascade]] = {}
    for name in track(progress, "cascade", settings.tasks):
        task = trained(settings, name, seed, progress)
        subject = Subject(task)
        order = subject.order("oracle", progress=progress)
        curve = subject.curve(order)
        data = task.name.split(",")[0]
        if data not in grown:  # both networks of a pair have the same data
            grown[data] = _grown(settings, task, curve.error[0], seed, progress)
        found["tasks"][name] = _compared(settings, task, subject, curve, grown[data], seed, progress)
    for name in NAMES:
        found |= {f"{name}_{key}": value for key, value in _numbers(found["tasks"].get(name)).items()}
    return found


def trained(s: Growth, name: str, seed: int, progress: Progress | None) -> Task:
    """A task of `NAMES` with its trained network."""
    points: dict[str, Any] = {"points": s.points, "most_epochs": s.most_epochs}
    makers: Mapping[str, Callable[..., Task]] = {
        "cosine10": partial(cosine, (10, 10)),
        "cosine50": partial(cosine, (50, 50)),
        "digits100": partial(mnist20, (100,), 0.998, images=s.images),
        "digits50": partial(mnist20, (50, 50), 1.0, images=s.images),
        "diamond": partial(shape, "diamond", hidden=(s.width, s.width), **points),
        "random": partial(shape, "random shape", hidden=(s.width, s.width), **points),
    }
    return makers[name](seed=seed, progress=progress)


def _grown(s: Growth, task: Task, target: float, seed: int, progress: Progress | None) -> dict[str, Cascade]:
    """Networks that grow on the task's data until they are as good as the intact one, with shortcuts and without."""
    most = s.most_digits if task.name.startswith("digits") else s.most
    recipe = partial(Recipe, s.candidates, s.candidate_steps, output_steps=s.output_steps)
    return {
        name: grow(
            task.inputs, task.targets, recipe(shortcuts=shortcuts), target=target, most=most, seed=seed,
            other=task.held[0], progress=progress, step=f"growth, {name}",
        )
        for name, shortcuts in (("cascade", True), ("layered", False))
    }  # fmt: skip


def _compared(
    s: Growth, task: Task, subject: Subject, curve: Curve, grown: Mapping[str, Cascade], seed: int,
    progress: Progress | None,
) -> dict[str, Any]:  # fmt: skip
    """Hidden units and weights by each way at the error where brute force's flat part ends, and at a smaller one."""
    limit, small = (curve.error[0] + rise * (curve.bare - curve.error[0]) for rise in (RISE, SMALL_RISE))
    widths = [layer.out_features for layer in task.model if isinstance(layer, nn.Linear)]
    pruned, pruned_less = (round(curve.total * curve.free_by_error(rise)) for rise in (RISE, SMALL_RISE))
    by_refit = _last(lambda n: subject.refitted(curve.order, [n]).error[0] <= limit, pruned, len(curve.order))
    by_surgeon = _last(lambda n: subject.by_surgeon([n]).error[0] <= limit, pruned, len(curve.order))
    scratch = _from_scratch(s, task, len(widths) - 1, limit, seed, progress)
    sizes = {name: net.size(limit) for name, net in grown.items()}
    remaining = [width - curve.layers[:pruned].count(i) for i, width in enumerate(widths[:-1])]
    return {
        "intact": curve.total, "start": curve.error[0], "bare": curve.bare, "limit": limit,
        "units": {
            "pruned": curve.total - pruned, "refitted": curve.total - by_refit,
            "surgeon": curve.total - by_surgeon,
            "scratch": None if scratch is None else scratch * (len(widths) - 1), **sizes,
        },
        "units_small_error": {
            "pruned": curve.total - pruned_less, **{name: net.size(small) for name, net in grown.items()},
        },
        "weights": {
            "pruned": _weights([task.inputs.shape[1], *remaining, task.targets.shape[1]]),
            **{name: None if n is None else grown[name].parameters[n] for name, n in sizes.items()},
        },
        "held_error": {
            "pruned": curve.held_error[pruned],
            **{name: None if n is None else grown[name].other_errors[n] for name, n in sizes.items()},
        },
        "most": {name: len(net.units) for name, net in grown.items()},
        "curves": {
            "pruned": [[curve.total - n for n in curve.removed], _short(curve.error), _short(curve.held_error)],
            **{n: [list(range(len(c.errors))), _short(c.errors), _short(c.other_errors)] for n, c in grown.items()},
        },
    }  # fmt: skip


def _last(met: Callable[[int], bool], known: int, most: int) -> int:
    """The largest number of removals that meets a condition, by bisection from one that is known to."""
    low, high = known, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if met(middle) else (low, middle)
    return low


def _from_scratch(s: Growth, task: Task, depth: int, limit: float, seed: int, progress: Progress | None) -> int | None:
    """The smallest width of `depth` hidden layers with which training meets an error; None where none does."""
    x, y = task.inputs, task.targets
    alone = y.shape[1] == 1  # regression, all points in one step

    def reached(model: nn.Module) -> bool:
        with torch.no_grad():
            return bool((model(x) - y).square().sum(1).mean() / 2 <= limit)

    for width in track(progress, "from scratch", s.scratch):
        model = sigmoid_network((x.shape[1], *[width] * depth, y.shape[1]), seed=seed + 1).to(x.dtype)
        size = len(x) if alone else 50
        how: dict[str, Any] = {"learning_rate": 0.01}
        if x.shape[1] > 2:  # digits are trained by their own recipe
            how = {"learning_rate": 1e-3, "loss": "cross_entropy"}
        epochs = -(-s.scratch_steps * size // len(x))
        train(model, x, y, reached, batch_size=size, most_epochs=epochs, seed=seed, **how)
        if reached(model):
            return width
    return None


def _weights(widths: Sequence[int]) -> int:
    """Weights and biases of a layered network."""
    return sum((i + 1) * o for i, o in itertools.pairwise(widths))


def _numbers(task: Mapping[str, Any] | None) -> dict[str, float | None]:
    """What claims and texts read of a task; None where it was not run."""
    ways = ("pruned", "refitted", "surgeon", "scratch", "cascade", "layered")
    small = ("pruned", "cascade", "layered")
    if task is None:
        return dict.fromkeys(("log_ratio", "weights_ratio", *ways, *(f"{way}_small_error" for way in small)))
    # One unit at least is counted, and where growth ends before the error is met, all units that it has.
    grown = task["most"]["cascade"] if task["units"]["cascade"] is None else task["units"]["cascade"]
    heavy = task["weights"]["cascade"]
    return {
        "log_ratio": abs(math.log(max(grown, 1) / max(task["units"]["pruned"], 1))),
        "weights_ratio": None if heavy is None else heavy / task["weights"]["pruned"],
        **{way: task["units"][way] for way in ways},
        **{f"{way}_small_error": task["units_small_error"][way] for way in small},
    }


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
