"""A plan: which units go, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

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
        gates = {}
        for group in groups:
            gone = self.removed.get(group.name)
            if gone is not None and len(gone):
                gates[group.name] = torch.ones(group.size).index_fill_(0, gone, 0.0)
        return gates


def plan_of(order: Sequence[tuple[str, int]], saliencies: Mapping[str, Tensor] | None = None) -> Plan:
    """The plan that removes the units of `order`."""
    removed: dict[str, list[int]] = {}
    for name, unit in order:
        removed.setdefault(name, []).append(unit)
    return Plan(
        {name: torch.tensor(sorted(units)) for name, units in removed.items()}, list(order), dict(saliencies or {})
    )
