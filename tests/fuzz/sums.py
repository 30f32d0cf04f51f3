"""Sums of products and weights of more axes than two: einsum of several kinds, unflatten, maps over positions."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from counts import Counting
from parts import Part, State, divisor, part, weight, width
from torch import Tensor, nn


@part("headed_einsum", "contraction")
class HeadedEinsum(Counting):
    """A weight (features, heads, width), applied by einsum, and one that contracts two axes at once."""

    layouts = ("flat", "tokens")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("there", "there_and_back", "weighted", "diagonal", "three", "unflatten"))
        heads, inner = dice.choice((2, 3, 4)), dice.choice((2, 3))
        self.hold(dice, heads=heads, width=inner, size=heads * inner)
        self.enter = weight(state.channels, heads, inner)
        self.leave = weight(heads, inner, state.channels)
        self.gamma = weight(heads)
        self.linear = nn.Linear(state.channels, heads * inner)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "unflatten":
            y = self.linear(x).unflatten(-1, (self.number("heads"), self.number("width")))
        else:
            y = torch.einsum("...c,chw->...hw", x, self.enter)
        y = F.gelu(y)
        if self.how == "there":
            return y.flatten(-2)
        if self.how == "weighted":
            return torch.einsum("...hw,h->...w", y, self.gamma)
        if self.how == "diagonal":
            return torch.einsum("...hw,hwc,h->...c", y, self.leave, self.gamma)
        if self.how == "three":
            return torch.einsum("...c,chw,hwd->...d", x, self.enter, self.leave)
        return torch.einsum("...hw,hwc->...c", y, self.leave)


@part("over_positions", "structure")
class OverPositions(Part):
    """MLP-Mixer's layer over positions, gMLP's gate of them, and sums over positions written as einsum."""

    layouts = ("tokens",)

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout == "tokens" and 2 <= state.shape[0] <= 16

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("mixer", "gate", "einsum", "pooled", "pairs"))
        length, hidden = state.shape[0], width(dice)
        self.up, self.down = nn.Linear(length, hidden), nn.Linear(hidden, length)
        self.enter, self.leave = nn.Linear(state.channels, 2 * hidden), nn.Linear(hidden, state.channels)
        self.matrix = weight(length, length)
        self.queries = weight(3, state.channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "mixer":
            return x + self.down(F.gelu(self.up(x.transpose(1, 2)))).transpose(1, 2)
        if self.how == "gate":
            u, v = F.gelu(self.enter(x)).chunk(2, -1)
            return self.leave(u * (torch.einsum("lm,bmc->blc", self.matrix, v) + 1))  # type: ignore[no-any-return]
        if self.how == "einsum":
            return torch.einsum("blc,lm->bmc", x, self.matrix)
        if self.how == "pairs":
            return torch.einsum("bic,bjc,bjd->bid", x, x, x) / x.shape[1]
        weights = torch.einsum("qc,blc->bql", self.queries, x).softmax(-1)
        return torch.einsum("bql,blc->bqc", weights, x)


@part("block_diagonal", "contraction")
class BlockDiagonal(Counting):
    """Channels in groups, each with a matrix of its own, and the groups mixed or swapped behind."""

    layouts = ("flat", "tokens")

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout in cls.layouts and state.channels >= 4

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        groups = divisor(state.channels, dice)
        self.how = dice.choice(("einsum", "swap", "matmul", "mix"))
        self.hold(dice, heads=groups, width=state.channels // groups)
        self.rigid = True
        self.kernel = weight(groups, state.channels // groups, dice.choice((2, 3)))
        self.mix = weight(groups, groups)

    def forward(self, x: Tensor) -> Tensor:
        y = x.unflatten(-1, (self.number("heads"), self.number("width")))
        if self.how == "matmul":
            return (y.unsqueeze(-2) @ self.kernel).flatten(-3)
        y = torch.einsum("...gi,gio->...go", y, self.kernel)
        if self.how == "swap":
            y = y.transpose(-1, -2)
        if self.how == "mix":
            y = torch.einsum("...go,gh->...ho", y, self.mix)
        return y.flatten(-2)


@part("halves", "structure")
class Halves(Counting):
    """A projection in chunks: gated, one passed on, joined again in either order, or split by numbers that are read."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.axis = state.axis
        self.how = dice.choice(("swapped", "three", "passed", "split", "slices", "interleaved", "sum", "coupled"))
        self.half = width(dice)
        self.times = 3 if self.how == "three" else 2
        self.hold(dice, heads=self.times, width=self.half, size=self.half * self.times)
        self.rigid = True
        self.inner = nn.Linear(state.channels, self.times * self.half)
        self.second = nn.Linear(self.half, self.half)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x.movedim(self.axis, -1))
        width = self.number("width")
        if self.how == "three":
            a, b, c = y.chunk(3, -1)
            z = torch.sigmoid(a) * b + torch.tanh(c)
        elif self.how == "split":
            a, b = y.split([width, self.number("size") - width], -1)
            z = a * torch.sigmoid(b)
        elif self.how == "slices":
            z = y[..., :width] - y[..., width:].relu()
        elif self.how == "interleaved":
            z = y[..., ::2] * y[..., 1::2].sigmoid()
        elif self.how == "sum":
            z = y.unflatten(-1, (self.number("heads"), -1)).sum(-2)
        else:
            a, b = y.chunk(2, -1)
            z = self._joined(a, b)
        return z.movedim(-1, self.axis)

    def _joined(self, a: Tensor, b: Tensor) -> Tensor:
        if self.how == "swapped":
            return torch.cat([b, a], -1)
        if self.how == "passed":
            return torch.cat([self.second(a), b], -1)
        return torch.cat([a, b * torch.exp(0.3 * torch.tanh(self.second(a)))], -1)
