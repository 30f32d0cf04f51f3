"""Norms written by hand, and layers whose weights torch computes from others."""

from __future__ import annotations

import random

import torch
from contractions import keep_positions
from parts import Part, State, columns_last, part, weight, width
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune


@part("norm_by_hand", "norm")
class NormByHand(Part):
    """RMS, layer and batch norm written out, with the size read from the shape or from a float attribute."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("rms", "rms_norm", "layer", "var", "l2", "running", "running_function", "position"))
        self.gamma, self.beta = weight(state.channels), weight(state.channels)
        self.register_buffer("mean", torch.zeros(state.channels))
        self.register_buffer("var", torch.ones(state.channels))
        self.root = state.channels**-0.5

    def forward(self, x: Tensor) -> Tensor:
        x = columns_last(x, self.layout)
        y = self._normed(x)
        return y.movedim(-1, 1) if self.layout == "channels" else y

    def _normed(self, x: Tensor) -> Tensor:
        if self.how == "rms":
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.gamma
        if self.how == "rms_norm":
            return x / (x.norm(dim=-1, keepdim=True) * self.root + 0.1) * self.gamma
        if self.how == "layer":
            mean = x.mean(-1, keepdim=True)
            return (x - mean) / ((x - mean).square().mean(-1, keepdim=True) + 1e-5).sqrt() * self.gamma + self.beta
        if self.how == "var":
            return (x - x.mean(-1, True)) * torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + 0.1) + self.beta
        if self.how == "l2":
            return nn.functional.normalize(x, dim=-1) * self.gamma
        if self.how == "running":
            return (x - self.mean) / (self.var + 1e-5).sqrt() * self.gamma + self.beta
        if self.how == "running_function" and x.dim() == 2:
            return nn.functional.batch_norm(x, self.mean, self.var, self.gamma, self.beta)  # type: ignore[arg-type]
        if x.dim() > 2:  # over positions: each channel by itself
            return x / (x.std(1, keepdim=True) + 0.5) * self.gamma
        return x * self.gamma


@part("derived_weight", "contraction")
class DerivedWeight(Part):
    """A layer with weight or spectral norm, by a parametrization or by the older hook, or with a mask of `prune`."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        hows = ("weight", "weight_other_axis", "weight_all", "spectral", "spectral_hook", "unstructured", "structured")
        self.how = dice.choice((*hows, "columns", "custom", "orthogonal"))
        layer = keep_positions(state, width(dice), dice)
        if self.how == "weight":
            layer = parametrizations.weight_norm(layer)
        elif self.how == "weight_other_axis":
            layer = parametrizations.weight_norm(layer, dim=1)
        elif self.how == "weight_all":
            layer = nn.utils.weight_norm(layer)
        elif self.how == "spectral":
            layer = parametrizations.spectral_norm(layer)
        elif self.how == "spectral_hook":
            layer = nn.utils.spectral_norm(layer)
        elif self.how == "unstructured":
            prune.random_unstructured(layer, "weight", amount=0.3)
        elif self.how == "structured":
            prune.random_structured(layer, "weight", amount=0.3, dim=0)
        elif self.how == "columns" and state.channels > 2:
            prune.random_structured(layer, "weight", amount=0.3, dim=1)
        elif self.how == "orthogonal":
            layer = parametrizations.orthogonal(layer)
        else:
            nn.utils.parametrize.register_parametrization(layer, "weight", Scaled(layer.weight.shape[0]))
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


class Scaled(nn.Module):
    """A parametrization of one's own: the weight times a scale for each row."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.gamma = weight(rows)

    def forward(self, matrix: Tensor) -> Tensor:
        return matrix * self.gamma.view(-1, *[1] * (matrix.dim() - 1))
