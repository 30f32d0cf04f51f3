"""What stands between the projections of an attention and its softmax: positions, norms of q and k, scales of heads."""

from __future__ import annotations

import random

import torch
from parts import weight
from torch import Tensor, nn

PLACES = ("none", "none", "rotary", "half_rotary", "norm", "scale", "temperature", "clip")
MASKS = (
    "none",
    "none",
    "tril",
    "full",
    "where",
    "is_causal",
    "padding",
    "padding_of_one",
    "table",
    "flat_table",
    "sink",
)


class Place(nn.Module):
    """Changes q and k of shape (batch, heads, positions, width), each in the same way."""

    def __init__(self, dice: random.Random, heads: int, width: int) -> None:
        super().__init__()
        self.how = dice.choice(PLACES)
        if width % 2 and "rotary" in self.how:
            self.how = "none"
        self.register_buffer("inv_freq", torch.zeros(max(1, width // 2)))
        norms = (nn.LayerNorm(width), nn.RMSNorm(width), nn.LayerNorm(width, elementwise_affine=False))
        self.norm = dice.choice(norms) if self.how == "norm" else nn.Identity()
        self.gamma = weight(heads, 1, 1) if self.how in ("scale", "temperature", "clip") else None

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        if self.how == "norm":
            return self.norm(q), self.norm(k)
        if "rotary" in self.how:
            return self._turned(q), self._turned(k)
        if self.gamma is None:
            return q, k
        if self.how == "clip":
            return q * self.gamma.clamp(max=1.2).exp(), k
        if self.how == "temperature":
            return nn.functional.normalize(q, dim=-1) * self.gamma, nn.functional.normalize(k, dim=-1)
        return q * self.gamma, k

    def _turned(self, x: Tensor) -> Tensor:
        angle = torch.outer(torch.arange(x.shape[-2]).to(x.dtype), self.inv_freq)  # type: ignore[arg-type]
        cos, sin = angle.cos(), angle.sin()
        if self.how == "rotary":
            a, b = x[..., 0::2], x[..., 1::2]
            return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
        cos, sin = torch.cat([cos, cos], -1), torch.cat([sin, sin], -1)
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin


class Mask(nn.Module):
    """What is added to the scores (batch, heads, queries, keys): None, a mask, or a bias of its own for each head."""

    def __init__(self, dice: random.Random, heads: int, queries: int, keys: int) -> None:
        super().__init__()
        self.how = dice.choice(MASKS)
        if queries != keys and self.how == "is_causal":
            self.how = "tril"
        index = torch.arange(queries)[:, None] - torch.arange(keys) + keys - 1
        self.register_buffer("index", index)
        entries = queries + keys - 1
        tables = {"table": (entries, heads), "flat_table": (entries, heads), "sink": (heads,)}
        self.gamma = weight(*tables[self.how]) if self.how in tables else None

    def forward(self, x: Tensor, queries: int, keys: int) -> Tensor | None:
        """`x` is what keys are made of, (batch, keys, features)."""
        if self.how == "tril":
            return torch.zeros(queries, keys, dtype=x.dtype).masked_fill(~torch.ones(queries, keys).tril().bool(), -1e4)
        if self.how == "full":
            return torch.full((queries, keys), -1e4, dtype=x.dtype).triu(1)
        if self.how == "where":
            seen = torch.arange(queries)[:, None] >= torch.arange(keys)
            return torch.where(seen, 0.0, -3.0).to(x.dtype)
        if self.how == "padding":
            return ((x.mean(-1) < -0.3)[:, None, None, :] * -1e4).to(x.dtype)
        if self.how == "padding_of_one":
            return x.new_zeros(x.shape[0], 1, 1, keys).masked_fill((x[..., 0] < -0.5)[:, None, None], -5.0)
        if self.how == "table":
            assert self.gamma is not None
            return self.gamma[self.index].permute(2, 0, 1)  # type: ignore[index]
        if self.how == "flat_table":
            assert self.gamma is not None
            rows = self.gamma[self.index.view(-1)]  # type: ignore[operator]
            return rows.view(queries, keys, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        return None
