"""Rounds: rank, remove a part, re-rank the remaining units, until a budget is met or a measured limit is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from deadhead.select.plan import Plan, plan_of

ALREADY_REMOVED = float("-inf")
"""The saliency of units that are removed already, so that they come first in every ranking."""
PROBES = 16
"""How many networks are measured at least on the way where a measured budget ends it: what is measured need not be
monotone."""


class Order(Protocol):
    """Units in the order in which they are removed, down to a budget."""

    def __len__(self) -> int: ...

    def plan(self, number: int) -> Plan:
        """The plan of the first `number` units."""


@dataclass(frozen=True)
class Rounds:
    """How often the remaining units are re-ranked.

    Attributes:
        rounds: the number of rounds, of equally many units each.
        step: the number of units of a round, in place of `rounds`.
        measured: whether units are removed in small parts, each of which is measured, until a measured budget forbids
            more.
    """

    rounds: int = 1
    step: int | None = None
    measured: bool = False

    def parts(self, rank: int, before: int, total: int) -> list[int]:
        """How many units are removed at the end of each part of a round.

        Args:
            rank: the number of the round, from 1.
            before: how many units are removed when it begins.
            total: how many would be removed at the end of all rounds.
        """
        end = min(before + self.step, total) if self.step else max(before, round(rank / self.rounds * total))
        if not self.measured:
            return [end]
        count = 1 if self.step else min(-(-PROBES // self.rounds), max(end - before, 1))
        return [before + round((i + 1) * (end - before) / count) for i in range(count)]

    def is_last(self, rank: int, removed: int, total: int) -> bool:
        """Whether round `rank`, at whose end so many units of a total are removed, is the last one."""
        return removed >= total if self.step else rank >= self.rounds


def in_rounds(
    rounds: Rounds,
    ask: Callable[[Plan], Mapping[str, Tensor]],
    rank: Callable[[Mapping[str, Tensor]], Order],
    accept: Callable[[Plan], bool],
    start: Plan | None = None,
) -> Plan:
    """Iterative re-ranking: score and rank the remaining units, remove a part of them, and repeat.

    Units that are removed remain so; one round is the single ranking.

    Args:
        rounds: how often the remaining units are re-ranked.
        ask: the saliencies after a plan.
        rank: the order in which units with these saliencies are removed, down to the budget.
        accept: whether a plan may be carried out; where it may not, the largest part of the round that may is found by
            bisection, and no further round follows.
        start: the units that are removed already; none by default.

    Returns:
        The plan, with the saliencies by which each unit was last judged.

    Source:
        Wolfe et al. (2016), Algorithm 2.
    """
    plan = plan_of([]) if start is None else start
    judged: dict[str, Tensor] = {}
    number = 0
    while True:
        number += 1
        saliencies = {name: value.clone() for name, value in ask(plan).items()}
        for name, value in saliencies.items():
            removed = torch.zeros(len(value), dtype=torch.bool)
            if name in plan.removed:
                removed[plan.removed[name]] = True
            judged[name] = torch.where(removed, judged.get(name, value), value)
            value[removed] = ALREADY_REMOVED
        ranked = rank(saliencies)
        before = plan.order

        def plan_to(count: int, before: list[tuple[str, int]] = before, ranked: Order = ranked) -> Plan:
            known = set(before)
            new = [entry for entry in ranked.plan(count).order if entry not in known]
            return plan_of([*before, *new], judged)

        accepted = len(before)
        for end in rounds.parts(number, len(before), len(ranked)):
            candidate = plan_to(end)
            if not accept(candidate):
                low, high = accepted, end
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (middle, high) if accept(plan_to(middle)) else (low, middle)
                return plan_to(low)
            accepted, plan = end, candidate
        stuck = bool(rounds.step) and len(plan.order) == len(before)
        if rounds.is_last(number, accepted, len(ranked)) or stuck:
            return plan
