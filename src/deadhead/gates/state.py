"""`PrunedState`: the network as it is after a plan and a compensation, before anything is cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from deadhead.data.calibration import Batch
from deadhead.data.losses import Loss, as_loss
from deadhead.gates.gates import Gates, References
from deadhead.gates.sites import closing
from deadhead.graph.network import Network


class Removes(Protocol):
    """What a state reads of a plan: `removed[group]` has the indices of the units that are removed."""

    @property
    def removed(self) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True)
class Removed:
    """The units that are removed, {group: indices}, without an order."""

    removed: Mapping[str, Tensor]


class Changes(Protocol):
    """What a state reads of a compensation: the new `tensors` by name, in the intact network's shapes, and the
    `constants` that are added to the outputs of the consumers of a weight, by the weight's name."""

    @property
    def tensors(self) -> Mapping[str, Tensor]: ...

    @property
    def constants(self) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True)
class PrunedState:
    """The network as it is after a plan and a compensation; made by `PrunedState.of`.

    Attributes:
        network: the intact network, which is not touched.
        closed: {group: (K,)}, the gates of removed units, with reference zero and before all others: 0 where a unit is
            removed, else 1.
        tensors: every parameter and buffer by name, detached, compensated ones in the intact network's shapes too.
        constants: {weight: (outputs,)}, added to the outputs of the consumers of a weight.
    """

    network: Network
    closed: Mapping[str, Tensor] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, network: Network, plan: Removes | None = None, compensation: Changes | None = None) -> PrunedState:
        """The state of a network after a plan and a compensation.

        Args:
            network: the intact network.
            plan: the units that are removed; none where None.
            compensation: the new tensors and constants; none where None.
        """
        tensors, constants = network.frozen_state(), dict[str, Tensor]()
        if compensation is not None:
            tensors.update(_by_all_names(network, compensation.tensors))
            constants = dict(compensation.constants)
        closed = {} if plan is None else closing(network.groups, plan.removed)
        return cls(network, closed, tensors, constants)

    def closing(self, closed: Mapping[str, Tensor]) -> PrunedState:
        """The same tensors and constants with other units removed: `closed[group]`, (K,), is 0 at these and 1 else."""
        return replace(self, closed=dict(closed))

    def gates(self, loss: Loss | None = None, references: References | None = None, *, site: str = "consumer") -> Gates:
        """Gates on the units of this network, at which the loss can be evaluated.

        Args:
            loss: what the outputs are judged by; the squared error where None.
            references: what closed gates give in place of an activation, by group and consumer; zero where missing.
            site: "consumer" or "producer", as in `Gates`.
        """
        return Gates(self, loss or as_loss("mse"), references, site=site)

    def outputs(self, batch: Batch, *, renormalise: bool = True) -> Any:
        """The outputs for one batch, in the network's own container, without gradients.

        Args:
            batch: the inputs; targets are not read.
            renormalise: whether normalisations leave the removed units out, as a cut does; else these count as zeros.
        """
        with torch.no_grad():
            return Gates(self, as_loss("mse"), renormalise=renormalise).outputs({}, batch)

    def remaining(self) -> dict[str, Tensor]:
        """Every parameter and buffer by name, with zeros in the slices that belong to a removed unit."""
        zeroed: dict[str, Tensor] = {}
        for group in self.network.groups:
            if group.name not in self.closed:
                continue
            removed = self.closed[group.name] == 0
            for part in group.slices:
                tensor = zeroed.get(part.parameter, self.tensors[part.parameter])
                index = ((part.units >= 0) & removed[part.units.clamp(min=0)]).nonzero()[:, 0].to(tensor.device)
                zeroed[part.parameter] = tensor.index_fill(part.axis, index, 0)
        return {**self.tensors, **_by_all_names(self.network, zeroed)}


def _by_all_names(network: Network, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name, those that modules share by each of their names."""
    own = network.state()
    names: dict[int, list[str]] = {}
    for name, value in own.items():
        names.setdefault(id(value), []).append(name)
    return {other: tensor for name, tensor in tensors.items() for other in names[id(own[name])]}
