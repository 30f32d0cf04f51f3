"""An experiment: how many units of a random network are dead from the start."""

from typing import Any

import torch
from torch import nn

from deadhead.lab.experiments import experiment


@experiment("dead_at_birth")
def dead_at_birth(*, width: int = 256, samples: int = 1000, bias: float = 0.0, seed: int = 0) -> dict[str, Any]:
    """The share of ReLU units that are zero for every sample before any training, by the mean of their biases."""
    torch.manual_seed(seed)
    layer = nn.Linear(16, width)
    with torch.no_grad():
        layer.bias.add_(bias)
        fired = (layer(torch.randn(samples, 16)) > 0).any(0)
    return {"dead": 1 - fired.double().mean().item(), "units": width}
