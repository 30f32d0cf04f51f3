"""A plan: which units are removed, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deadhead.gates.sites import closing
from deadhead.graph.units.groups import Group


@dataclass(frozen=True)
class Plan:
    """The units that are removed; made by `plan_of`.

    Attributes:
        removed: {group: its units that are removed, ascending}.
        order: all of them as (group, unit), the first to be removed first.
        saliencies: {group: (K,)}, what the choice was made by.
    """

    removed: dict[str, Tensor]
    order: list[tuple[str, int]]
    saliencies: dict[str, Tensor] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of units that are removed."""
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
    """The plan that removes the units of `order`, given as (group, unit)."""
    removed: dict[str, list[int]] = {}
    for name, unit in order:
        removed.setdefault(name, []).append(unit)
    return Plan(
        {name: torch.tensor(sorted(units)) for name, units in removed.items()}, list(order), dict(saliencies or {})
    )
