"""Budgets: what has to remain of a size, or by how much the quality may drop; a registry of kinds, and one limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deadhead.errors import BudgetError
from deadhead.graph.units.groups import Group
from deadhead.registry import Entry, Registry
from deadhead.select.sizes import Sizes


@dataclass(frozen=True)
class Kind(Entry):
    """A kind of budget by name.

    Attributes:
        of: "size": the function returns what remains when `removed[group]` units of each group are removed, from
            `(sizes, removed)`; "quality": it returns what is lost, from the measured points `(intact, now)`.
        weighed_by: the size that a unit's saliency is set against where groups compete; None: against nothing.
        counted: whether the size is known without measuring, so that it can be spent as a knapsack and be given as a
            count (int); a size that is measured is given as a fraction (float).
        below: what a value of a "quality" must be below.
    """

    of: str = "size"
    weighed_by: str | None = None
    counted: bool = True
    below: float = math.inf


BUDGETS: Registry[Kind] = Registry("budget", "budgets", BudgetError)
Function = Callable[..., Any]


def budget(name: str, *, of: str = "size", **facts: Any) -> Callable[[Function], Function]:
    """Register a kind of budget; `prune(..., <name>=0.5)` and `deadhead prune --budget <name>=0.5` then take it.

    Args:
        name: what it is called by.
        of: "size" or "quality", as `Kind` says.
        facts: `weighed_by` (by default the size itself), `counted`, `below`.
    """

    def register(function: Function) -> Function:
        weighed_by = facts.pop("weighed_by", name if of == "size" else "params")
        BUDGETS.add(Kind(name, function, of, weighed_by, **facts))
        return function

    return register


@budget("units", weighed_by=None)
def units(sizes: Sizes, removed: Mapping[str, int]) -> int:
    """The units that remain: of every group by itself, or of all groups together with scope="all"."""
    return sizes.units(removed)


@budget("params")
def params(sizes: Sizes, removed: Mapping[str, int]) -> int:
    """The parameters that remain."""
    return sizes.parameters(removed)


@budget("macs")
def macs(sizes: Sizes, removed: Mapping[str, int]) -> int:
    """The multiply-adds of one sample that remain."""
    return sizes.macs(removed)


@budget("memory")
def memory(sizes: Sizes, removed: Mapping[str, int]) -> int:
    """The bytes of parameters, buffers and the maximum of activations of one sample that are alive at once."""
    return sizes.memory(removed)


@budget("latency", weighed_by="macs", counted=False)
def latency(sizes: Sizes, removed: Mapping[str, int]) -> int:
    """The time of a forward pass here, measured on trial cuts."""
    return sizes.nanoseconds(removed)


@budget("max_loss_increase", of="quality")
def max_loss_increase(intact: Any, now: Any) -> float:
    """By how much the loss on held-out samples may rise, in its own unit."""
    return float(now.loss - intact.loss)


@budget("max_accuracy_drop", of="quality", below=1.0)
def max_accuracy_drop(intact: Any, now: Any) -> float:
    """By how much the accuracy on held-out samples may drop: 0.01 is one point."""
    if intact.accuracy is None or now.accuracy is None:
        raise BudgetError("max_accuracy_drop needs targets that are classes; give max_loss_increase.")
    return float(intact.accuracy - now.accuracy)


@dataclass(frozen=True)
class Budget:
    """One limit of a kind.

    Attributes:
        kind: the kind's name; "plan" where the caller names the units.
        value: of a size what remains, a fraction of the intact network (float) or a count (int); of a quality what may
            be lost.
    """

    kind: str
    value: float | int

    @property
    def is_fraction(self) -> bool:
        """Whether the value is a fraction of the intact network."""
        return isinstance(self.value, float)

    @property
    def is_of_quality(self) -> bool:
        """Whether the budget limits what may be lost, and not what remains."""
        return self.kind in BUDGETS and BUDGETS[self.kind].of == "quality"

    def target(self, total: int) -> int:
        """The count that has to remain of `total`."""
        return round(self.value * total) if self.is_fraction else int(self.value)

    def remaining(self, sizes: Sizes, removed: Mapping[str, int]) -> int:
        """What remains when `removed[group]` units of each group are removed."""
        return int(BUDGETS[self.kind].function(sizes, removed))

    def allows(self, intact: Any, now: Any) -> bool:
        """Whether no more is lost between two measured points than the budget allows; sizes allow everything."""
        return not self.is_of_quality or BUDGETS[self.kind].function(intact, now) <= self.value

    def __str__(self) -> str:
        return f"{self.kind}={self.value}"


def budget_of(**limits: float | int | None) -> Budget:
    """The one budget that was given.

    Args:
        limits: {kind: value}, with None for those that were not given. Of a size, a float is the fraction that remains,
            in (0, 1], an integer the count, at least 1; of a quality, it is a number from 0 on.

    Raises:
        BudgetError: where none or several were given, or the value is out of range.

    Example:
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
        raise BudgetError(f"{kind}={value!r} is not a number; give a fraction or a count.")
    if kind != "plan" and BUDGETS[kind].of == "quality":
        return _quality(kind, value)
    if kind != "plan" and not BUDGETS[kind].counted and isinstance(value, int):
        raise BudgetError(f"{kind}={value} is out of range: it is the fraction that remains, in (0, 1], a float.")
    if isinstance(value, float) and not 0 < value <= 1:
        hint = f" For a count, give an integer: {kind}={int(value)}." if value > 1 and value.is_integer() else ""
        raise BudgetError(f"{kind}={value} is out of range: a float is the fraction that remains, in (0, 1].{hint}")
    if isinstance(value, int) and value < 1:
        raise BudgetError(f"{kind}={value} is out of range: an integer is the count that remains, at least 1.")
    return Budget(kind, value)


def _quality(kind: str, value: float | int) -> Budget:
    below = BUDGETS[kind].below
    if not 0 <= value < below:
        of = "a number from 0 on" if below == math.inf else f"a number from 0 to below {below:g}"
        raise BudgetError(f"{kind}={value} is out of range: it is {of}.")
    return Budget(kind, float(value))


def budgets_of(
    units: Mapping[str, float | int], groups: Sequence[Group], select: Callable[[str], Sequence[Group]]
) -> dict[str, Budget]:
    """The budgets of single groups, from {pattern of module names: fraction or count}.

    Args:
        units: the budgets by pattern; of several that match a group, the first counts.
        groups: the groups that can be pruned.
        select: the groups that a pattern matches.

    Returns:
        {group: its budget}; groups that no pattern matches are not pruned.
    """
    budgets: dict[str, Budget] = {}
    wanted = {group.name for group in groups}
    for pattern, value in units.items():
        budget = budget_of(units=value)
        for group in select(pattern):
            if group.name in wanted:
                budgets.setdefault(group.name, budget)
    return budgets
