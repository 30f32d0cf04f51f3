"""Re-initialising units while a network is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from deadhead.training.fresh import fresh_values


@torch.no_grad()
def revive(
    network: Network, group: Group, units: Sequence[int], optimizer: Optimizer, generator: torch.Generator | None = None
) -> None:
    """Re-initialise some units as their layers would, in place, and forget the optimizer's state of their entries.

    Everything that belongs to the units is drawn anew: the weights and biases that make them, what follows channel by
    channel (batch norm, with its running statistics), and the weights that read them. Nothing else changes.

    Args:
        network: the traced network, whose module is changed.
        group: the group.
        units: which of its units.
        optimizer: the optimizer that trains the module; its state of a parameter's shape is 0 at these entries then.
        generator: where the random numbers come from; no global generator is used.

    Source:
        Evci (2018), section 3.2: dead units, once detected, are to be removed or revived.
    """
    tensors = network.state()
    for part in group.slices:
        chosen = torch.isin(part.units, torch.as_tensor(list(units), dtype=part.units.dtype)).nonzero()[:, 0]
        if not len(chosen):
            continue
        tensor = tensors[part.parameter]
        index = chosen.to(tensor.device)
        fresh = fresh_values(network.module, part.parameter, generator)
        tensor.index_copy_(part.axis, index, fresh.index_select(part.axis, index))
        for value in optimizer.state.get(tensor, {}).values():
            if isinstance(value, Tensor) and value.shape == tensor.shape:
                value.index_fill_(part.axis, index, 0)
