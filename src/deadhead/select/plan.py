"""A plan: which units go, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deadhead.gates.sites import closing
from deadhead.graph.units.groups import Group


@dataclass(frozen=True)
class Plan:
    """`removed[group]` holds the units that go, ascending; `order` all of them as (group, unit), first to go first;
    `saliencies[group]` what the choice was made by."""

    removed: dict[str, Tensor]
    order: list[tuple[str, int]]
    saliencies: dict[str, Tensor] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.order)

    def alpha(self, groups: Sequence[Group]) -> dict[str, Tensor]:
        """Gates that close what the plan removes: {group: (K,) of ones and zeros}."""
        return closing(groups, self.removed)

    def with_units(self, units: Mapping[str, Sequence[int]], scores: Mapping[str, Tensor]) -> Plan:
        """As many units of each group, but these, in their order, at the places that the order has for their groups;
        with other scores for some groups."""
        waiting = {name: iter(chosen) for name, chosen in units.items()}
        return plan_of([(name, next(waiting[name])) for name, _ in self.order], {**self.saliencies, **scores})


def plan_of(order: Sequence[tuple[str, int]], saliencies: Mapping[str, Tensor] | None = None) -> Plan:
    """The plan that removes the units of `order`."""
    removed: dict[str, list[int]] = {}
    for name, unit in order:
        removed.setdefault(name, []).append(unit)
    return Plan(
        {name: torch.tensor(sorted(units)) for name, units in removed.items()}, list(order), dict(saliencies or {})
    )
