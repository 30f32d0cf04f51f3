"""Recurrent layers and cells: hidden units with all of their gates."""

from __future__ import annotations

import random
from typing import Any

import torch
from counts import Counting
from parts import State, part
from torch import Tensor, nn

LAYERS: tuple[Any, ...] = (nn.LSTM, nn.LSTM, nn.GRU, nn.RNN)
CELLS: tuple[Any, ...] = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)


@part("recurrent", "structure")
class Recurrent(Counting):
    """A recurrent layer: all outputs, the last one, the last state, or states that start from the input."""

    layouts = ("tokens",)

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout == "tokens" and state.shape[0] <= 6

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("outputs", "outputs", "last", "state", "start", "zeros", "sides"))
        kind, hidden = dice.choice(LAYERS), dice.choice((4, 6))
        layers, bidirectional = dice.choice((1, 2)), dice.random() < 0.4 or self.how == "sides"
        self.directions = 2 if bidirectional else 1
        options = {"nonlinearity": "relu"} if kind is nn.RNN and dice.random() < 0.5 else {}
        if kind is nn.LSTM and dice.random() < 0.25:
            options["proj_size"] = hidden - 2
        self.hold(dice, size=hidden, layers=layers * self.directions)
        self.cell = kind(
            state.channels,
            hidden,
            layers,
            batch_first=True,
            bidirectional=bidirectional,
            bias=dice.random() < 0.8,
            **options,
        )
        self.start = nn.Linear(state.channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        if self.how in ("start", "zeros") and not isinstance(self.cell, nn.LSTM):
            if self.how == "start":
                state = torch.tanh(self.start(x[:, 0])).expand(self.number("layers"), -1, -1).contiguous()
            else:
                state = x.new_zeros(self.number("layers"), x.shape[0], self.number("size"))
            return self.cell(x, state)[0]  # type: ignore[no-any-return]
        y, state = self.cell(x)
        state = state[0] if isinstance(state, tuple) else state
        if self.how == "last":
            return y[:, -1:]  # type: ignore[no-any-return]
        if self.how == "state":
            return state.transpose(0, 1)  # type: ignore[no-any-return]
        if self.how == "sides":
            forward, backward = y.chunk(2, -1)
            return forward * backward.sigmoid()  # type: ignore[no-any-return]
        return y  # type: ignore[no-any-return]


@part("cells", "structure")
class Cells(Counting):
    """A cell in a loop over positions, or a gated update written out."""

    layouts = ("tokens",)

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout == "tokens" and state.shape[0] <= 6

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("cell", "cell", "own", "minimal", "zeros"))
        self.keep = dice.choice(("stack", "last"))
        hidden = dice.choice((4, 6))
        self.hold(dice, size=hidden)
        self.cell = dice.choice(CELLS)(state.channels, hidden)
        self.enter = nn.Linear(state.channels, 2 * hidden)
        self.back = nn.Linear(hidden, 2 * hidden, bias=False)
        self.single = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        outputs = []
        if self.how != "cell":
            state = x.new_zeros(x.shape[0], self.number("size"))
        for step in x.unbind(1):
            if self.how in ("cell", "zeros"):
                start = (state, state) if isinstance(state, Tensor) and isinstance(self.cell, nn.LSTMCell) else state
                state = self.cell(step, start)
            elif self.how == "own":
                gate, value = (self.enter(step) + self.back(state)).chunk(2, -1)
                state = state * torch.sigmoid(gate) + torch.tanh(value) * (1 - torch.sigmoid(gate))
            else:
                state = torch.tanh(self.enter(step).chunk(2, -1)[0] + self.single(state))
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1) if self.keep == "stack" else outputs[-1].unsqueeze(1)
