"""Ranking: from saliencies and a budget to the units that go."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deadhead.errors import BudgetError
from deadhead.graph.units import Group
from deadhead.select.budget import Budget
from deadhead.select.plan import Plan, plan_of


def kept_of(size: int, wanted: int, round_to: int, min_units: int) -> int:
    """How many of `size` units stay when `wanted` should: at least `min_units`, and a multiple of `round_to` (rounded
    up) where the group is large enough for one.

    >>> kept_of(32, 13, 8, 1), kept_of(6, 3, 8, 1), kept_of(4, 0, 1, 1)
    (16, 6, 1)
    """
    kept = max(wanted, min_units, 1)
    kept = -(-kept // round_to) * round_to
    return min(kept, size)


@dataclass(frozen=True)
class Rules:
    """How a selection is made: multiples of `round_to` and at least `min_units` of each group stay; `comparable` says
    whether saliencies of different groups can be ranked together as they are; `steps` names groups of which multiples
    of a number of their own stay, `least` those of which more than one must."""

    comparable: bool = True
    round_to: int = 1
    min_units: int = 1
    steps: Mapping[str, int] = field(default_factory=dict)
    least: Mapping[str, int] = field(default_factory=dict)

    def kept(self, name: str, size: int, wanted: int) -> int:
        floor = max(self.min_units, self.least.get(name, 1))
        return kept_of(size, wanted, math.lcm(self.round_to, self.steps.get(name, 1)), floor)


def per_group(
    groups: Sequence[Group],
    saliencies: Mapping[str, Tensor],
    budgets: Mapping[str, Budget],
    rules: Rules,
    share: float = 1,
) -> Plan:
    """Remove the least salient units of each group until its budget is left: a fraction `f` keeps
    `max(1, round(f K))` of K units, a count keeps that many; groups without a budget stay whole.

    `share` asks for part of the way: that fraction of the units which are to go.
    """
    entries: list[tuple[float, str, int]] = []
    for group in groups:
        if group.name in budgets:
            gone = group.size - rules.kept(group.name, group.size, budgets[group.name].of(group.size))
            ranks = torch.argsort(saliencies[group.name], stable=True)[: round(share * gone)]
            entries += [(saliencies[group.name][u].item(), group.name, int(u)) for u in ranks]
    return plan_of([(name, unit) for _, name, unit in sorted(entries, key=lambda entry: entry[0])], saliencies)


def overall(
    groups: Sequence[Group],
    saliencies: Mapping[str, Tensor],
    budget: Budget,
    left: Callable[[Mapping[str, int]], int],
    rules: Rules,
    share: float = 1,
) -> Plan:
    """One ranking over all groups: remove the least salient unit of all until `left(removed units of each group)` is
    within the budget.

    Saliencies that are not comparable between groups are divided by their group's mean first. `share` asks for part
    of the way: that fraction of the difference to the budget. Source: 002 Algorithm 1, single overall ranking.

    Raises `BudgetError` where the budget cannot be reached.
    """
    entries = []
    for group in groups:
        finite = saliencies[group.name][torch.isfinite(saliencies[group.name])].abs()
        scale = 1.0 if rules.comparable or not len(finite) else max(finite.mean().item(), 1e-300)
        ranks = torch.argsort(saliencies[group.name], stable=True)
        most = group.size - rules.kept(group.name, group.size, 0)
        entries += [(saliencies[group.name][u].item() / scale, group.name, int(u)) for u in ranks[:most]]
    entries.sort(key=lambda entry: entry[0])
    sizes = {group.name: group.size for group in groups}

    def removed(steps: int) -> dict[str, int]:
        counts: dict[str, int] = {}
        for _, name, _ in entries[:steps]:
            counts[name] = counts.get(name, 0) + 1
        return {name: sizes[name] - rules.kept(name, sizes[name], sizes[name] - gone) for name, gone in counts.items()}

    total = left({})
    fewest = left(removed(len(entries)))
    target = budget.of(total)
    if fewest > target:
        raise BudgetError(
            f"The budget {budget} asks for {target:,} of {total:,}, but with every group down to its smallest, "
            f"{fewest:,} are left; raise the budget, or lower min_units or round_to."
        )
    target = total - round(share * (total - target))
    low, high = 0, len(entries)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if left(removed(middle)) <= target else (middle + 1, high)
    counts, taken, chosen = removed(low), dict.fromkeys(sizes, 0), []
    for _, name, unit in entries[:low]:
        taken[name] += 1
        if taken[name] <= counts[name]:
            chosen.append((name, unit))
    return plan_of(chosen, saliencies)
