"""Weights that are not what they seem."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from zoo.plain.entry import add, real, whole


def reparametrised(by: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Two convolutions and a layer with their weights reparametrised, and a plain head."""
    return nn.Sequential(
        by(nn.Conv2d(3, 8, 3, padding=1)),
        nn.ReLU(),
        by(nn.Conv2d(8, 10, 3, padding=1)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        by(nn.Linear(10, 13)),
        nn.ReLU(),
        nn.Linear(13, 7),
    )


def masked() -> nn.Module:
    """A network with masks on its weights."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 10, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1440, 12), nn.ReLU(),
        nn.Linear(12, 7),
    )  # fmt: skip
    prune.l1_unstructured(model[0], "weight", 0.3)
    prune.random_structured(model[2], "weight", amount=2, dim=0)
    prune.l1_unstructured(model[5], "weight", 0.5)
    prune.l1_unstructured(model[5], "bias", 2)
    return model


class Tied(nn.Module):
    """An embedding that is the output layer too, and a layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 9)
        self.up, self.middle, self.down = nn.Linear(9, 16), nn.Linear(16, 16), nn.Linear(16, 9)
        self.out = nn.Linear(9, 11, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        h = F.relu(self.middle(F.relu(self.middle(F.relu(self.up(x))))))
        return self.out(x + self.down(h))


add("weight_norm", lambda: reparametrised(parametrizations.weight_norm), real(3, 8, 8))
add("weight_norm_old", lambda: reparametrised(torch.nn.utils.weight_norm), real(3, 8, 8))
add("spectral_norm", lambda: reparametrised(parametrizations.spectral_norm), real(3, 8, 8))
add("spectral_norm_old", lambda: reparametrised(torch.nn.utils.spectral_norm), real(3, 8, 8))
add(
    "orthogonal",
    lambda: nn.Sequential(
        nn.Linear(9, 14), nn.ReLU(), parametrizations.orthogonal(nn.Linear(14, 10)), nn.Linear(10, 7)
    ),
    real(9),
)
add("masked", masked, real(3, 16, 16))
add("tied", Tied, whole(11, 6))
