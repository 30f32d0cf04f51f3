"""Schedules: rank, remove a part, rank what is left anew, until a budget is met or what is measured forbids more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from deadhead.select.plan import Plan, plan_of

GONE = float("-inf")
PROBES = 16
"""In so many parts the way is measured where a measured budget ends it: what is measured need not be monotone."""


class Way(Protocol):
    """Units in the order in which they would go, down to a budget."""

    def __len__(self) -> int: ...

    def plan(self, number: int) -> Plan:
        """The plan of the first `number` units."""


@dataclass(frozen=True)
class Schedule:
    """How often what is left is ranked anew: `rounds` times on the way, or after every `step` units. `measured` says
    that the way is gone in small parts until what is measured forbids more."""

    rounds: int = 1
    step: int | None = None
    measured: bool = False

    def parts(self, rank: int, before: int, total: int) -> list[int]:
        """How many units should be gone at the ends of the parts of round `rank`, which begins with `before` gone and
        would go to `total`."""
        end = min(before + self.step, total) if self.step else max(before, round(rank / self.rounds * total))
        if not self.measured:
            return [end]
        count = 1 if self.step else min(-(-PROBES // self.rounds), max(end - before, 1))
        return [before + round((i + 1) * (end - before) / count) for i in range(count)]

    def is_last(self, rank: int, gone: int, total: int) -> bool:
        return gone >= total if self.step else rank >= self.rounds


def in_rounds(
    schedule: Schedule,
    ask: Callable[[Plan | None], Mapping[str, Tensor]],
    rank: Callable[[Mapping[str, Tensor]], Way],
    accept: Callable[[Plan], bool],
) -> Plan:
    """Iterative re-ranking: in each round, `ask(plan so far)` for saliencies, `rank` what they are of, and take the
    units that go next, as far as `accept(plan)` lets it: where that refuses, the most that it accepts is found by
    bisection, and the way ends. What went stays gone; one round is the single ranking.

    The plan's saliencies are those by which each unit was last judged. Source: 002 Algorithm 2.
    """
    plan: Plan | None = None
    judged: dict[str, Tensor] = {}
    number = 0
    while True:
        number += 1
        saliencies = {name: value.clone() for name, value in ask(plan).items()}
        for name, value in saliencies.items():
            gone = torch.zeros(len(value), dtype=torch.bool)
            if plan is not None and name in plan.removed:
                gone[plan.removed[name]] = True
            judged[name] = torch.where(gone, judged.get(name, value), value)
            value[gone] = GONE
        ranked = rank(saliencies)
        before = [] if plan is None else plan.order

        def plan_to(count: int, before: list[tuple[str, int]] = before, ranked: Way = ranked) -> Plan:
            known = set(before)
            new = [entry for entry in ranked.plan(count).order if entry not in known]
            return plan_of([*before, *new], judged)

        accepted = len(before)
        for end in schedule.parts(number, len(before), len(ranked)):
            candidate = plan_to(end)
            if not accept(candidate):
                low, high = accepted, end
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (middle, high) if accept(plan_to(middle)) else (low, middle)
                return plan_to(low)
            accepted, plan = end, candidate
        assert plan is not None
        stuck = bool(schedule.step) and len(plan.order) == len(before)
        if schedule.is_last(number, accepted, len(ranked)) or stuck:
            return plan
