"""A plan: which units go, in which order, and how many parameters that leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deadhead.graph.network import Network
from deadhead.graph.units import Group


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


class Sizes:
    """Counts units and parameters for any number of units removed from each group, by the groups' slices.

    `biases` names weights that are given a bias when units of the groups listed go.
    """

    def __init__(
        self, network: Network, groups: Sequence[Group], biases: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        parameters = dict(network.module.named_parameters(remove_duplicate=True))
        self._biases = biases or {}
        self._units = sum(group.size for group in groups)
        self._shapes = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
        self._uses = [
            (part.parameter, part.axis, group.name, int((part.units >= 0).sum()) // group.size)
            for group in groups
            for part in group.slices
            if part.parameter in self._shapes
        ]

    def units(self, removed: Mapping[str, int]) -> int:
        """The number of units that are left."""
        return self._units - sum(removed.values())

    def parameters(self, removed: Mapping[str, int]) -> int:
        """The number of parameters that are left after removing `removed[group]` units of each group."""
        lengths = {name: list(shape) for name, shape in self._shapes.items()}
        for name, axis, group, width in self._uses:
            lengths[name][axis] -= width * removed.get(group, 0)
        added = sum(
            lengths[weight][0] for weight, names in self._biases.items() if any(removed.get(name) for name in names)
        )
        return added + sum(int(torch.Size(shape).numel()) for shape in lengths.values())
