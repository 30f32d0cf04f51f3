"""Ties: groups of which equally many units have to go, chosen in each by its own saliencies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from deadhead.graph.units import Group
from deadhead.select.plan import Plan, plan_of

Ties = Sequence[Sequence[str]]


def choose_tied(
    groups: Sequence[Group],
    saliencies: Mapping[str, Tensor],
    ties: Ties,
    choose: Callable[[Sequence[Group], Mapping[str, Tensor]], Plan],
) -> Plan:
    """`choose(groups, saliencies)` where each tie stands as one group, under its first name: unit j of it is the j-th
    least salient unit of every member, worth the sum of theirs."""
    names = {group.name for group in groups}
    ties = [tie for tie in ties if set(tie) <= names]
    if not ties:
        return choose(groups, saliencies)
    followers = {name for tie in ties for name in tie[1:]}
    ranks = {name: torch.argsort(saliencies[name], stable=True) for tie in ties for name in tie}
    shown = {name: value for name, value in saliencies.items() if name not in followers}
    for tie in ties:
        shown[tie[0]] = torch.stack([saliencies[name][ranks[name]] for name in tie]).sum(0)
    plan = choose([group for group in groups if group.name not in followers], shown)
    members = {tie[0]: tie for tie in ties}
    order = [
        (name, int(ranks[name][unit]) if first in members else unit)
        for first, unit in plan.order
        for name in members.get(first, (first,))
    ]
    return plan_of(order, saliencies)


def counted(counts: Mapping[str, int], ties: Ties) -> dict[str, int]:
    """Units removed of each group, those of a tie's first member standing for every member."""
    every = dict(counts)
    for tie in ties:
        if tie[0] in counts:
            every.update(dict.fromkeys(tie, counts[tie[0]]))
    return every
