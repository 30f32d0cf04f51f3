"""Ties: groups of which equally many units have to go, chosen in each by its own saliencies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from deadhead.errors import BudgetError
from deadhead.graph.units.groups import Group
from deadhead.select.budget import Budget
from deadhead.select.plan import Plan, plan_of
from deadhead.select.ranking import Constraints, Ranking, reaching

Ties = Sequence[Sequence[str]]


class Tied:
    """Groups of which each tie stands as one, under its first name: unit j of it is the j-th least salient unit of
    every member, worth the sum of theirs. `groups` and `saliencies` are those that are left to choose from."""

    def __init__(self, groups: Sequence[Group], saliencies: Mapping[str, Tensor], ties: Ties) -> None:
        names = {group.name for group in groups}
        self._ties = {tie[0]: tie for tie in ties if set(tie) <= names}
        followers = {name for tie in self._ties.values() for name in tie[1:]}
        self._ranks = {
            name: torch.argsort(saliencies[name], stable=True) for tie in self._ties.values() for name in tie
        }
        self.groups = [group for group in groups if group.name not in followers]
        self.saliencies = {name: value for name, value in saliencies.items() if name not in followers}
        for first, tie in self._ties.items():
            self.saliencies[first] = torch.stack([saliencies[name][self._ranks[name]] for name in tie]).sum(0)

    def of(self, plan: Plan) -> Plan:
        """A plan for what is left to choose from, as one for all groups."""
        return plan_of(
            [
                (name, int(self._ranks[name][unit]) if first in self._ties else unit)
                for first, unit in plan.order
                for name in self._ties.get(first, (first,))
            ]
        )


class Ranked:
    """What a ranking of groups, of which some are tied, would take: `plan(number)` for all groups, up to its length."""

    def __init__(
        self,
        groups: Sequence[Group],
        saliencies: Mapping[str, Tensor],
        ties: Ties,
        rank: Callable[[Sequence[Group], Mapping[str, Tensor]], Ranking],
    ) -> None:
        self._tied, self._ties = Tied(groups, saliencies, ties), ties
        self._ranking = rank(self._tied.groups, self._tied.saliencies)
        self._end = len(self._ranking.order)

    def end_within(self, budget: Budget, left: Callable[[Mapping[str, int]], int]) -> None:
        """End where `left(units removed of each group)` is within the budget."""
        self._end = reaching(self._ranking, budget, lambda removed: left(counted(removed, self._ties)))

    def __len__(self) -> int:
        return self._end

    def plan(self, number: int) -> Plan:
        return self._tied.of(self._ranking.plan(number))


def counted(counts: Mapping[str, int], ties: Ties) -> dict[str, int]:
    """Units removed of each group, those of a tie's first member standing for every member."""
    return dict(counts) | {name: counts[tie[0]] for tie in ties if tie[0] in counts for name in tie}


def checked(plan: Plan, groups: Sequence[Group], left: Mapping[str, str], constraints: Constraints, ties: Ties) -> Plan:
    """A plan of the caller's, if it can be carried out on `groups`, with each unit's place in the order for its
    saliency; `left` says why others cannot be cut.

    Raises `BudgetError` where it cannot.
    """
    sizes = {group.name: group.size for group in groups}
    for name, units in plan.removed.items():
        if name not in sizes:
            why = left.get(name, f"the groups are {', '.join(sizes)}")
            raise BudgetError(f"The plan removes units of {name}, which cannot be cut: {why}.")
        if int(units.min()) < 0 or int(units.max()) >= sizes[name] or len(set(units.tolist())) < len(units):
            raise BudgetError(f"The plan's units of {name} must be different numbers from 0 to {sizes[name] - 1}.")
        wanted = sizes[name] - len(units)
        kept = constraints.remaining(name, sizes[name], wanted)
        if kept != wanted:
            raise BudgetError(f"The plan leaves {wanted} of {sizes[name]} units of {name}; {kept} would have to stay.")
    for tie in ties:
        counts = {name: len(plan.removed.get(name, ())) for name in tie}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} of {name}" for name, count in counts.items())
            raise BudgetError(f"The plan removes {told}, and these can only lose equally many.")
    places = {group.name: torch.full((group.size,), plan.count + 1.0, dtype=torch.float64) for group in groups}
    for place, (name, unit) in enumerate(plan.order):
        places[name][unit] = place + 1
    return plan_of(plan.order, places)
