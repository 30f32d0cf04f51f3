"""An experiment: how many units of a random network are dead from the start."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from deadhead.lab.experiment import Claim
from deadhead.lab.experiments import experiment
from deadhead.lab.judges import Share
from deadhead.progress import Progress


@dataclass(frozen=True)
class DeadAtBirth:
    """Settings: the layer's units, the samples, and what is added to every bias."""

    width: int = 256
    samples: int = 1000
    bias: float = 0.0


FEW = Claim(
    "G1.1", "folklore", "Hardly any unit is dead from the start.", "none",
    Share("dead", high=0.02), example={"dead": 0.0}, counter={"dead": 0.4},
)  # fmt: skip


@experiment("dead_at_birth", DeadAtBirth, claims=[FEW], quick={"samples": 100})
def dead_at_birth(settings: DeadAtBirth, seed: int, progress: Progress | None) -> dict[str, Any]:
    """The share of ReLU units that are zero for every sample before any training, by the mean of their biases."""
    torch.manual_seed(seed)
    layer = nn.Linear(16, settings.width)
    with torch.no_grad():
        layer.bias.add_(settings.bias)
        fired = (layer(torch.randn(settings.samples, 16)) > 0).any(0)
    return {"dead": 1 - fired.double().mean().item(), "units": settings.width}
