"""Candidates: networks after a plan, compensated and measured before anything is cut from the user's module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from deadhead.compensate import Problem, compensate
from deadhead.cut.cut import cut
from deadhead.cut.repair import Repair
from deadhead.data.calibration import Batch
from deadhead.data.losses import accuracy
from deadhead.errors import LossError
from deadhead.graph.network import Network
from deadhead.pruning.measure import latency
from deadhead.pruning.options import Options
from deadhead.pruning.record import Point
from deadhead.reconstruction.compensation import Compensation
from deadhead.reconstruction.march import choose_and_compensate
from deadhead.reconstruction.weighing import Weighing
from deadhead.select.plan import Plan, plan_of
from deadhead.select.sizes import Sizes


@dataclass
class Candidates:
    """Networks after a plan, compensated and measured.

    Attributes:
        problem: what a compensation is asked, for an empty plan.
        options: those of the prune.
        sizes: the size of the network after a plan.
        weighing: what errors of consumers cost, where the units of a plan are chosen again front to back; else None.
        points: what was measured, the intact network first.
    """

    problem: Problem
    options: Options
    sizes: Sizes
    weighing: Weighing | None = None
    points: list[Point] = field(default_factory=list)
    _last: tuple[object, Plan, Compensation] | None = None

    def compensated(self, plan: Plan, *, final: bool = True) -> tuple[Plan, Compensation]:
        """A plan and its compensation; those of the last call are remembered.

        Args:
            plan: the units that are removed.
            final: whether this could be the result; False where it is re-ranked.

        Returns:
            The plan, with other units of the same groups where they are chosen front to back, and the compensation.
        """
        method = self.options.compensate if final else self.options.compensate_between
        key = (list(plan.order), method)
        if self._last is None or self._last[0] != key:
            self._last = (key, *self._compensate(plan, method))
        return self._last[1:]

    def _compensate(self, plan: Plan, method: str) -> tuple[Plan, Compensation]:
        own = self.options.compensate_options if method == self.options.compensate else {}
        if not plan.count:
            return plan, Compensation()
        problem = replace(self.problem, plan=plan)
        if self.weighing is None:
            return plan, compensate(problem, method, own)
        units, scores, found = choose_and_compensate(
            problem.network, problem.groups, plan.removed, problem.calibration, self.weighing, problem.progress
        )
        problem = replace(problem, plan=plan.with_units(units, scores), start=found)
        after = self.options.method.after is not None
        return problem.plan, compensate(problem, method, own) if after else found

    def measure(self, plan: Plan, *, final: bool = True) -> Point:
        """Measure size, mean loss and accuracy on the held-out samples after a plan, compensated; adds the point to
        `points`."""
        plan, found = self.compensated(plan, final=final)
        problem, total, right, samples = self.problem, 0.0, 0.0, 0
        state = replace(problem, plan=plan).state(found)
        for batch in problem.calibration.held_out:
            batch = batch.to(problem.network.device())
            with torch.no_grad():
                outputs = state.outputs(batch)
                losses = problem.loss.per_sample(outputs, batch)
            hits = accuracy(outputs, batch)
            total, samples = total + losses.double().sum().item(), samples + batch.rows
            right += float("nan") if hits is None else hits.sum().item()
        counts = {name: len(units) for name, units in plan.removed.items()}
        point = Point(
            units=self.sizes.units(counts),
            parameters=self.sizes.parameters(counts),
            macs=self.sizes.macs(counts),
            loss=total / samples,
            accuracy=None if right != right else right / samples,
        )
        self.points.append(point)
        return point

    def accepts(self, plan: Plan) -> bool:
        """Measure a plan, and say whether it loses no more than the budget allows; a size in one round is not asked."""
        if self.options.in_one_round and not self.options.budget.is_of_quality:
            return True
        intact, now = self.intact, self.measure(plan, final=False)
        accepted = self.options.budget.allows(intact, now)
        if not accepted:
            self.points[-1] = replace(now, purpose="refused")
        return accepted

    @property
    def intact(self) -> Point:
        """The intact network's point, the first."""
        if not self.points:
            first = self.measure(plan_of([]))
            if not first.loss < float("inf"):
                raise LossError(
                    f"The loss {self.problem.loss.name} is not finite on the held-out samples; check the weights, the "
                    "inputs and the targets."
                )
        return self.points[0]

    def curve(self, result: Plan) -> list[Point]:
        """The points that were measured, from the intact network on: one of each size, that of the result marked."""
        remaining = self.sizes.units({}) - result.count
        found = {point.units: point for point in self.points}
        if remaining in found:
            found[remaining] = replace(found[remaining], purpose="result")
        return sorted(found.values(), key=lambda point: -point.units)


class TrialCuts:
    """The time of a forward pass of smaller networks, each measured once.

    Args:
        network: the intact network.
        repairs: the numbers of its class that follow a cut.
        batch: what the pass is run on.
    """

    def __init__(self, network: Network, repairs: Sequence[Repair], batch: Batch) -> None:
        self._network, self._repairs, self._batch = network, repairs, batch
        self._seconds: dict[tuple[tuple[str, int], ...], float] = {}

    def nanoseconds(self, removed: Mapping[str, int]) -> int:
        """The time without `removed[group]` units of each group."""
        key = tuple(sorted(removed.items()))
        if key not in self._seconds:
            plan = plan_of([(name, unit) for name, count in removed.items() for unit in range(count)])
            module = cut(self._network, plan, repairs=self._repairs) if plan.count else self._network.module
            self._seconds[key] = latency(self._network, module, self._batch)[0]
        return round(1e9 * self._seconds[key])
