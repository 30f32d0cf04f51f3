"""Spending a budget over groups: from which of them units should go so that least is lost for what is saved."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from deadhead.graph.units.groups import Group
from deadhead.select.budget import Budget
from deadhead.select.ranking import Constraints, Ranking, overall, reaching

ROUNDS = 8
"""How often the worth of a unit's size is found anew."""
PAIRS = 12
"""Up to so many groups, the search tries two steps at once."""

Size = Callable[[Mapping[str, int]], int]
Counts = dict[str, int]


def spend(
    groups: Sequence[Group], saliencies: Mapping[str, Tensor], constraints: Constraints, budget: Budget, size: Size
) -> Ranking:
    """The ranking of those units that go when `sum_g sum_{i < k_g} saliency_gi` is to be small under
    `size(units removed of each group) <= budget`: a knapsack whose sizes are not additive.

    With a price p of the size, every unit should go whose saliency is below `p d size / d k_g`: rankings by saliency
    over that derivative, which depends on the answer and is found anew at each, and the one by saliency alone, are
    starts. From each, counts are moved by single steps, what no longer has to go being put back, while that lowers the
    sum. Raises `BudgetError` where the budget cannot be reached.
    """
    search = _Search(groups, saliencies, constraints, budget.target(size({})), size)
    plain = overall(groups, saliencies, constraints)
    best = search.improved(plain.counts(reaching(plain, budget, size)))
    weights = slopes(groups, size, {})
    for _ in range(ROUNDS):
        ranking = overall(groups, saliencies, constraints, weights)
        start = ranking.counts(reaching(ranking, budget, size))
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
    """How many units of its group stand before each."""
    seen: Counts = {}
    places = []
    for name, _ in order:
        places.append(seen.get(name, 0))
        seen[name] = places[-1] + 1
    return places


def slopes(groups: Sequence[Group], size: Size, removed: Mapping[str, int]) -> dict[str, float]:
    """By how much the size falls with one unit more of each group; at least a little."""
    here, found = size(removed), {}
    for group in groups:
        have = removed.get(group.name, 0)
        step = 1 if have < group.size - 1 else -1
        found[group.name] = max(float(step * (here - size({**removed, group.name: have + step}))), 1e-9)
    return found


class _Search:
    """Counts of units removed of each group, with what they lose, within the size."""

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
            gone = int(torch.isneginf(values).sum())
            self.lost[group.name] = [0.0, *values.clamp(min=-1e300).cumsum(0).tolist()]
            every = range(gone, group.size - constraints.remaining(group.name, group.size, 0) + 1)
            self.ways[group.name] = [
                n
                for n in every
                if n == gone or group.size - n == constraints.remaining(group.name, group.size, group.size - n)
            ]

    def cost(self, counts: Counts) -> float:
        return sum(self.lost[name][count] for name, count in counts.items())

    def _step(self, counts: Counts, name: str, by: int) -> Counts | None:
        """One step more, or less, of a group."""
        ways = self.ways[name]
        place = ways.index(counts[name]) + by
        return {**counts, name: ways[place]} if 0 <= place < len(ways) else None

    def filled(self, counts: Counts) -> Counts:
        """Put back what does not have to go, what would lose most first."""
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
