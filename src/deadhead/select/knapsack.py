"""Spending a budget as a knapsack: how many units to remove from each group so that the loss of saliency is small."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from deadhead.graph.units.groups import Group
from deadhead.select.budget import Budget
from deadhead.select.ranking import Constraints, Ranking, overall, removals_until

ROUNDS = 8
"""The maximum number of rankings by saliency over size, with sizes as of the ranking before."""
PAIRS = 12
"""The maximum number of groups for which the search tries two steps at once."""

Size = Callable[[Mapping[str, int]], int]
Counts = dict[str, int]


def spend(
    groups: Sequence[Group], saliencies: Mapping[str, Tensor], constraints: Constraints, budget: Budget, size: Size
) -> Ranking:
    """Choose units with a small sum of saliencies, so that what remains is within a budget: a knapsack whose sizes are
    not additive.

    It makes `sum_g sum_{i < k_g} saliency_gi` small under `size(k) <= budget`. With a price p of the size, every unit
    should be removed whose saliency is below `p d size / d k_g`. So rankings by saliency over that derivative, which
    depends on the result and is computed again at each, and the ranking by saliency alone, are the starts of a search.
    From each, counts are moved by single steps, and units that no longer have to be removed are put back, while that
    lowers the sum.

    Args:
        groups: the groups that can be pruned.
        saliencies: {group: (K,)}.
        constraints: what has to remain of each group.
        budget: what has to remain of the size.
        size: the size when so many units of each group are removed.

    Returns:
        The ranking of the units that are removed, by saliency over size.

    Raises:
        BudgetError: where the budget cannot be reached.
    """
    search = _Search(groups, saliencies, constraints, budget.target(size({})), size)
    plain = overall(groups, saliencies, constraints)
    best = search.improved(plain.counts(removals_until(plain, budget, size)))
    weights = slopes(groups, size, {})
    for _ in range(ROUNDS):
        ranking = overall(groups, saliencies, constraints, weights)
        start = ranking.counts(removals_until(ranking, budget, size))
        found = search.improved(start)
        best = min(best, found, key=search.cost)
        new = slopes(groups, size, start)
        if all(math.isclose(new[name], weights[name], rel_tol=1e-3) for name in new):
            break
        weights = {name: (weights[name] * new[name]) ** 0.5 for name in new}
    order = [
        entry for entry, place in zip(ranking.order, places_of(ranking.order), strict=True) if place < best[entry[0]]
    ]
    return Ranking(order, plain.sizes, constraints)


def places_of(order: Sequence[tuple[str, int]]) -> list[int]:
    """For each unit of an order, how many units of its group come before it."""
    seen: Counts = {}
    places = []
    for name, _ in order:
        places.append(seen.get(name, 0))
        seen[name] = places[-1] + 1
    return places


def slopes(groups: Sequence[Group], size: Size, removed: Mapping[str, int]) -> dict[str, float]:
    """By how much the size falls when one unit more of a group is removed, for each group; at least a little.

    Args:
        groups: the groups.
        size: the size when so many units of each group are removed.
        removed: {group: how many of its units are removed already}.
    """
    here, falls = size(removed), {}
    for group in groups:
        count = removed.get(group.name, 0)
        step = 1 if count < group.size - 1 else -1
        falls[group.name] = max(float(step * (here - size({**removed, group.name: count + step}))), 1e-9)
    return falls


class _Search:
    """A search over numbers of units removed of each group, within the size.

    Attributes:
        ways: {group: the numbers of its units that may be removed}.
        lost: {group: the sum of saliencies when 0, 1, 2, ... of its units are removed}.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        saliencies: Mapping[str, Tensor],
        constraints: Constraints,
        target: int,
        size: Size,
    ) -> None:
        self.size, self.target = size, target
        self.ways: dict[str, list[int]] = {}
        self.lost: dict[str, list[float]] = {}
        for group in groups:
            values = saliencies[group.name].double().sort().values
            removed = int(torch.isneginf(values).sum())
            self.lost[group.name] = [0.0, *values.clamp(min=-1e300).cumsum(0).tolist()]
            every = range(removed, group.size - constraints.remaining(group.name, group.size, 0) + 1)
            self.ways[group.name] = [
                n
                for n in every
                if n == removed or group.size - n == constraints.remaining(group.name, group.size, group.size - n)
            ]

    def cost(self, counts: Counts) -> float:
        """The sum of the saliencies that are lost."""
        return sum(self.lost[name][count] for name, count in counts.items())

    def _step(self, counts: Counts, name: str, by: int) -> Counts | None:
        """One step more, or less, of a group."""
        ways = self.ways[name]
        place = ways.index(counts[name]) + by
        return {**counts, name: ways[place]} if 0 <= place < len(ways) else None

    def filled(self, counts: Counts) -> Counts:
        """Put back units that do not have to be removed, those of the largest saliency first."""
        waiting = set(counts)
        while waiting:
            fewer = {name: self._step(counts, name, -1) for name in waiting}
            gains = {name: self.cost(counts) - self.cost(other) for name, other in fewer.items() if other}
            waiting &= {name for name, gain in gains.items() if gain > 0}
            if not waiting:
                break
            name = max(waiting, key=gains.__getitem__)
            other = fewer[name]
            if other is not None and self.size(other) <= self.target:
                counts = other
            else:
                waiting.remove(name)
        return counts

    def improved(self, counts: Mapping[str, int]) -> Counts:
        """Counts near these that no step improves."""
        now = self.filled({name: self._nearest(name, counts.get(name, 0)) for name in self.ways})
        names = list(self.ways)
        moves: list[tuple[str, ...]] = [(name,) for name in names]
        if len(names) <= PAIRS:
            moves += itertools.combinations_with_replacement(names, 2)
        better = True
        while better:
            better = False
            for move in moves:
                other: Counts | None = now
                for name in move:
                    other = None if other is None else self._step(other, name, 1)
                if other is not None:
                    other = self.filled(other)
                    if self.cost(other) < self.cost(now) - 1e-12 * abs(self.cost(now)):
                        now, better = other, True
        return now

    def _nearest(self, name: str, count: int) -> int:
        return next((way for way in self.ways[name] if way >= count), self.ways[name][-1])
