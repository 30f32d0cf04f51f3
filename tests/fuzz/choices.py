"""Units that are summed over, normalised by their length, or chosen among: memories, and experts that are looked up."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from counts import Counting
from parts import Part, State, part, weight, width
from torch import Tensor, nn


@part("summed_units", "structure")
class SummedUnits(Part):
    """A layer whose units meet in sums, lengths, similarities and distances beside what reads them one by one."""

    layouts = ("flat", "tokens")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("sum", "norm", "normalize", "product", "cosine", "cdist", "cumsum", "softmax"))
        hidden = width(dice)
        self.one, self.two = nn.Linear(state.channels, hidden), nn.Linear(state.channels, hidden)
        self.leave = nn.Linear(hidden, state.channels)
        self.points = weight(3, hidden)
        self.mix = weight(3, state.channels)

    def forward(self, x: Tensor) -> Tensor:
        y, z = torch.tanh(self.one(x)), self.two(x)
        if self.how == "cdist":
            return x + torch.cdist(y, self.points.expand(*y.shape[:-2], -1, -1)) @ self.mix
        scale = {
            "sum": lambda: y.sum(-1, keepdim=True),
            "norm": lambda: y.norm(dim=-1, keepdim=True),
            "product": lambda: (y * z).sum(-1).unsqueeze(-1),
            "cosine": lambda: F.cosine_similarity(y, z, dim=-1).unsqueeze(-1),
        }.get(self.how, lambda: 1.0)()
        y = {
            "normalize": lambda: F.normalize(y, dim=-1),
            "cumsum": lambda: y.cumsum(-1),
            "softmax": lambda: y.softmax(-1),
        }.get(self.how, lambda: y)()
        return x + scale * self.leave(y)


@part("memory", "structure")
class Memory(Part):
    """Attention over slots that are learned, all of them or the best ones."""

    layouts = ("flat", "tokens")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("soft", "matrices", "best", "nearest"))
        slots = dice.choice((4, 5, 6))
        self.keys, self.values = weight(slots, state.channels), weight(slots, state.channels)
        self.many, self.shift = weight(slots, 3, state.channels), weight(slots)

    def forward(self, x: Tensor) -> Tensor:
        scores = x @ self.keys.t() + self.shift  # without, positions that are zero would tie
        if self.how == "soft":
            return x + scores.softmax(-1) @ self.values
        if self.how == "matrices":
            return x + torch.einsum("...s,skc,...c->...k", scores.softmax(-1), self.many, x).sum(-1, keepdim=True)
        best, which = scores.topk(2, dim=-1)
        if self.how == "nearest":
            return x + (best.softmax(-1).unsqueeze(-1) * self.values[which]).sum(-2)
        return x + (best.softmax(-1).unsqueeze(-1) * F.embedding(which, self.values)).sum(-2)


@part("chosen_experts", "structure")
class ChosenExperts(Counting):
    """Experts whose weights are looked up, marked or counted for the rows that chose them."""

    layouts = ("flat", "tokens")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("looked_up", "marked", "gathered"))
        self.first = dice.choice(("softmax", "topk"))
        experts, inner = dice.choice((3, 4, 5)), width(dice)
        self.chosen = dice.choice((1, 2))
        self.hold(dice, heads=experts)
        self.router = nn.Linear(state.channels, experts)
        self.up, self.down = weight(experts, inner, state.channels), weight(experts, state.channels, inner)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.router(x)
        if self.first == "softmax":
            likely, which = logits.softmax(-1).topk(self.chosen, dim=-1)
        else:
            likely, which = logits.topk(self.chosen, dim=-1)
            if self.how == "gathered":
                likely = logits.softmax(-1).gather(-1, which)
            likely = likely.softmax(-1)
        if self.how == "marked":
            marks = F.one_hot(which, self.number("heads")).to(x.dtype)
            shares = (likely.unsqueeze(-1) * marks).sum(-2)
            hidden = F.gelu(torch.einsum("...c,ehc->...eh", x, self.up))
            return x + torch.einsum("...eh,ech,...e->...c", hidden, self.down, shares)
        hidden = F.gelu(torch.einsum("...c,...khc->...kh", x, self.up[which]))
        return x + torch.einsum("...kh,...kch,...k->...c", hidden, self.down[which], likely)
