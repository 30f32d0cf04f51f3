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
    """A plan, as far as a state needs it: `removed[group]` holds the units that are removed."""

    @property
    def removed(self) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True)
class Removed:
    """The units that are removed, without an order: what a plan comes down to."""

    removed: Mapping[str, Tensor]


class Changes(Protocol):
    """A compensation, as far as a state needs it: the new `tensors` by name, in the intact network's shapes, and the
    `constants` that are added to what the consumers of a weight give, by the weight's name."""

    @property
    def tensors(self) -> Mapping[str, Tensor]: ...

    @property
    def constants(self) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True)
class PrunedState:
    """The network as it is after a plan and a compensation; made by `PrunedState.of`.

    Attributes:
        network: the intact network, which is not touched.
        closed: {group: (K,)}, gates that stand before all others, with reference zero: 0 where a unit is removed.
        tensors: every parameter and buffer by name, detached, those compensated in the intact network's shapes.
        constants: {weight: (outputs,)}, added to what the consumers of a weight give.
    """

    network: Network
    closed: Mapping[str, Tensor] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, network: Network, plan: Removes | None = None, compensation: Changes | None = None) -> PrunedState:
        """The state after a plan and a compensation; that of the intact network without them."""
        tensors, constants = network.frozen_state(), dict[str, Tensor]()
        if compensation is not None:
            held = network.state()
            for name, tensor in compensation.tensors.items():
                tensors.update({other: tensor for other, value in held.items() if value is held[name]})
            constants = dict(compensation.constants)
        closed = {} if plan is None else closing(network.groups, plan.removed)
        return cls(network, closed, tensors, constants)

    def closing(self, closed: Mapping[str, Tensor]) -> PrunedState:
        """The same with other gates closed."""
        return replace(self, closed=dict(closed))

    def gates(self, loss: Loss | None = None, references: References | None = None, *, site: str = "consumer") -> Gates:
        """Gates on the units of this network; the squared error where no loss is asked for."""
        return Gates(self, loss or as_loss("mse"), references, site=site)

    def outputs(self, batch: Batch, *, renormalise: bool = True) -> Any:
        """The outputs for one batch, in the network's own container, without gradients. With `renormalise` off,
        normalisations go on over all units, those that are removed too."""
        with torch.no_grad():
            return Gates(self, as_loss("mse"), renormalise=renormalise).outputs({}, batch)

    def remaining(self) -> dict[str, Tensor]:
        """The tensors with zeros wherever a slice belongs to a unit that is removed."""
        found = dict(self.tensors)
        for group in self.network.groups:
            if group.name not in self.closed:
                continue
            removed = self.closed[group.name] == 0
            for part in group.slices:
                gone = (part.units >= 0) & removed[part.units.clamp(min=0)]
                index = gone.nonzero()[:, 0].to(found[part.parameter].device)
                found[part.parameter] = found[part.parameter].index_fill(part.axis, index, 0)
        return found
