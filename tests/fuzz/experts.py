"""Mixtures of experts: a router gives weights, all experts compute, and what they give is summed."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from counts import Counting
from parts import State, part, weight, width
from torch import Tensor, nn


@part("experts", "structure")
class Experts(Counting):
    """Experts in a list of modules, or in one weight (experts, in, out); all of them count, or the best ones only."""

    layouts = ("flat", "tokens")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("modules", "weights", "gated", "batched", "stacked"))
        self.route = dice.choice(("softmax", "topk", "topk_scatter", "sigmoid", "one_hot", "threshold"))
        experts, inner = dice.choice((2, 3, 4)), width(dice)
        self.hold(dice, heads=experts, layers=2)
        self.router = nn.Linear(state.channels, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(state.channels, inner), nn.GELU(), nn.Linear(inner, state.channels))
            for _ in range(experts)
        )
        self.up = weight(experts, state.channels, 2 * inner if self.how == "gated" else inner)
        self.down = weight(experts, inner, state.channels)
        self.residual = dice.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        routed = self._routed(self.router(x))
        if self.how == "modules":
            y = torch.zeros_like(x)
            for place, expert in enumerate(self.experts):
                y = y + routed[..., place : place + 1] * expert(x)
        elif self.how == "stacked":
            y = (torch.stack([expert(x) for expert in self.experts], -1) * routed.unsqueeze(-2)).sum(-1)
        elif self.how == "batched":
            rows = x.reshape(1, -1, x.shape[-1]).expand(self.number("heads"), -1, -1)
            z = torch.bmm(F.gelu(torch.bmm(rows, self.up)), self.down)
            y = (z * routed.reshape(-1, routed.shape[-1]).t().unsqueeze(-1)).sum(0).view(x.shape)
        else:
            z = torch.einsum("...c,ech->...eh", x, self.up)
            if self.how == "gated":
                gate, value = z.chunk(2, -1)
                z = F.silu(gate) * value
            else:
                z = F.gelu(z)
            y = torch.einsum("...eh,ehc,...e->...c", z, self.down, routed)
        return x + y if self.residual else y

    def _routed(self, logits: Tensor) -> Tensor:
        """A weight for each expert: most are zero where only the best count."""
        if self.route == "sigmoid":
            return torch.sigmoid(logits)
        weights = logits.softmax(-1)
        if self.route == "softmax":
            return weights
        if self.route == "threshold":
            return weights.masked_fill(weights < 0.25, 0.0)
        best, index = weights.topk(self.number("layers"), -1)
        if self.route == "topk":
            return torch.where(weights >= best[..., -1:], weights, torch.zeros_like(weights))
        best = best / best.sum(-1, keepdim=True)
        if self.route == "one_hot":
            return (F.one_hot(index, weights.shape[-1]).to(weights.dtype) * best.unsqueeze(-1)).sum(-2)
        return torch.zeros_like(weights).scatter(-1, index, best)
