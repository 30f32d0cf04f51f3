"""Blocks of several attentions: one configuration for all, norms before, a residual stream through them."""

from __future__ import annotations

import random

from attention import FusedAttention, GroupedQueries, SelfAttention
from counts import Config
from parts import Part, State, part, width
from torch import Tensor, nn


@part("transformer", "attention")
class Transformer(Part):
    """Two attentions of one class, and a gated layer, which share a configuration; or are one module used twice."""

    layouts = ("tokens",)

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout == "tokens" and 2 <= state.shape[0] <= 12

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("shared", "own", "twice", "shared"))
        kind = dice.choice((SelfAttention, FusedAttention, GroupedQueries))
        seed = dice.random()
        self.first = kind(state, random.Random(seed))
        self.second = self.first if self.how == "twice" else kind(state, random.Random(seed))
        self.rigid = self.first.rigid
        if self.how == "shared":
            numbers = {name: self.first.number(name) for name in self.first.order}
            numbers["layers"] = 2
            config = Config(**numbers)
            for each in (self.first, self.second):
                each.holder, each.config, each.rigid = "config", config, False
            self.rigid = False
        hidden = width(dice)
        self.norms = nn.ModuleList([dice.choice((nn.LayerNorm, nn.RMSNorm))(state.channels) for _ in range(3)])
        self.up, self.gate, self.down = (
            nn.Linear(state.channels, hidden),
            nn.Linear(state.channels, hidden),
            nn.Linear(hidden, state.channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        for norm, attention in zip(self.norms, (self.first, self.second), strict=False):
            x = x + attention(norm(x))
        y = self.norms[2](x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))  # type: ignore[no-any-return]
