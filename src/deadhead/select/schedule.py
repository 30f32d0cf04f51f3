"""Rounds: rank, remove a part, rank what is left anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from deadhead.select.plan import Plan, plan_of

GONE = float("-inf")


def in_rounds(
    rounds: int,
    ask: Callable[[Plan | None], Mapping[str, Tensor]],
    choose: Callable[[Mapping[str, Tensor], float], Plan],
) -> Plan:
    """Iterative re-ranking: in round t of `rounds`, `ask(plan so far)` for saliencies, and
    `choose(saliencies, t / rounds)` the units that are gone by then. What went stays gone; one round is the single
    ranking.

    The plan's saliencies are those by which each unit was last judged. Source: 002 Algorithm 2.
    """
    plan: Plan | None = None
    judged: dict[str, Tensor] = {}
    for step in range(1, rounds + 1):
        saliencies = {name: value.clone() for name, value in ask(plan).items()}
        for name, value in saliencies.items():
            gone = torch.zeros(len(value), dtype=torch.bool)
            if plan is not None and name in plan.removed:
                gone[plan.removed[name]] = True
            judged[name] = torch.where(gone, judged.get(name, value), value)
            value[gone] = GONE
        before = plan.order if plan is not None else []
        chosen = choose(saliencies, step / rounds)
        new = [entry for entry in chosen.order if entry not in set(before)]
        plan = plan_of([*before, *new], judged)
    assert plan is not None
    return plan
