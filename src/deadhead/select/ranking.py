"""Ranking: from saliencies to the order in which units are removed, and the plan of any part of it."""

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
    """How many units of a group remain, by the constraints.

    Args:
        size: the number of its units.
        wanted: how many should remain.
        round_to: a multiple of this many remains, rounded up, where the group is large enough for one.
        min_units: at least this many remain.

    Example:
        >>> remaining_of(32, 13, 8, 1), remaining_of(6, 3, 8, 1), remaining_of(4, 0, 1, 1)
        (16, 6, 1)
    """
    remaining = max(wanted, min_units, 1)
    remaining = -(-remaining // round_to) * round_to
    return min(remaining, size)


@dataclass(frozen=True)
class Constraints:
    """The constraints that every selection meets.

    Attributes:
        normalize: how saliencies of different groups are made comparable, one of `NORMALISATIONS`.
        round_to: multiples of this many units of each group remain.
        min_units: at least this many units of each group remain.
        multiples: {group: a number of its own of which multiples must remain}.
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
    """The order in which units are removed.

    Attributes:
        order: (group, unit), the first to be removed first.
        sizes: {group: its number of units in the intact network}.
        constraints: what has to remain of each group after any part of the order.
    """

    order: Sequence[tuple[str, int]]
    sizes: Mapping[str, int]
    constraints: Constraints

    def counts(self, number: int) -> dict[str, int]:
        """How many units of each group are removed when the first `number` should be: fewer, where only multiples may
        remain."""
        counts: dict[str, int] = {}
        for name, _ in self.order[:number]:
            counts[name] = counts.get(name, 0) + 1
        sizes = self.sizes
        return {
            name: sizes[name] - self.constraints.remaining(name, sizes[name], sizes[name] - n)
            for name, n in counts.items()
        }

    def plan(self, number: int) -> Plan:
        """The plan that removes the first `number` units, or fewer, where only multiples may remain."""
        counts, seen, chosen = self.counts(number), dict.fromkeys(self.sizes, 0), []
        for name, unit in self.order[:number]:
            seen[name] += 1
            if seen[name] <= counts[name]:
                chosen.append((name, unit))
        return plan_of(chosen)


def evenly(
    groups: Sequence[Group], saliencies: Mapping[str, Tensor], budgets: Mapping[str, Budget], constraints: Constraints
) -> Ranking:
    """Rank the units of minimum saliency of each group down to its own budget, all groups in step.

    A fraction `f` keeps `max(1, round(f K))` of K units, a count keeps that many; groups without a budget are not
    pruned.

    Args:
        groups: the groups that can be pruned.
        saliencies: {group: (K,)}.
        budgets: {group: what has to remain of its units}.
        constraints: what else has to remain of each group.
    """
    entries: list[tuple[float, float, str, int]] = []
    for group in groups:
        if group.name in budgets:
            saliency = saliencies[group.name]
            count = group.size - constraints.remaining(group.name, group.size, budgets[group.name].target(group.size))
            ranks = torch.argsort(saliency, stable=True)[:count].tolist()
            entries += [((i + 1) / count, saliency[unit].item(), group.name, unit) for i, unit in enumerate(ranks)]
    order = [(name, unit) for *_, name, unit in sorted(entries, key=lambda entry: entry[:2])]
    return Ranking(order, {group.name: group.size for group in groups}, constraints)


def overall(
    groups: Sequence[Group],
    saliencies: Mapping[str, Tensor],
    constraints: Constraints,
    weights: Mapping[str, float] | None = None,
) -> Ranking:
    """Rank the units of all groups together by saliency, until each group is down to its minimum.

    Args:
        groups: the groups that can be pruned.
        saliencies: {group: (K,)}, which are normalised as the constraints say.
        constraints: what has to remain of each group.
        weights: {group: what its saliencies are divided by}; None divides by nothing.

    Source:
        Wolfe et al. (2016), Algorithm 1, single overall ranking.
    """
    entries: list[tuple[float, str, int]] = []
    for group in groups:
        saliency = saliencies[group.name]
        finite = torch.isfinite(saliency)
        comparable = saliency.clone()
        if finite.any():
            comparable[finite] = NORMALISATIONS[constraints.normalize](saliency[finite].double()).to(comparable.dtype)
        ranks = torch.argsort(saliency, stable=True)
        maximum = group.size - constraints.remaining(group.name, group.size, 0)
        weight = 1.0 if weights is None else weights[group.name]
        entries += [(comparable[unit].item() / weight, group.name, int(unit)) for unit in ranks[:maximum]]
    entries.sort(key=lambda entry: entry[0])
    return Ranking(
        [(name, unit) for _, name, unit in entries], {group.name: group.size for group in groups}, constraints
    )


def removals_until(ranking: Ranking, budget: Budget, size: Callable[[Mapping[str, int]], int]) -> int:
    """How many units of a ranking have to be removed until a size is within the budget.

    Args:
        ranking: the order in which units are removed.
        budget: what has to remain of the size.
        size: what remains when so many units of each group are removed.

    Raises:
        BudgetError: where the budget cannot be reached.
    """
    total, smallest = size({}), size(ranking.counts(len(ranking.order)))
    target = budget.target(total)
    if smallest > target:
        raise BudgetError(
            f"The budget {budget} asks for {target:,} of {total:,}, and with every group at its minimum, the smallest "
            f"that can be reached is {smallest:,}; raise the budget, or lower min_units or round_to."
        )
    low, high = 0, len(ranking.order)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if size(ranking.counts(middle)) <= target else (middle + 1, high)
    return low
