"""A search for the unit that goes next, round after round: what `oracle` asks, exactly or by a race."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deadhead.data.calibration import Batch, count
from deadhead.data.losses import Loss
from deadhead.gates.batched import Parts
from deadhead.gates.gates import Gates
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from deadhead.select.plan import plan_of

Unit = tuple[str, int]


class Search(ABC):
    """The unit that goes next, round after round. `passes` counts losses of single samples, in passes over the data,
    `work` multiply-adds, in forward passes over the data."""

    def __init__(self, network: Network, groups: Sequence[Group], loss: Loss, batches: Sequence[Batch]) -> None:
        self.network, self.groups, self.loss, self.batches = network, groups, loss, batches
        self.rows, self.passes, self.work, self.parts = count(batches), 0.0, 0.0, Parts(network)

    @abstractmethod
    def next(self, order: Sequence[Unit]) -> tuple[Unit, float]:
        """The unit that goes next in the network without those of `order`, and the mean loss without it."""

    def intact(self) -> float:
        """The mean loss of the intact network: the first question of every search."""
        return self._intact().mean().item()

    def state(self) -> dict[str, Tensor]:
        """What a search has to hold, besides the order and the passes, to go on with the same result."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        assert state.keys() == self.state().keys()

    def left(self, order: Sequence[Unit]) -> dict[str, list[int]]:
        """The units of each group that can go, in the network without those of `order`."""
        gone = set(order)
        found = {group.name: [u for u in range(group.size) if (group.name, u) not in gone] for group in self.groups}
        return {group.name: found[group.name] for group in self.groups if len(found[group.name]) > group.minimum}

    def gates(self, order: Sequence[Unit]) -> Gates:
        return PrunedState.of(self.network, plan_of(order)).gates(self.loss)

    def _intact(self) -> Tensor:
        with torch.no_grad():
            gates = self.gates([])
            return torch.cat([gates.loss({}, batch).double().cpu() for batch in self.batches])
