"""How a budget is allocated to groups: which units are removed for it, and the path of networks through the result."""

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
from deadhead.select.ties import Ranked, Tied, Ties, counted


@dataclass(frozen=True)
class Allocation:
    """How a budget is allocated to groups.

    Attributes:
        groups: the groups that can be pruned.
        ties: groups that lose equally many units.
        constraints: what has to remain of each group.
        budget: what all groups spend together, in one ranking.
        shares: {group: its own budget} where every group spends its own, else None.
        sizes: what remains of the network.
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
        return weight.remaining(self.sizes, counted(removed, self.ties))

    def ranked(self, saliencies: Mapping[str, Tensor]) -> Ranked:
        """The units that go, down to the budget, or down to the smallest network where it says what may be lost.

        Raises `BudgetError` where the budget cannot be reached.
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
        """From the intact network through a result with these saliencies down to the smallest that the rules allow.

        Shares of single groups: all groups that have one lose their units in step, `t r_g` of the `r_g` that the result
        removes for t from 0 to 1, then `r_g + t (m_g - r_g)` up to the `m_g` that can go. Otherwise in the order of one
        ranking, first what the result removes of each group, then the rest. Where a size was spent, the ranking is by
        saliency over what a unit takes in the result, which costs no search; at other places a search of their own
        could find a little less to lose.
        """
        tied = Tied(self.groups, saliencies, self.ties)
        gone = {group.name: len(result.removed.get(group.name, ())) for group in tied.groups}
        if self.shares is not None:
            steps = self._in_step(tied, gone)
        else:
            at = gone if self._is_spent else {}
            weights = slopes(tied.groups, self._size, at) if self._weighed_by else None
            order = overall(tied.groups, tied.saliencies, self.constraints, weights).order
            places = places_of(order)
            beyond = [place >= gone[name] for (name, _), place in zip(order, places, strict=True)]
            steps = [name for part in (False, True) for (name, _), b in zip(order, beyond, strict=True) if b is part]
        sizes = {group.name: group.size for group in tied.groups}
        return Path(steps, sum(gone.values()), sizes, self.constraints, self.ties)

    def _in_step(self, tied: Tied, gone: Mapping[str, int]) -> list[str]:
        assert self.shares is not None
        entries: list[tuple[float, float, str]] = []
        for group in tied.groups:
            if group.name in self.shares:
                name, here = group.name, gone[group.name]
                most = group.size - self.constraints.remaining(name, group.size, 0)
                worth = tied.saliencies[name].sort().values.tolist()
                entries += [((i + 1) / here, worth[i], name) for i in range(here)]
                entries += [(1 + (i + 1 - here) / (most - here), worth[i], name) for i in range(here, most)]
        return [name for *_, name in sorted(entries, key=lambda entry: entry[:2])]
