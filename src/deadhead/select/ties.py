"""Ties: groups that can only lose the same number of units, chosen in each by its own saliencies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from deadhead.errors import BudgetError
from deadhead.graph.units.groups import Group
from deadhead.select.budget import Budget
from deadhead.select.plan import Plan, plan_of
from deadhead.select.ranking import Constraints, Ranking, removals_until

Ties = Sequence[Sequence[str]]


class Tied:
    """Groups with each tie as one group, under its first name: its unit j is the unit of j-th smallest saliency of
    every member, with the sum of their saliencies.

    Attributes:
        groups: the groups to choose from, of each tie the first.
        saliencies: {group to choose from: (K,)}.
    """

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
        """A plan for the groups to choose from, as one for all groups."""
        return plan_of(
            [
                (name, int(self._ranks[name][unit]) if first in self._ties else unit)
                for first, unit in plan.order
                for name in self._ties.get(first, (first,))
            ]
        )


class Ranked:
    """A ranking of groups, of which some are tied: `plan(number)` removes its first units, of every member of a tie.

    Args:
        groups: the groups that can be pruned.
        saliencies: {group: (K,)}.
        ties: groups that lose the same number of units.
        rank: the ranking of the groups to choose from, with their saliencies.
    """

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

    def end_within(self, budget: Budget, size: Callable[[Mapping[str, int]], int]) -> None:
        """End where the size that remains when so many units of each group are removed is within the budget."""
        self._end = removals_until(self._ranking, budget, lambda removed: size(with_ties(removed, self._ties)))

    def __len__(self) -> int:
        return self._end

    def plan(self, number: int) -> Plan:
        """The plan that removes the first `number` units."""
        return self._tied.of(self._ranking.plan(number))


def with_ties(counts: Mapping[str, int], ties: Ties) -> dict[str, int]:
    """The number of units removed of each group, when `counts` has that of each tie's first member only."""
    return dict(counts) | {name: counts[tie[0]] for tie in ties if tie[0] in counts for name in tie}


def checked(
    plan: Plan, groups: Sequence[Group], refused: Mapping[str, str], constraints: Constraints, ties: Ties
) -> Plan:
    """Check that a plan of the caller's can be carried out.

    Args:
        plan: the units that are to be removed.
        groups: the groups that can be cut.
        refused: {each other group: why it cannot be cut}.
        constraints: what has to remain of each group.
        ties: groups that can only lose the same number of units.

    Returns:
        The plan, with each unit's place in the order for its saliency.

    Raises:
        BudgetError: where it cannot be carried out.
    """
    sizes = {group.name: group.size for group in groups}
    for name, units in plan.removed.items():
        if name not in sizes:
            why = refused.get(name, f"the groups are {', '.join(sizes)}")
            raise BudgetError(f"The plan removes units of {name}, which cannot be cut: {why}.")
        if int(units.min()) < 0 or int(units.max()) >= sizes[name] or len(set(units.tolist())) < len(units):
            raise BudgetError(f"The plan's units of {name} must be different numbers from 0 to {sizes[name] - 1}.")
        wanted = sizes[name] - len(units)
        allowed = constraints.remaining(name, sizes[name], wanted)
        if allowed != wanted:
            raise BudgetError(
                f"The plan keeps {wanted} of {sizes[name]} units of {name}, which min_units, round_to or the network "
                f"itself forbids; keep {allowed}."
            )
    for tie in ties:
        counts = {name: len(plan.removed.get(name, ())) for name in tie}
        if len(set(counts.values())) > 1:
            removed = ", ".join(f"{count} of {name}" for name, count in counts.items())
            raise BudgetError(
                f"The plan removes {removed}, and these groups can only be cut together: remove the same number from "
                "each."
            )
    places = {group.name: torch.full((group.size,), plan.count + 1.0, dtype=torch.float64) for group in groups}
    for place, (name, unit) in enumerate(plan.order):
        places[name][unit] = place + 1
    return plan_of(plan.order, places)
