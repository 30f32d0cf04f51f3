"""The allocation of a budget to groups: which units are removed for it, and the path of networks through the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from deadhead.graph.units.groups import Group
from deadhead.select.budget import BUDGETS, Budget
from deadhead.select.knapsack import places_of, slopes, spend
from deadhead.select.path import Path
from deadhead.select.plan import Plan
from deadhead.select.ranking import Constraints, Ranking, evenly, overall
from deadhead.select.sizes import Sizes
from deadhead.select.ties import Ranked, Tied, Ties, with_ties


@dataclass(frozen=True)
class Allocation:
    """The allocation of a budget to groups.

    Attributes:
        groups: the groups that can be pruned.
        ties: groups that lose the same number of units.
        constraints: what has to remain of each group.
        budget: the budget of all groups together, in one ranking.
        shares: {group: its own budget} where every group has one, else None.
        sizes: the size of the network for any numbers of removed units.
    """

    groups: Sequence[Group]
    ties: Ties
    constraints: Constraints
    budget: Budget
    shares: Mapping[str, Budget] | None
    sizes: Sizes

    @property
    def _weighed_by(self) -> Budget | None:
        """The size that saliencies are set against."""
        name = BUDGETS[self.budget.kind].weighed_by
        return None if name is None or self.constraints.normalize != "none" else Budget(name, 1.0)

    @property
    def _is_spent(self) -> bool:
        """Whether the budget is spent as a knapsack."""
        kind = BUDGETS[self.budget.kind]
        return self._weighed_by is not None and kind.of == "size" and kind.counted

    def _remaining(self, removed: Mapping[str, int]) -> int:
        return self.budget.remaining(self.sizes, removed)

    def _size(self, removed: Mapping[str, int]) -> int:
        """What saliencies are set against, of what remains."""
        weight = self._weighed_by or self.budget
        return weight.remaining(self.sizes, with_ties(removed, self.ties))

    def ranked(self, saliencies: Mapping[str, Tensor]) -> Ranked:
        """Rank the units by saliency, down to the budget; down to the smallest network where the budget limits the
        quality.

        Raises:
            BudgetError: where the budget cannot be reached.
        """
        ranked = Ranked(self.groups, saliencies, self.ties, self._ranking)
        if self.shares is None and not self.budget.is_of_quality:
            ranked.end_within(self.budget, self._remaining)
        return ranked

    def _ranking(self, free: Sequence[Group], shown: Mapping[str, Tensor]) -> Ranking:
        if self.shares is not None:
            return evenly(free, shown, self.shares, self.constraints)
        if self._is_spent:
            return spend(free, shown, self.constraints, self.budget, self._size)
        return overall(free, shown, self.constraints, slopes(free, self._size, {}) if self._weighed_by else None)

    def path(self, saliencies: Mapping[str, Tensor], result: Plan) -> Path:
        """The path from the intact network through a result down to the smallest network that the constraints allow.

        Where groups have budgets of their own, all of them lose their units in step: `t r_g` of the `r_g` that the
        result removes for t from 0 to 1, then `r_g + t (m_g - r_g)` up to the maximum `m_g`. Otherwise units are
        removed in the order of one ranking, first as many as the result removes of each group, then the others. Where a
        size was spent as a knapsack, that ranking is by saliency over what a unit takes in the result, which costs no
        search; a search for each network could lose a little less.

        Args:
            saliencies: {group: (K,)}, in the intact network.
            result: the plan that the path goes through.
        """
        tied = Tied(self.groups, saliencies, self.ties)
        removed = {group.name: len(result.removed.get(group.name, ())) for group in tied.groups}
        if self.shares is not None:
            steps = self._in_step(tied, removed)
        else:
            at = removed if self._is_spent else {}
            weights = slopes(tied.groups, self._size, at) if self._weighed_by else None
            order = overall(tied.groups, tied.saliencies, self.constraints, weights).order
            places = places_of(order)
            beyond = [place >= removed[name] for (name, _), place in zip(order, places, strict=True)]
            steps = [name for part in (False, True) for (name, _), b in zip(order, beyond, strict=True) if b is part]
        sizes = {group.name: group.size for group in tied.groups}
        return Path(steps, sum(removed.values()), sizes, self.constraints, self.ties)

    def _in_step(self, tied: Tied, removed: Mapping[str, int]) -> list[str]:
        """The groups in the order in which they lose their units, all of them in step."""
        assert self.shares is not None
        entries: list[tuple[float, float, str]] = []
        for group in tied.groups:
            if group.name in self.shares:
                name, here = group.name, removed[group.name]
                maximum = group.size - self.constraints.remaining(name, group.size, 0)
                saliency = tied.saliencies[name].sort().values.tolist()
                entries += [((i + 1) / here, saliency[i], name) for i in range(here)]
                entries += [(1 + (i + 1 - here) / (maximum - here), saliency[i], name) for i in range(here, maximum)]
        return [name for *_, name in sorted(entries, key=lambda entry: entry[:2])]
