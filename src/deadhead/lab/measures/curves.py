"""Removal curves: what the error and the accuracy of a network become, unit after unit, by several ways to choose."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from deadhead.compensate import Problem, compensate
from deadhead.data.calibration import Batch, as_batch, calibrate
from deadhead.data.opened import opened
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network, trace
from deadhead.lab.networks.tasks import Task, accuracy
from deadhead.progress import Progress, track
from deadhead.reconstruction.march import choose_and_compensate
from deadhead.reconstruction.weighing import Weighing
from deadhead.scores.criterion import Question, ask
from deadhead.select.brute_force.oracle import oracle
from deadhead.select.plan import plan_of

Unit = tuple[str, int]
"""Group and index."""

LOSS = "squared_error"

WAYS: dict[str, dict[str, Any]] = {
    "brute force": {"criterion": "oracle"},
    "linear": {"criterion": "taylor1"},
    "quadratic": {"criterion": "taylor2"},
    "quadratic, mean threshold": {"criterion": "taylor2", "threshold": "mean"},
    "quadratic, median threshold": {"criterion": "taylor2", "threshold": "median"},
    "exact quadratic": {"criterion": "taylor2_exact"},
}
"""Ways to choose the next unit: the smallest score by a criterion. The first three are the paper's."""


@dataclass
class Curve:
    """Error and accuracy of a network without its first units of an order.

    Attributes:
        total: units of the network.
        bare: error with no unit left, on the data that decides.
        order: (group, unit), the first to be removed first; empty where networks of the curve share no order.
        layers: the hidden layer of each unit of the order, from 0.
        removed: how many units are removed at each point; 0 first.
        error: mean of `1/2 sum (o - t)^2` on the data that decides, at each point.
        held_error: the same on held-out data.
        accuracy: on the data that decides; empty without classes.
        held_accuracy: on held-out data; empty without classes.
    """

    total: int
    bare: float
    order: list[Unit] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    held_error: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    held_accuracy: list[float] = field(default_factory=list)

    def free_by_error(self, rise: float = 0.05, *, held: bool = False) -> float:
        """Share of units removed before the error first passes start + rise x (error with no unit - start).

        Args:
            rise: 5 % by default.
            held: judge by held-out data.

        >>> Curve(4, 10.0, removed=[0, 1, 2, 3], error=[0.0, 0.1, 0.2, 5.0]).free_by_error()
        0.5
        """
        errors = self.held_error if held else self.error
        limit = errors[0] + rise * (self.bare - errors[0])
        return self._before([error > limit for error in errors])

    def free_by_accuracy(self, drop: float = 0.01, *, held: bool = False) -> float:
        """Share of units removed before the accuracy is first down by more than `drop`.

        Args:
            drop: one point by default.
            held: judge by held-out data.

        >>> Curve(4, 1.0, removed=[0, 1, 2], accuracy=[1.0, 0.995, 0.8]).free_by_accuracy()
        0.25
        """
        rights = self.held_accuracy if held else self.accuracy
        return self._before([right < rights[0] - drop - 1e-9 for right in rights])

    def mean_log_error(self, start: int = 0, end: int | None = None) -> float:
        """Mean of the natural logarithm of the error over the points from `start` to before `end`."""
        part = self.error[start:end]
        return sum(math.log(max(error, 1e-300)) for error in part) / len(part)

    def plain(self, digits: int = 4) -> dict[str, Any]:
        """Its numbers to so many significant digits, for results."""

        def short(values: Sequence[float]) -> list[float]:
            return [float(f"{value:.{digits}g}") for value in values]

        return {
            "total": self.total, "removed": self.removed, "layers": self.layers, "error": short(self.error),
            "held_error": short(self.held_error), "accuracy": short(self.accuracy),
            "held_accuracy": short(self.held_accuracy),
        }  # fmt: skip

    def _before(self, passed: Sequence[bool]) -> float:
        last = next((i - 1 for i, is_past in enumerate(passed) if is_past), len(passed) - 1)
        return self.removed[max(last, 0)] / self.total


class Subject:
    """A trained network whose units are removed without retraining, each set to zero as the paper does.

    One unit of each layer always remains, which is the library's minimum.

    Args:
        task: the network and its data.
        decide_on: how many samples of the data decide; all by default. Curves are measured on all.
    """

    def __init__(self, task: Task, decide_on: int | None = None) -> None:
        self.task = task
        self.measured = task.data[0]
        deciding = [tuple(each[:decide_on] for each in self.measured)]
        self.loss, self.batches, self.network = opened(traced(task), deciding, LOSS, None)
        self.all = opened(self.network, task.data, LOSS, None)[1]
        self.held = opened(self.network, task.held, LOSS, None)[1]
        self.place = {group.name: i for i, group in enumerate(self.network.groups)}
        self.total = sum(group.size for group in self.network.groups)
        everything = [(group.name, unit) for group in self.network.groups for unit in range(group.size)]
        self.bare = self._measure(PrunedState.of(self.network, plan_of(everything)), self.all[0])[0]

    def batch(self, inputs: Tensor) -> Batch:
        """Other inputs of the network, as what a `PrunedState` gives outputs for."""
        return as_batch((inputs,))

    def scores(self, criterion: str, order: Sequence[Unit] = (), **options: Any) -> dict[str, Tensor]:
        """Scores of all units in the network without those of `order`, on the data that decides.

        Args:
            criterion: by name.
            order: what is removed already.
            options: of `Question`, such as threshold.
        """
        state = PrunedState.of(self.network, plan_of(order))
        return ask(Question(state, self.network.groups, self.batches, self.loss, **options), criterion)

    def order(
        self, criterion: str, *, rerank: bool = True, progress: Progress | None = None, **options: Any
    ) -> list[Unit]:
        """The order in which units are removed by a criterion, the smallest score first.

        Args:
            criterion: by name.
            rerank: score the remaining units after each removal (algorithm 2), or once (algorithm 1).
            progress: called after each removal.
            options: of `Question`, such as threshold.

        Source: Wolfe et al. (2016), algorithms 1 and 2.
        """
        if criterion == "oracle" and rerank and not options:
            return oracle(self.network, self._deciding, loss=LOSS, samples=None, progress=progress).order
        order: list[Unit] = []
        scores = {} if rerank else self.scores(criterion, **options)
        for _ in track(progress, criterion, range(self.total - len(self.place))):
            order.append(smallest(self.scores(criterion, order, **options) if rerank else scores, order))
        return order

    def race(self, *, seed: int = 0, progress: Progress | None = None) -> list[Unit]:
        """The order of brute force by a race, which tries most units on few samples."""
        found = oracle(self.network, self._deciding, loss=LOSS, exact=False, samples=None, seed=seed, progress=progress)
        return found.order

    def curve(self, order: Sequence[Unit], progress: Progress | None = None) -> Curve:
        """Error and accuracy after each removal of an order, removed units giving zero."""
        curve = self._empty(order)
        for count in track(progress, "curve", range(len(order) + 1)):
            self._add(curve, count, PrunedState.of(self.network, plan_of(order[:count])))
        return curve

    def by_means(self, progress: Progress | None = None) -> Curve:
        """Brute force with removed units replaced by their mean, re-ranked: both the choice and the curve."""
        order: list[Unit] = []
        states = [PrunedState.of(self.network)]
        for _ in track(progress, "means", range(self.total - len(self.place))):
            question = Question(states[-1], self.network.groups, self.batches, self.loss, reference="mean")
            order.append(smallest(ask(question, "oracle"), order))
            states.append(self._compensated(order, "mean"))
        curve = self._empty(order)
        for count, state in enumerate(states):
            self._add(curve, count, state)
        return curve

    def refitted(self, order: Sequence[Unit], counts: Sequence[int], progress: Progress | None = None) -> Curve:
        """The units of an order removed, and the weights that read the others refitted by least squares."""
        curve = self._empty(order)
        for count in track(progress, "least squares", counts):
            self._add(curve, count, self._compensated(order[:count], "least_squares"))
        return curve

    def by_surgeon(self, counts: Sequence[int], progress: Progress | None = None) -> Curve:
        """The optimal brain surgeon: units chosen for what the refitted rest loses, and refitted, as by `dh.prune`.

        Each point chooses anew, so that the points share no order.
        """
        curve, calibration, groups = self._empty([]), calibrate(self.batches), self.network.groups
        question = Question(PrunedState.of(self.network), groups, calibration.fit, self.loss)
        weighing = Weighing(question.gates_without_references(), groups, calibration.fit, progress=progress)
        scores, ranked = ask(question, "obs", weighing=weighing), list[Unit]()
        while len(ranked) < max(counts):
            ranked.append(smallest(scores, ranked))
        for count in track(progress, "surgeon", counts):
            state = PrunedState.of(self.network)
            if count:
                plan = plan_of(ranked[:count])
                chosen, _, start = choose_and_compensate(self.network, groups, plan.removed, calibration, weighing)
                plan = plan.with_units(chosen, {})
                problem = Problem(self.network, groups, plan, calibration, self.loss, start=start)
                state = PrunedState.of(self.network, plan, compensate(problem, "gauss_newton", {}))
            self._add(curve, count, state)
        return curve

    @property
    def _deciding(self) -> list[Any]:
        return [batch.raw for batch in self.batches]

    def _compensated(self, order: Sequence[Unit], method: str) -> PrunedState:
        plan = plan_of(order)
        if not order:
            return PrunedState.of(self.network)
        problem = Problem(self.network, self.network.groups, plan, calibrate(self.batches), self.loss)
        return PrunedState.of(self.network, plan, compensate(problem, method, {}))

    def _empty(self, order: Sequence[Unit]) -> Curve:
        return Curve(self.total, self.bare, list(order), [self.place[name] for name, _ in order])

    def _add(self, curve: Curve, count: int, state: PrunedState) -> None:
        found, held = self._measure(state, self.all[0]), self._measure(state, self.held[0])
        curve.removed.append(count)
        curve.error.append(found[0])
        curve.held_error.append(held[0])
        if self.task.has_classes:
            curve.accuracy.append(found[1])
            curve.held_accuracy.append(held[1])

    @staticmethod
    def _measure(state: PrunedState, batch: Batch) -> tuple[float, float]:
        outputs = state.outputs(batch)
        assert isinstance(outputs, Tensor)
        error = (outputs - batch.targets).double().square().sum(1).mean().item() / 2
        return error, accuracy(outputs, batch.targets)


def traced(task: Task) -> Network:
    """The network of a task, traced once for all networks of the same layers: graphs don't depend on weights."""
    layers = repr(task.model)
    if layers not in _TRACED:
        _TRACED[layers] = trace(task.model, task.inputs[:2])
    network = copy.copy(_TRACED[layers])
    network.module = task.model
    return network


_TRACED: dict[str, Network] = {}


def smallest(scores: Mapping[str, Tensor], order: Sequence[Unit]) -> Unit:
    """The unit with the smallest score among those that can be removed: one of each layer always remains.

    >>> import torch
    >>> smallest({"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([5.0, 4.0])}, [("a", 1)])
    ('b', 1)
    """
    gone: dict[str, list[int]] = {name: [] for name in scores}
    for name, unit in order:
        gone[name].append(unit)
    best: tuple[float, Unit] | None = None
    for name, values in scores.items():
        if len(values) - len(gone[name]) > 1:
            open_ = values.clone()
            open_[gone[name]] = math.inf
            unit = int(open_.argmin())
            if best is None or open_[unit].item() < best[0]:
                best = open_[unit].item(), (name, unit)
    assert best is not None
    return best[1]


def by_ways(
    subject: Subject, names: Sequence[str], *, rerank: bool = True, progress: Progress | None = None
) -> dict[str, Curve]:
    """The curves of several of `WAYS`, by name."""
    found = {}
    for name in names:
        order = subject.order(**WAYS[name], rerank=rerank, progress=progress)
        found[name] = subject.curve(order)
    return found


def beyond_zeros(
    subject: Subject, order: Sequence[Unit], step: int, *, seed: int = 0, progress: Progress | None = None
) -> dict[str, Curve]:
    """What the paper lacks, by name: means in place of units, least squares after brute force's order, the optimal
    brain surgeon, and the race.

    Args:
        subject: the network.
        order: brute force's.
        step: units between the points of the surgeon and least squares.
        seed: of the race.
        progress: called on the way.
    """
    counts = [*range(0, len(order), step), len(order)]
    return {
        "means": subject.by_means(progress),
        "least squares": subject.refitted(order, counts, progress),
        "surgeon": subject.by_surgeon(counts, progress),
        "race": subject.curve(subject.race(seed=seed, progress=progress)),
    }
