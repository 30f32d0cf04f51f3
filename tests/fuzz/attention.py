"""Attention: projections in several layouts, own or foreign keys, grouped queries, written out or as one function.

A head is a unit where the class reads the number of heads or computes it. Maps of channels are taken as one token for
each position.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from counts import Counting
from parts import Part, State, part
from places import Mask, Place
from torch import Tensor, nn

CORES = ("function", "function", "written", "written_scale", "written_shape", "einsum")


class Heads(Counting):
    """What all kinds have in common: the numbers, masks, the softmax, and the projection behind it."""

    layouts = ("tokens", "channels")

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout in cls.layouts and 2 <= torch.Size(state.space).numel() <= 36

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.core = dice.choice(CORES)
        self.join = dice.choice(("flatten", "view", "literal", "permute"))
        heads, width = dice.choice((2, 3, 4, 6)), dice.choice((2, 2, 3, 4))
        if dice.random() < 0.3 and state.channels % 2 == 0 and state.channels > 3:
            heads, width = state.channels // 2, 2
        self.hold(dice, heads=heads, width=width, size=heads * width)
        positions = torch.Size(state.space).numel()
        self.place = Place(dice, heads, width)
        self.mask = Mask(dice, heads, positions, positions - self.foreign)
        self.inner = heads * width
        self.float_scale = width**-0.5
        self.out = nn.Linear(heads * width, state.channels)
        self.residual = dice.random() < 0.4

    foreign = 0
    """How many keys fewer there are than queries."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.flatten(2).transpose(1, 2) if self.layout == "channels" else x
        z = self.attend(y)
        z = y + z if self.residual else z
        return z.transpose(1, 2).unflatten(2, x.shape[2:]) if self.layout == "channels" else z

    def attend(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def split(self, x: Tensor) -> Tensor:
        """(batch, positions, heads * width) to (batch, heads, positions, width)."""
        return x.view(x.shape[0], x.shape[1], self.number("heads"), -1).transpose(1, 2)

    def mixed(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> Tensor:
        """The attention of (batch, heads, positions, width) with the mask, joined and projected."""
        q, k = self.place(q, k)
        mask = self.mask(x, q.shape[2], k.shape[2])
        causal = self.mask.how == "is_causal"
        if self.core == "function" and self.mask.how != "sink":
            z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        else:
            z = self._written(q, k, v, mask, causal)
        return self.out(self._joined(z))  # type: ignore[no-any-return]

    def _written(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        if self.core == "einsum":
            scores = torch.einsum("bhqd,bhkd->bhqk", q, k) * self.float_scale
        else:
            scores = q @ k.transpose(-2, -1)
            how = {"written_scale": self.float_scale, "written": self.number("width") ** -0.5}
            scores = scores * how.get(self.core, 1 / math.sqrt(q.shape[-1]))
        if mask is not None:
            scores = scores + mask
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores[0, 0]).triu(1) > 0, -1e4)
        if self.mask.how == "sink":
            sink = self.mask.gamma.view(1, -1, 1, 1).expand(scores.shape[0], -1, scores.shape[2], 1)
            weights = torch.cat([scores, sink], -1).softmax(-1)[..., :-1]
        else:
            weights = scores.softmax(-1)
        return torch.einsum("bhqk,bhkd->bhqd", weights, v) if self.core == "einsum" else weights @ v

    def _joined(self, z: Tensor) -> Tensor:
        if self.join == "flatten":
            return z.transpose(1, 2).flatten(2)
        if self.join == "view":
            return z.transpose(1, 2).contiguous().view(z.shape[0], z.shape[2], -1)
        if self.join == "permute":
            return z.permute(0, 2, 1, 3).reshape(z.shape[0], z.shape[2], z.shape[1] * z.shape[3])
        return z.transpose(1, 2).reshape(z.shape[0], -1, self.number("size"))


@part("self_attention", "attention")
class SelfAttention(Heads):
    """Three projections, split by the number of heads, by their width, or by both."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("heads", "width", "both", "unflatten", "shape_heads"))
        bias = dice.random() < 0.6
        self.q, self.k, self.v = (nn.Linear(state.channels, self.inner, bias=bias) for _ in range(3))

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = (self._split(each(x)) for each in (self.q, self.k, self.v))
        return self.mixed(q, k, v, x)

    def _split(self, x: Tensor) -> Tensor:
        b, n = x.shape[:2]
        if self.how == "width":
            return x.view(b, n, -1, self.number("width")).transpose(1, 2)
        if self.how == "both":
            return x.reshape(b, n, self.number("heads"), self.number("width")).permute(0, 2, 1, 3)
        if self.how == "unflatten":
            return x.unflatten(-1, (self.number("heads"), -1)).transpose(1, 2)
        if self.how == "shape_heads":
            return x.view(b, n, self.number("heads"), x.shape[-1] // self.number("heads")).transpose(1, 2)
        return self.split(x)


@part("fused_attention", "attention")
class FusedAttention(Heads):
    """One projection for queries, keys and values, in each order of its three axes, chunked, or split by sizes."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("3hw", "h3w", "hw3", "chunk", "split", "per_head", "raw"))
        self.qkv = nn.Linear(state.channels, 3 * self.inner, bias=dice.random() < 0.6)

    def attend(self, x: Tensor) -> Tensor:
        b, n = x.shape[:2]
        y = F.linear(x, self.qkv.weight, self.qkv.bias) if self.how == "raw" else self.qkv(x)
        if self.how in ("3hw", "raw"):
            q, k, v = y.reshape(b, n, 3, self.number("heads"), self.number("width")).permute(2, 0, 3, 1, 4)
        elif self.how == "h3w":
            q, k, v = y.view(b, n, self.number("heads"), 3, -1).permute(3, 0, 2, 1, 4).unbind(0)
        elif self.how == "hw3":
            q, k, v = y.view(b, n, self.number("heads"), self.number("width"), 3).transpose(1, 2).unbind(-1)
        elif self.how == "per_head":
            q, k, v = y.view(b, n, self.number("heads"), 3 * self.number("width")).transpose(1, 2).chunk(3, -1)
        elif self.how == "split":
            q, k, v = (self.split(each) for each in y.split(self.number("size"), -1))
        else:
            q, k, v = (self.split(each) for each in y.chunk(3, dim=-1))
        return self.mixed(q, k, v, x)


@part("cross_attention", "attention")
class CrossAttention(Heads):
    """Keys and values of another stream of tokens, which is made of the same input and is shorter."""

    foreign = 1

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("two", "fused", "shared"))
        wide = dice.choice((4, 6))
        self.stream = nn.Linear(state.channels, wide)
        self.q = nn.Linear(state.channels, self.inner)
        self.kv = nn.Linear(wide, (2 if self.how == "fused" else 1) * self.inner)
        self.v = nn.Linear(wide, self.inner)

    def attend(self, x: Tensor) -> Tensor:
        other = torch.tanh(self.stream(x.flip(1)[:, 1:]))
        q = self.split(self.q(x))
        if self.how == "fused":
            k, v = (self.split(each) for each in self.kv(other).chunk(2, -1))
        else:
            k = self.split(self.kv(other))
            v = self.split(self.v(other)) if self.how == "two" else k
        return self.mixed(q, k, v, other)


@part("grouped_queries", "attention")
class GroupedQueries(Heads):
    """Fewer heads of keys and values than of queries: each is used by several, or by all."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        heads = self.number("heads")
        self.how = dice.choice(("interleave", "expand", "axis", "one", "one_function"))
        self.kv_heads = 1 if self.how.startswith("one") else next(n for n in (3, 2, 1) if heads % n == 0)
        self.each = heads // self.kv_heads
        kv = self.kv_heads * self.number("width")
        self.q, self.k, self.v = (nn.Linear(state.channels, n) for n in (self.inner, kv, kv))

    def attend(self, x: Tensor) -> Tensor:
        b, n = x.shape[:2]
        width = self.number("width")
        q = self.split(self.q(x))
        k, v = (each(x).view(b, n, -1, width).transpose(1, 2) for each in (self.k, self.v))
        if self.how == "interleave":
            k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
        elif self.how == "expand":
            k, v = (
                t[:, :, None].expand(b, self.kv_heads, self.each, n, width).reshape(b, -1, n, width) for t in (k, v)
            )
        elif self.how == "axis":
            k, v = (t.repeat_interleave(self.each, 1) for t in (k, v))
        else:
            k, v = (t.expand(-1, q.shape[1], -1, -1) for t in (k, v))
        return self.mixed(q, k, v, x)


@part("multihead_module", "attention")
class MultiheadModule(Part):
    """torch's own module: it says the numbers itself."""

    layouts = ("tokens",)
    rigid = True

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout == "tokens" and state.channels % 2 == 0

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("own", "cross", "layer"))
        self.attention = nn.MultiheadAttention(state.channels, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(
            state.channels, 2, 6, batch_first=True, norm_first=dice.random() < 0.5
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "layer":
            return self.encoder(x)  # type: ignore[no-any-return]
        other = x if self.how == "own" else x.flip(1)
        return self.attention(x, other, other, need_weights=False)[0]  # type: ignore[no-any-return]
