"""Trials: what a plan would give, before it is carried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from deadhead.compensate.gauss_newton import refine
from deadhead.compensate.local import compensate
from deadhead.cut.cut import cut
from deadhead.cut.provable import Cutting
from deadhead.data.calibration import Calibration
from deadhead.data.losses import Loss, accuracy
from deadhead.errors import BudgetError, LossError
from deadhead.gates.gates import Gates
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from deadhead.progress import Progress
from deadhead.pruning.measure import latency
from deadhead.pruning.record import Point
from deadhead.reconstruction.compensation import Compensation
from deadhead.reconstruction.march import choose_and_compensate
from deadhead.reconstruction.weighing import Weighing
from deadhead.select.budget import Budget
from deadhead.select.plan import Plan, plan_of
from deadhead.select.sizes import Sizes


@dataclass
class Trials:
    """Plans for one network, compensated by `method`, on the calibration data; `points` keeps what was measured. With
    `piecemeal`, plans on the way to the last one are compensated by least squares where the method is gauss_newton."""

    network: Network
    groups: Sequence[Group]
    calibration: Calibration
    loss: Loss
    method: str
    sizes: Sizes
    cutting: Cutting
    progress: Progress | None = None
    points: list[Point] = field(default_factory=list)
    weighing: Weighing | None = None
    seed: int = 0
    piecemeal: bool = False
    _last: tuple[object, Plan, Compensation] | None = None
    _seconds: dict[tuple[tuple[str, int], ...], float] = field(default_factory=dict)

    def settled(self, plan: Plan, on_the_way: bool = False) -> tuple[Plan, Compensation]:
        """A plan and its compensation; with `weighing`, units are chosen anew, front to back. What was found last is
        kept."""
        refined = self.method == "gauss_newton" and plan.count > 0 and not (on_the_way and self.piecemeal)
        key = (list(plan.order), refined)
        if self._last is None or self._last[0] != key:
            given = (self.network, self.groups)
            if self.weighing is not None and plan.count:
                removed, found = choose_and_compensate(
                    *given, plan.removed, self.calibration, self.weighing, self.progress
                )
                plan = plan.with_units(removed)
            else:
                method = "least_squares" if self.method == "gauss_newton" else self.method
                found = compensate(*given, plan, self.calibration, method, self.progress)
            if refined:
                found = refine(
                    self.network, self.groups, plan, self.calibration, self.loss, found, self.seed, self.progress
                )
            self._last = (key, plan, found)
        return self._last[1:]

    def measure(self, plan: Plan, on_the_way: bool = False) -> Point:
        """The mean loss and the accuracy on the held-out samples with the plan's gates closed, compensated."""
        plan, found = self.settled(plan, on_the_way)
        network, total, right, rows = self.network, 0.0, 0.0, 0
        gates = Gates(
            network, self.loss, state=found.full_state(network), added=found.added, closed=plan.alpha(self.groups)
        )
        for batch in self.calibration.held_out:
            batch = batch.to(network.device())
            with torch.no_grad():
                outputs = gates.outputs({}, batch)
                losses = self.loss.per_sample(outputs, batch)
            hits = accuracy(outputs, batch)
            total, rows = total + losses.double().sum().item(), rows + batch.rows
            right += float("nan") if hits is None else hits.sum().item()
        counts = {name: len(units) for name, units in plan.removed.items()}
        point = Point(
            units=self.sizes.units(counts),
            parameters=self.sizes.parameters(counts),
            macs=self.sizes.macs(counts),
            loss=total / rows,
            accuracy=None if right != right else right / rows,
        )
        self.points.append(point)
        return point

    def within(self, budget: Budget, plan: Plan) -> bool:
        """Measure a plan, and say whether it loses no more than a budget allows."""
        intact, now = self.intact, self.measure(plan, on_the_way=True)
        if not budget.is_of_quality:
            return True
        if budget.kind == "max_loss_increase":
            accepted = now.loss - intact.loss <= budget.value
        elif intact.accuracy is None or now.accuracy is None:
            raise BudgetError("max_accuracy_drop needs targets that are classes; give max_loss_increase.")
        else:
            accepted = intact.accuracy - now.accuracy <= budget.value
        if not accepted:
            self.points[-1] = replace(now, purpose="refused")
        return accepted

    @property
    def intact(self) -> Point:
        """The intact network's point, the first."""
        if not self.points:
            first = self.measure(plan_of([]))
            if not first.loss < float("inf"):
                raise LossError(f"The loss {self.loss.name} is not finite on the held-out samples.")
        return self.points[0]

    def curve(self, result: Plan) -> list[Point]:
        """The points measured, from the intact network on, those of equal size once, that of the result marked."""
        left = self.sizes.units({}) - result.count
        found = {point.units: point for point in self.points}
        if left in found:
            found[left] = replace(found[left], purpose="result")
        return sorted(found.values(), key=lambda point: -point.units)

    def nanoseconds(self, removed: Mapping[str, int]) -> int:
        """The time of a forward pass without `removed[group]` units of each group."""
        key = tuple(sorted(removed.items()))
        if key not in self._seconds:
            plan = plan_of([(name, unit) for name, count in removed.items() for unit in range(count)])
            module = self.network.module
            if plan.count:
                module = cut(self.network, plan, Compensation(), self.cutting.repairs)
            self._seconds[key] = latency(self.network, module, self.calibration.held_out[0])[0]
        return round(1e9 * self._seconds[key])
