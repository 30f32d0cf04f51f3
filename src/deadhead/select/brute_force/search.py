"""A search for the unit to remove next, round after round: what `oracle` runs, exactly or as a race."""

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
    """The search for the unit to remove next, round after round.

    Attributes:
        samples: the number of samples.
        passes: the losses of single samples that were computed, in passes over the data.
        work: the multiply-adds that were computed, in forward passes over the data.
    """

    def __init__(self, network: Network, groups: Sequence[Group], loss: Loss, batches: Sequence[Batch]) -> None:
        self.network, self.groups, self.loss, self.batches = network, groups, loss, batches
        self.samples, self.passes, self.work, self.parts = count(batches), 0.0, 0.0, Parts(network)

    @abstractmethod
    def next(self, order: Sequence[Unit]) -> tuple[Unit, float]:
        """The unit to remove next from the network without those of `order`, and the mean loss without it."""

    def intact(self) -> float:
        """The mean loss of the intact network, which every search asks for first."""
        return self._intact().mean().item()

    def state(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint needs, besides the order and the passes, to go on with the same result."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the state of a checkpoint."""
        assert state.keys() == self.state().keys()

    def removable(self, order: Sequence[Unit]) -> dict[str, list[int]]:
        """The units of each group that can be removed from the network without those of `order`."""
        removed = set(order)
        units = {group.name: [u for u in range(group.size) if (group.name, u) not in removed] for group in self.groups}
        return {group.name: units[group.name] for group in self.groups if len(units[group.name]) > group.minimum}

    def gates(self, order: Sequence[Unit]) -> Gates:
        """The gates of the network without the units of `order`."""
        return PrunedState.of(self.network, plan_of(order)).gates(self.loss)

    def _intact(self) -> Tensor:
        with torch.no_grad():
            gates = self.gates([])
            return torch.cat([gates.loss({}, batch).double().cpu() for batch in self.batches])
