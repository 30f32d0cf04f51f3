"""What a tensor would be if its layer were initialised again."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from deadhead.cut.surgery import owner_of


def fresh_values(module: nn.Module, name: str, seed: int = 0) -> Tensor:
    """A fresh draw of one tensor."""
    owner, leaf = owner_of(module, name)
    again = copy.deepcopy(owner)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        again.reset_parameters()  # type: ignore[operator]
    value = again._parameters.get(leaf)
    return (again._buffers[leaf] if value is None else value).detach()  # type: ignore[union-attr]
