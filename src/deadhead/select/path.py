"""Paths: the networks from the intact one through a result down to the smallest."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deadhead.graph.units.groups import Group
from deadhead.select.plan import Plan, plan_of
from deadhead.select.ranking import Constraints, Ranking
from deadhead.select.ties import Ties, with_ties


@dataclass(frozen=True)
class Path:
    """The networks from the intact one through a result down to the smallest, as groups that lose a unit, step by step.

    Of groups that are tied, only the first is named. As in a ranking, a step of a group of which only multiples may
    remain has no effect until there are enough of them.

    Attributes:
        steps: the group that loses a unit in each step.
        result: the number of steps to the result.
        sizes: {group: its number of units in the intact network}.
        constraints: what has to remain of each group.
        ties: groups that lose the same number of units.
        removed: the number of removed units after 0, 1, 2, ... steps, those of tied groups included.
    """

    steps: Sequence[str]
    result: int
    sizes: Mapping[str, int]
    constraints: Constraints
    ties: Ties = ()
    removed: list[int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "removed", self._running())

    def _running(self) -> list[int]:
        weights = {tie[0]: len(tie) for tie in self.ties}
        steps, removed, total, totals = dict.fromkeys(self.sizes, 0), dict.fromkeys(self.sizes, 0), 0, [0]
        for name in self.steps:
            steps[name] += 1
            size = self.sizes[name]
            now = size - self.constraints.remaining(name, size, size - steps[name])
            total += (now - removed[name]) * weights.get(name, 1)
            removed[name] = now
            totals.append(total)
        return totals

    def counts(self, number: int) -> dict[str, int]:
        """How many units of each group are removed after `number` steps."""
        ranking = Ranking([(name, 0) for name in self.steps[:number]], self.sizes, self.constraints)
        return with_ties(ranking.counts(number), self.ties)

    def plan(self, number: int, result: Plan) -> Plan:
        """The plan after `number` steps: of each group, first the units that `result` removes, in its order, then the
        others by its saliencies."""
        counts = self.counts(number)
        chosen: dict[str, list[int]] = {name: [] for name in counts}
        for name, unit in result.order:
            chosen.setdefault(name, []).append(unit)
        queues = {name: iter(_all(chosen[name], result.saliencies[name])) for name in counts}
        waiting, order = dict(counts), []
        members = {tie[0]: tie for tie in self.ties}
        for first in self.steps[:number]:
            for name in members.get(first, (first,)):
                if waiting[name]:
                    waiting[name] -= 1
                    order.append((name, next(queues[name])))
        return plan_of(order, result.saliencies)

    def places(self, each_side: int) -> list[int]:
        """Numbers of steps of networks of different sizes: the intact one, the result, the smallest, and about
        `each_side` on either side of the result, evenly spaced by units."""
        ends = (0, self.removed[self.result], self.removed[-1])
        found = set()
        for low, high in itertools.pairwise(ends):
            found |= {self.nearest(low + (high - low) * part / each_side) for part in range(each_side + 1)}
        return sorted(found)

    def nearest(self, units: float) -> int:
        """The number of steps after which the number of removed units is nearest to this."""
        return min(range(len(self.removed)), key=lambda number: abs(self.removed[number] - units))

    def beside(self, wanted: int, known: Iterable[int]) -> list[int]:
        """The numbers of steps of networks to measure beside the result.

        Half of them, rounded up, are smaller than the result, down to twice as many removed units or the smallest
        network, whichever is nearer, and the others lie between the intact network and the result, evenly spaced by
        units; all of them, where the result is the smallest. On a side on which as many are known already there are
        none.

        Args:
            wanted: the maximum number of networks.
            known: the numbers of removed units of networks that are known.
        """
        done, last = self.removed[self.result], self.removed[-1]
        beyond = -(-wanted // 2) if last > done else 0
        taken, found = set(known), []
        for low, high, bound, count in (
            (0, done, done, wanted - beyond),
            (done, min(2 * done, last), last + 1, beyond),
        ):
            if sum(low < removed < bound for removed in taken) >= count:
                continue
            for part in range(1, count + 1):
                target = low + (high - low) * part / (count + 1)
                free = [n for n, removed in enumerate(self.removed) if low < removed < bound and removed not in taken]
                if free:
                    found.append(min(free, key=lambda n, target=target: abs(self.removed[n] - target)))  # type: ignore[misc]
                    taken.add(self.removed[found[-1]])
        return sorted(found)


def _all(chosen: list[int], saliency: Tensor) -> list[int]:
    """All units of a group: first those chosen, in their order, then the others by saliency."""
    known = set(chosen)
    return chosen + [unit for unit in torch.argsort(saliency, stable=True).tolist() if unit not in known]


def path_of_plan(plan: Plan, groups: Sequence[Group], constraints: Constraints, ties: Ties) -> Path:
    """The path along the order of a plan, which ends at the plan.

    Args:
        plan: the units that are removed, in their order.
        groups: the groups that can be pruned.
        constraints: what has to remain of each group.
        ties: groups that lose the same number of units.
    """
    followers = {name for tie in ties for name in tie[1:]}
    steps = [name for name, _ in plan.order if name not in followers]
    return Path(steps, len(steps), {group.name: group.size for group in groups}, constraints, ties)
