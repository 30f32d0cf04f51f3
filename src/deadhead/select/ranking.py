"""Ranking: from saliencies to the order in which units would go, and the plan of any part of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deadhead.errors import BudgetError
from deadhead.graph.units.groups import Group
from deadhead.select.budget import Budget
from deadhead.select.plan import Plan, plan_of

NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda saliency: saliency,
    "mean": lambda saliency: saliency / _scale(saliency.abs().mean()),
    "max": lambda saliency: saliency / _scale(saliency.abs().max()),
    "l2": lambda saliency: saliency / _scale(saliency.square().sum().sqrt()),
    "rank": lambda saliency: saliency.argsort(stable=True).argsort() / len(saliency),
}
"""How saliencies of a group can be made comparable with those of others."""


def _scale(value: Tensor) -> Tensor:
    return value.clamp(min=1e-300)


def remaining_of(size: int, wanted: int, round_to: int, min_units: int) -> int:
    """How many of `size` units remain when `wanted` should: at least `min_units`, and a multiple of `round_to` (rounded
    up) where the group is large enough for one.

    >>> remaining_of(32, 13, 8, 1), remaining_of(6, 3, 8, 1), remaining_of(4, 0, 1, 1)
    (16, 6, 1)
    """
    remaining = max(wanted, min_units, 1)
    remaining = -(-remaining // round_to) * round_to
    return min(remaining, size)


@dataclass(frozen=True)
class Constraints:
    """What every selection keeps to.

    Attributes:
        normalize: how saliencies of different groups are made comparable, one of `NORMALISATIONS`.
        round_to: multiples of this many units of each group remain.
        min_units: at least this many units of each group remain.
        multiples: {group: a number of its own of which multiples remain}.
        minimum: {group: how many of its units must remain}, where that is more than one.
    """

    normalize: str = "none"
    round_to: int = 1
    min_units: int = 1
    multiples: Mapping[str, int] = field(default_factory=dict)
    minimum: Mapping[str, int] = field(default_factory=dict)

    def remaining(self, name: str, size: int, wanted: int) -> int:
        """How many of a group's `size` units remain when `wanted` should."""
        floor = max(self.min_units, self.minimum.get(name, 1))
        return remaining_of(size, wanted, math.lcm(self.round_to, self.multiples.get(name, 1)), floor)


@dataclass(frozen=True)
class Ranking:
    """Units as (group, unit) in the order of removal; `sizes` of the groups, and the constraints that any part of the
    order keeps to."""

    order: Sequence[tuple[str, int]]
    sizes: Mapping[str, int]
    constraints: Constraints

    def counts(self, number: int) -> dict[str, int]:
        """How many units of each group go when the first `number` should: fewer, where multiples stay."""
        counts: dict[str, int] = {}
        for name, _ in self.order[:number]:
            counts[name] = counts.get(name, 0) + 1
        sizes = self.sizes
        return {
            name: sizes[name] - self.constraints.remaining(name, sizes[name], sizes[name] - n)
            for name, n in counts.items()
        }

    def plan(self, number: int) -> Plan:
        """The plan that removes the first `number` units, or fewer, where multiples stay."""
        counts, taken, chosen = self.counts(number), dict.fromkeys(self.sizes, 0), []
        for name, unit in self.order[:number]:
            taken[name] += 1
            if taken[name] <= counts[name]:
                chosen.append((name, unit))
        return plan_of(chosen)


def evenly(
    groups: Sequence[Group], saliencies: Mapping[str, Tensor], budgets: Mapping[str, Budget], constraints: Constraints
) -> Ranking:
    """The least salient units of each group until its budget is left, from all groups in step: a fraction `f` keeps
    `max(1, round(f K))` of K units, a count keeps that many; groups without a budget stay whole."""
    entries: list[tuple[float, float, str, int]] = []
    for group in groups:
        if group.name in budgets:
            saliency = saliencies[group.name]
            gone = group.size - constraints.remaining(group.name, group.size, budgets[group.name].target(group.size))
            ranks = torch.argsort(saliency, stable=True)[:gone].tolist()
            entries += [((i + 1) / gone, saliency[unit].item(), group.name, unit) for i, unit in enumerate(ranks)]
    order = [(name, unit) for *_, name, unit in sorted(entries, key=lambda entry: entry[:2])]
    return Ranking(order, {group.name: group.size for group in groups}, constraints)


def overall(
    groups: Sequence[Group],
    saliencies: Mapping[str, Tensor],
    constraints: Constraints,
    weights: Mapping[str, float] | None = None,
) -> Ranking:
    """The units of all groups by saliency, normalised as the constraints say and divided by the weight of their group,
    until each group is down to its minimum.

    Source: 002 Algorithm 1, single overall ranking.
    """
    entries: list[tuple[float, str, int]] = []
    for group in groups:
        saliency = saliencies[group.name]
        finite = torch.isfinite(saliency)
        comparable = saliency.clone()
        if finite.any():
            comparable[finite] = NORMALISATIONS[constraints.normalize](saliency[finite].double()).to(comparable.dtype)
        ranks = torch.argsort(saliency, stable=True)
        most = group.size - constraints.remaining(group.name, group.size, 0)
        weight = 1.0 if weights is None else weights[group.name]
        entries += [(comparable[unit].item() / weight, group.name, int(unit)) for unit in ranks[:most]]
    entries.sort(key=lambda entry: entry[0])
    return Ranking(
        [(name, unit) for _, name, unit in entries], {group.name: group.size for group in groups}, constraints
    )


def reaching(ranking: Ranking, budget: Budget, left: Callable[[Mapping[str, int]], int]) -> int:
    """How many units of a ranking have to go until `left(units removed of each group)` is within the budget.

    Raises `BudgetError` where the budget cannot be reached.
    """
    total, fewest = left({}), left(ranking.counts(len(ranking.order)))
    target = budget.target(total)
    if fewest > target:
        raise BudgetError(
            f"The budget {budget} asks for {target:,} of {total:,}, but with every group down to its smallest, "
            f"{fewest:,} are left; raise the budget, or lower min_units or round_to."
        )
    low, high = 0, len(ranking.order)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if left(ranking.counts(middle)) <= target else (middle + 1, high)
    return low
