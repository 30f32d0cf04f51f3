"""Rows of tables: token ids computed from the input, positions, bags, and tables that are output weights too."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from parts import Part, State, part, weight, width
from torch import Tensor, nn

WORDS = 7


@part("tokens_of_values", "structure")
class TokensOfValues(Part):
    """Ids by argmax or bucketize, looked up, and joined with the input that made them."""

    layouts = ("flat", "tokens")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("argmax", "bucketize", "bucket_each", "projected", "round"))
        self.join = dice.choice(("add", "cat", "times"))
        out = state.channels if self.join != "cat" else width(dice)
        rows = max(WORDS, state.channels)
        self.table = nn.Embedding(rows, out)
        self.to_words = nn.Linear(state.channels, WORDS)
        self.bounds = [-1.0, -0.4, 0.0, 0.3, 0.9]
        self.raw = weight(rows, out) if dice.random() < 0.3 else None

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "argmax":
            ids = x.argmax(-1)
        elif self.how == "projected":
            ids = self.to_words(x).argmax(-1)
        elif self.how == "round":
            ids = (x.mean(-1) * 2 + 3).round().clamp(0, WORDS - 1).long()
        else:
            value = x if self.how == "bucket_each" else x.mean(-1)
            ids = torch.bucketize(value, torch.tensor(self.bounds, dtype=x.dtype))
        if self.raw is not None:
            y = self.raw[ids] if self.how == "round" else F.embedding(ids, self.raw)
        else:
            y = self.table(ids)
        y = y.sum(-2) if self.how == "bucket_each" else y
        if self.join == "cat":
            return torch.cat([x, y], -1)
        return x * torch.sigmoid(y) if self.join == "times" else x + y


@part("positions_added", "structure")
class PositionsAdded(Part):
    """A learned table of positions: a parameter, an embedding of arange, a buffer; and a token before all others."""

    layouts = ("tokens",)

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout == "tokens" and state.shape[0] <= 12

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("parameter", "embedding", "buffer", "class", "two", "learned_rows"))
        length, channels = state.shape
        self.gamma_table = weight(1, length + 1, channels)
        self.gamma_first = weight(1, 1, channels)
        self.table = nn.Embedding(length + 2, channels)
        self.register_buffer("gamma_rows", torch.zeros(length, channels))
        self.register_buffer("position_ids", torch.arange(length + 2)[None])

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        if self.how == "parameter":
            return x + self.gamma_table[:, :length]
        if self.how == "embedding":
            return x + self.table(torch.arange(length)) * 0.5
        if self.how == "buffer":
            return x + self.gamma_rows
        if self.how == "two":
            return x + self.table(self.position_ids[:, :length]) + self.gamma_table[:, 1:]  # type: ignore[index]
        if self.how == "learned_rows":
            return x * self.table.weight[1 : length + 1]
        y = torch.cat([self.gamma_first.expand(x.shape[0], -1, -1), x], 1)
        return y + self.gamma_table


@part("tied_table", "structure")
class TiedTable(Part):
    """An embedding whose weight gives the logits of its words, which are mixed into the input or replace it."""

    layouts = ("flat", "tokens")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("module", "functional", "matmul"))
        self.soft = dice.random() < 0.5
        inner = width(dice)
        self.enter = nn.Linear(state.channels, inner)
        self.table = nn.Embedding(WORDS, inner)
        self.words = nn.Linear(inner, WORDS, bias=False)
        self.words.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.enter(x))
        if self.how == "module":
            logits = self.words(y)
        elif self.how == "functional":
            logits = F.linear(y, self.table.weight)
        else:
            logits = y @ self.table.weight.t()
        if self.soft:
            return logits.softmax(-1) @ self.table.weight + y
        return self.words(self.table(logits.argmax(-1)) + y)  # type: ignore[no-any-return]


@part("bag", "structure")
class Bag(Part):
    """nn.EmbeddingBag over ids of the positions: the mean, the sum or the largest of rows."""

    layouts = ("flat", "tokens")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.mode = dice.choice(("mean", "sum", "max"))
        self.enter = nn.Linear(state.channels, 3)
        self.bag = nn.EmbeddingBag(WORDS, width(dice), mode=self.mode)
        self.layout = "flat"

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x).flatten(1)
        ids = (y.abs() * 4).long().clamp(max=WORDS - 1)
        return self.bag(ids)  # type: ignore[no-any-return]
