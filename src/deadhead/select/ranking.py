"""Ranking: from saliencies and a budget to the units that go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deadhead.errors import BudgetError
from deadhead.graph.units import Group
from deadhead.select.budget import Budget
from deadhead.select.plan import Plan, Sizes, plan_of


def kept_of(size: int, wanted: int, round_to: int, min_units: int) -> int:
    """How many of `size` units stay when `wanted` should: at least `min_units`, and a multiple of `round_to` (rounded
    up) where the group is large enough for one.

    >>> kept_of(32, 13, 8, 1), kept_of(6, 3, 8, 1), kept_of(4, 0, 1, 1)
    (16, 6, 1)
    """
    kept = max(wanted, min_units, 1)
    kept = -(-kept // round_to) * round_to
    return min(kept, size)


def per_group(
    groups: Sequence[Group], saliencies: Mapping[str, Tensor], budget: Budget, round_to: int = 1, min_units: int = 1
) -> Plan:
    """Remove the least salient units of every group until the budget's share of it is left: a fraction `f` keeps
    `max(1, round(f K))` of K units, a count keeps that many."""
    order: list[tuple[float, str, int]] = []
    for group in groups:
        kept = kept_of(group.size, budget.of(group.size), round_to, min_units)
        ranks = torch.argsort(saliencies[group.name], stable=True)
        order += [(saliencies[group.name][u].item(), group.name, int(u)) for u in ranks[: group.size - kept]]
    plan = plan_of([(name, unit) for _, name, unit in sorted(order, key=lambda entry: entry[0])], saliencies)
    return _refuse_empty(plan, groups, budget)


def overall(
    groups: Sequence[Group],
    saliencies: Mapping[str, Tensor],
    budget: Budget,
    sizes: Sizes,
    comparable: bool,
    round_to: int = 1,
    min_units: int = 1,
) -> Plan:
    """One ranking over all groups: remove the least salient unit of all until the budget of parameters is met.

    Saliencies that are not `comparable` between groups are divided by their group's mean first. Source: 002
    Algorithm 1, single overall ranking.
    """
    entries = []
    for group in groups:
        scale = 1.0 if comparable else max(saliencies[group.name].abs().mean().item(), 1e-300)
        ranks = torch.argsort(saliencies[group.name], stable=True)
        most = group.size - kept_of(group.size, 0, round_to, min_units)
        entries += [(saliencies[group.name][u].item() / scale, group.name, int(u)) for u in ranks[:most]]
    entries.sort(key=lambda entry: entry[0])
    order = [(name, unit) for _, name, unit in entries]
    by_name = {group.name: group for group in groups}

    def left(steps: int) -> tuple[int, dict[str, int]]:
        removed: dict[str, int] = {}
        for name, _ in order[:steps]:
            removed[name] = removed.get(name, 0) + 1
        removed = {
            name: by_name[name].size - kept_of(by_name[name].size, by_name[name].size - gone, round_to, min_units)
            for name, gone in removed.items()
        }
        return sizes.parameters(removed), removed

    target = budget.of(sizes.parameters({}))
    fewest, _ = left(len(order))
    if fewest > target:
        raise BudgetError(
            f"The budget {budget} asks for {target:,} parameters, but with every group down to its smallest, "
            f"{fewest:,} are left; raise the budget, or lower min_units or round_to."
        )
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if left(middle)[0] <= target else (middle + 1, high)
    _, removed = left(low)
    taken: dict[str, int] = {}
    chosen = []
    for name, unit in order[:low]:
        taken[name] = taken.get(name, 0) + 1
        if taken[name] <= removed.get(name, 0):
            chosen.append((name, unit))
    return _refuse_empty(plan_of(chosen, saliencies), groups, budget)


def _refuse_empty(plan: Plan, groups: Sequence[Group], budget: Budget) -> Plan:
    if not plan.count:
        total = sum(group.size for group in groups)
        raise BudgetError(f"The budget {budget} would remove none of the {total:,} units; choose a smaller one.")
    return plan
