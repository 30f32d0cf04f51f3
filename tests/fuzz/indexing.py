"""Indexing: constants and computed indices, assignment into zeros, and orders of positions and channels."""

from __future__ import annotations

import random

import torch
from contractions import keep_positions
from parts import Part, State, part, weight, width
from torch import Tensor


@part("assigned", "structure")
class Assigned(Part):
    """Branches written into a tensor of zeros: behind each other along the channels, or over some positions only."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.axis = state.axis
        hows = ("zeros", "literal", "copy", "positions", "add", "empty", "scatter")
        self.how = dice.choice(hows if state.layout != "flat" else hows[:3])
        self.rigid = True
        self.one, self.two = width(dice), width(dice)
        self.left, self.right = keep_positions(state, self.one, dice), keep_positions(state, self.two, dice)
        self.same = keep_positions(state, self.one, dice)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.left(x).movedim(self.axis, -1), torch.tanh(self.right(x)).movedim(self.axis, -1)
        k = a.shape[-1]
        if self.how == "zeros":
            y = x.new_zeros(*a.shape[:-1], k + b.shape[-1])
            y[..., :k] = a
            y[..., k:] = b
        elif self.how == "literal":
            y = torch.zeros(*a.shape[:-1], self.one + self.two + 1, dtype=x.dtype)
            y[..., : self.one] = a
            y[..., self.one : self.one + self.two] = b
        elif self.how == "copy":
            y = torch.cat([a, b], -1).clone()
            y[..., :k].mul_(0.5)
            y[..., k:] += 0.25
        else:
            c = self.same(x).movedim(self.axis, -1)
            y = self._over_positions(a, c)
        return y.movedim(-1, self.axis)

    def _over_positions(self, a: Tensor, c: Tensor) -> Tensor:
        if self.how == "positions":
            y = torch.zeros_like(a)
            y[:, ::2] = a[:, ::2]
            y[:, 1::2] = c[:, 1::2]
            return y
        if self.how == "add":
            y = a.clone()
            y[:, 0] += c[:, 0]
            return y
        if self.how == "empty":
            y = torch.empty_like(a)
            y[:] = a
            y[:, -1] = c.mean(1)
            return y
        index = torch.zeros(a.shape[0], 1, *a.shape[2:], dtype=torch.long)
        return a.scatter(1, index, c[:, :1])


@part("picked_positions", "movement")
class PickedPositions(Part):
    """Positions chosen by constant or computed indices, by their order, or by a mask; one choice for all channels."""

    layouts = ("tokens",)

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout == "tokens" and state.shape[0] >= 3

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        hows = ("list", "buffer", "gather", "topk", "argsort", "last", "where", "cumsum", "topk_each", "expand", "mesh")
        self.how = dice.choice(hows)
        self.score = weight(state.channels)
        self.register_buffer("order", torch.tensor([2, 0, 1]))
        self.keep = 2

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "list":
            return x[:, [1, 0, 2, 1]]
        if self.how == "buffer":
            return x.index_select(1, self.order) + x[:, self.order]  # type: ignore[arg-type,index]
        if self.how == "where":
            return torch.where((x @ self.score)[..., None] > 0, x, x.mean(1, keepdim=True))
        if self.how == "cumsum":
            return x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
        if self.how == "topk_each":
            return x.topk(self.keep, dim=1).values
        if self.how == "expand":
            return x + x[:, :1].expand(-1, x.shape[1], -1)
        if self.how == "last":
            return x[torch.arange(x.shape[0]), (x @ self.score).argmax(1)].unsqueeze(1) + x
        if self.how == "mesh":
            return x[torch.arange(x.shape[0])[:, None], (x @ self.score).argsort(1)]
        values, index = (x @ self.score).sort(1) if self.how == "argsort" else (x @ self.score).topk(self.keep, 1)
        if self.how == "topk":
            return torch.gather(x, 1, index[..., None].repeat(1, 1, x.shape[2])) * torch.sigmoid(values)[..., None]
        return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


@part("picked_channels", "movement")
class PickedChannels(Part):
    """Channels in a constant order, kept in a buffer or a list; the best of them; or running sums over them."""

    rigid = True

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.channels >= 4

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.axis = state.axis
        self.how = dice.choice(("buffer", "list", "topk", "gather", "cumsum", "swap_halves", "select_index", "assign"))
        order = list(range(state.channels))
        dice.shuffle(order)
        self.order = tuple(order)
        self.register_buffer("index", torch.tensor(order))

    def forward(self, x: Tensor) -> Tensor:
        y = x.movedim(self.axis, -1)
        if self.how == "buffer":
            y = y.index_select(-1, self.index)  # type: ignore[arg-type]
        elif self.how == "select_index":
            y = y[..., self.index]  # type: ignore[index]
        elif self.how == "list":
            y = y[..., list(self.order)]
        elif self.how == "topk":
            y = y.topk(3, -1).values
        elif self.how == "gather":
            y = y.gather(-1, y.argsort(-1))
        elif self.how == "cumsum":
            y = y.cumsum(-1) * 0.5
        elif self.how == "assign":
            y = y.clone()
            y[..., 0] = y[..., 1] * 0.5
        else:
            y = torch.cat([y[..., y.shape[-1] // 2 :], y[..., : y.shape[-1] // 2]], -1)
        return y.movedim(-1, self.axis)
