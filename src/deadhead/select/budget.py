"""Budgets: what is to be left, or what may be lost, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deadhead.errors import BudgetError
from deadhead.graph.units.groups import Group


@dataclass(frozen=True)
class Budget:
    """One limit: `kind`, and `value`. Of a size (units, params, macs, memory) that is what is left, a fraction of the
    intact network (float) or a count (int); of latency a fraction; of the loss or the accuracy what may be lost."""

    kind: str
    value: float | int

    @property
    def is_fraction(self) -> bool:
        return isinstance(self.value, float)

    @property
    def is_of_quality(self) -> bool:
        """Whether it says what may be lost, and not what is left."""
        return self.kind.startswith("max_")

    def of(self, total: int) -> int:
        """The count that is to be left of `total`."""
        return round(self.value * total) if self.is_fraction else int(self.value)

    def __str__(self) -> str:
        return f"{self.kind}={self.value}"


def budgets_of(
    units: Mapping[str, float | int], groups: Sequence[Group], select: Callable[[str], Sequence[Group]]
) -> dict[str, Budget]:
    """A budget for each group out of {pattern of module names: fraction or count}; the first pattern that matches
    counts, groups that none matches have no budget and stay whole."""
    budgets: dict[str, Budget] = {}
    wanted = {group.name for group in groups}
    for pattern, value in units.items():
        budget = budget_of(units=value)
        for group in select(pattern):
            if group.name in wanted:
                budgets.setdefault(group.name, budget)
    return budgets


def budget_of(**limits: float | int | None) -> Budget:
    """The one budget that was given.

    A float is a fraction of what is left, in (0, 1]; an integer an absolute count, at least 1. The limits of what may
    be lost are numbers from 0 on, a drop of accuracy below 1.

    Raises `BudgetError` for none, several, or values out of range.

    >>> str(budget_of(units=0.5, params=None))
    'units=0.5'
    """
    given = {name: value for name, value in limits.items() if value is not None}
    if len(given) != 1:
        names = ", ".join(f"{name}=" for name in limits)
        found = ", ".join(given) or "none"
        raise BudgetError(f"Give exactly one budget of {names}; got {found}.")
    ((kind, value),) = given.items()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BudgetError(f"{kind}={value!r} is not a number.")
    if Budget(kind, value).is_of_quality:
        if not (0 <= value < (1 if kind == "max_accuracy_drop" else math.inf)):
            of = "a fraction of the rows, from 0 to below 1" if kind == "max_accuracy_drop" else "a number from 0 on"
            raise BudgetError(f"{kind}={value} is out of range: it is {of}.")
        return Budget(kind, float(value))
    if kind == "latency" and isinstance(value, int):
        raise BudgetError(f"latency={value} is out of range: it is the fraction that is left, in (0, 1], a float.")
    if isinstance(value, float) and not 0 < value <= 1:
        hint = f" For a count, give an integer: {kind}={int(value)}." if value > 1 and value.is_integer() else ""
        raise BudgetError(f"{kind}={value} is out of range: a float is the fraction that is left, in (0, 1].{hint}")
    if isinstance(value, int) and value < 1:
        raise BudgetError(f"{kind}={value} is out of range: an integer is the count that is left, at least 1.")
    return Budget(kind, value)
