"""Recurrent layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.plain.entry import add, real, whole


class Recurrent(nn.Module):
    """A recurrent layer of torch's over embedded tokens, and a linear layer on its last step."""

    def __init__(self, kind: type[nn.RNNBase], layers: int = 1, bidirectional: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 9)
        self.rnn = kind(9, 13, layers, batch_first=True, bidirectional=bidirectional)
        self.fc = nn.Linear(13 * (2 if bidirectional else 1), 7)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs, _ = self.rnn(self.embed(tokens))
        return self.fc(outputs[:, -1])


class LastState(nn.Module):
    """The hidden states that a GRU of two layers ends with, side by side, behind a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(8, 10)
        self.rnn = nn.GRU(10, 13, 2)
        self.fc = nn.Linear(26, 7)

    def forward(self, x: Tensor) -> Tensor:
        _, last = self.rnn(F.relu(self.before(x)).transpose(0, 1))
        return self.fc(torch.cat([last[0], last[1]], dim=1))


class Steps(nn.Module):
    """A cell that Python steps through five inputs."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.cell = kind(8, 13)
        self.fc = nn.Linear(13, 7)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], self.cell.hidden_size)
        c = torch.zeros_like(h)
        for step in x.unbind(1):
            if isinstance(self.cell, nn.LSTMCell):
                h, c = self.cell(step, (h, c))
            else:
                h = self.cell(step, h)
        return self.fc(h)


class OwnGru(nn.Module):
    """A gated recurrent cell out of linear layers, over five steps."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(8 + 13, 26)
        self.candidate = nn.Linear(8 + 13, 13)
        self.start = nn.Parameter(torch.zeros(13))
        self.fc = nn.Linear(13, 7)

    def forward(self, x: Tensor) -> Tensor:
        h = self.start.expand(x.shape[0], -1)
        for t in range(x.shape[1]):
            z, r = torch.sigmoid(self.gates(torch.cat([x[:, t], h], -1))).chunk(2, -1)
            h = (1 - z) * h + z * torch.tanh(self.candidate(torch.cat([x[:, t], r * h], -1)))
        return self.fc(h)


add("lstm", lambda: Recurrent(nn.LSTM), whole(11, 6))
add("lstm_two_layers", lambda: Recurrent(nn.LSTM, 2), whole(11, 6))
add("lstm_bidirectional", lambda: Recurrent(nn.LSTM, 1, True), whole(11, 6))
add("gru", lambda: Recurrent(nn.GRU), whole(11, 6))
add("gru_last_states", LastState, real(5, 8))
add("rnn", lambda: Recurrent(nn.RNN), whole(11, 6))
add("lstm_cell", lambda: Steps(nn.LSTMCell), real(5, 8))
add("gru_cell", lambda: Steps(nn.GRUCell), real(5, 8))
add("own_gru", OwnGru, real(5, 8))
