"""Schedules: how much of a network remains after which epoch or step of its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deadhead.errors import BudgetError, DataError
from deadhead.pruning.options import SCOPES
from deadhead.select.budget import BUDGETS, budget_of

EVERY = ("epoch", "step")
WEIGHTS = "weights"
"""The budget of single weights, which `Masks.prune` knows beside those of units."""

Remaining = float | int | Mapping[str, float | int]
"""What remains: a fraction of the intact network, a count, or one for each group by pattern."""


@dataclass(frozen=True)
class Schedule:
    """What remains of the intact network after which epoch or step.

    Args:
        points: {epoch or step: what remains after it}, or a function from the number of epochs or steps that are done
            to what remains then, None where nothing is to be done. A fraction f of K units keeps round(f K), and at
            least one; where another rounding is wanted, give counts: {5: {"conv1": 4, "conv2": 7, "fc1": 26}}.
        every: what is counted, "epoch" or "step".
        budget: of what: "units" of each group (of all together with scope="all"), "params", "macs", "memory", or
            "weights", single ones.
        scope: "group" or "all", as in `deadhead.prune`.

    Raises:
        BudgetError: a value is out of range, or what remains grows.
        DataError: there is no such word.

    Source:
        Evci (2018), tables 2.2 and 4.2, whose fractions say what is removed.

    Example:
        >>> schedule = Schedule({2: 0.9, 3: 0.8, 4: 0.6, 5: 0.4})  # Evci's table 4.2
        >>> [schedule.at(epoch) for epoch in range(1, 7)]
        [None, 0.9, 0.8, 0.6, 0.4, None]
    """

    points: Mapping[int, Remaining] | Callable[[int], Remaining | None]
    every: str = "epoch"
    budget: str = "units"
    scope: str = "group"

    def __post_init__(self) -> None:
        if self.every not in EVERY:
            raise DataError(f"A schedule counts every {self.every!r}; it counts every {' or '.join(EVERY)}.")
        if self.scope not in SCOPES:
            raise DataError(f"There is no scope {self.scope!r}; the scopes are {' and '.join(SCOPES)}.")
        known = [name for name in BUDGETS if BUDGETS[name].of == "size" and BUDGETS[name].counted]
        if self.budget not in (*known, WEIGHTS):
            raise BudgetError(f"A schedule has no budget {self.budget!r}; the budgets are {', '.join(known)}, weights.")
        if callable(self.points):
            return
        if not self.points:
            raise DataError("The schedule is empty; give {epoch: what remains after it}.")
        for when, value in self.points.items():
            if isinstance(when, bool) or not isinstance(when, int) or when < 1:
                raise DataError(f"The schedule has {self.every} {when!r}; they are counted from 1.")
            self._check(value)
        for values in self._series():
            if values != sorted(values, reverse=True):
                raise BudgetError(
                    f"The schedule says what REMAINS, and it grows: {', '.join(map(str, values))}; units that are "
                    "removed are not opened by a schedule."
                )

    def _series(self) -> list[list[float | int]]:
        """What remains in the order of time, of each pattern by itself, fractions and counts apart."""
        assert not callable(self.points)
        series: dict[tuple[str, type], list[float | int]] = {}
        for _, value in sorted(self.points.items(), key=lambda point: point[0]):
            for pattern, each in (value if isinstance(value, Mapping) else {"*": value}).items():
                series.setdefault((pattern, type(each)), []).append(each)
        return list(series.values())

    def _check(self, value: Remaining) -> None:
        for each in value.values() if isinstance(value, Mapping) else [value]:
            budget_of(**{"units" if self.budget == WEIGHTS else self.budget: each})
        if self.budget == WEIGHTS and not isinstance(value, float):
            raise BudgetError(f"weights={value} is out of range: it is the fraction that remains, a float in (0, 1].")

    @classmethod
    def cubic(
        cls, remaining: float, *, start: int, end: int, interval: int = 1, intact: float = 1.0, every: str = "epoch",
        budget: str = "units", scope: str = "group",
    ) -> Schedule:  # fmt: skip
        """The cubic schedule: fast at first, when there is much to remove, and slow in the end.

        `r_t = r_f + (r_i - r_f) (1 - (t - t_0) / (t_1 - t_0))^3` at t_0, t_0 + interval, ..., t_1.

        Args:
            remaining: r_f, what remains in the end, a fraction in (0, 1].
            start: t_0, the first epoch or step, at least 1.
            end: t_1, the last one.
            interval: how many epochs or steps lie between two rounds.
            intact: r_i, what remains at the beginning.
            every: "epoch" or "step".
            budget: of what, as in `Schedule`.
            scope: "group" or "all".

        Source:
            Zhu and Gupta (2017), eq. 1, for the sparsity s = 1 - r.

        Example:
            >>> Schedule.cubic(0.2, start=1, end=5).points
            {1: 1.0, 2: 0.5375, 3: 0.3, 4: 0.2125, 5: 0.2}
        """
        if not 1 <= start <= end or interval < 1:
            raise DataError(
                f"A cubic schedule needs 1 <= start <= end and interval >= 1, not {start}, {end}, {interval}."
            )
        times = sorted({*range(start, end + 1, interval), end})
        points: dict[int, Remaining] = {}
        for time in times:
            share = 1.0 if end == start else (time - start) / (end - start)
            points[time] = round(remaining + (intact - remaining) * (1 - share) ** 3, 12)
        return cls(points, every, budget, scope)

    def at(self, time: int) -> Remaining | None:
        """What remains after so many epochs or steps; None where nothing is to be done then.

        Args:
            time: how many are done.
        """
        if callable(self.points):
            value = self.points(time)
            if value is not None:
                self._check(value)
            return value
        return self.points.get(time)

    def options(self, value: Remaining) -> dict[str, Any]:
        """The options of `Masks.prune` for what remains."""
        return {self.budget: value, "scope": self.scope}
