"""Units that several parameters, modules or calls share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.units import each, groups_of, of, traced, units_of


class TiedLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode, self.head = nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 2)
        self.decode.weight = nn.Parameter(torch.randn(4, 6))
        self.again = nn.Linear(4, 6)
        self.again.weight = self.encode.weight
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.encode(x))
        return self.out(torch.relu(self.again(torch.tanh(self.decode(hidden)))))


def test_tied_weights_tie_their_units() -> None:
    network = traced(TiedLayers(), 4)
    assert groups_of(network) == [
        each(
            6,
            lambda k: of(
                ("encode.weight", 0, k), ("encode.bias", 0, k), ("again.bias", 0, k),
                ("decode.weight", 1, k), ("out.weight", 1, k),
            ),
        )
    ], "the columns of the tied weight read the input, so what decode makes is fixed"  # fmt: skip
    assert "decode" in network.fixed


class Transposed(nn.Module):
    """The decoder is the encoder's weight, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(4, 6)
        self.shift = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.relu(self.encode(x)), self.encode.weight.t(), self.shift)


def test_a_decoder_that_is_the_encoder_transposed_shares_its_unit() -> None:
    network = traced(Transposed(), 4)
    (group,) = network.groups
    assert units_of(group) == each(6, lambda k: of(("encode.weight", 0, k), ("encode.bias", 0, k)))
    (site,) = group.consumers
    assert (site.weight, site.weight_axis) == ("encode.weight", 0)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.step, self.last = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        return self.last(torch.relu(self.step(torch.relu(self.step(hidden)))))


def test_a_module_used_twice_ties_what_it_reads_to_what_it_makes() -> None:
    network = traced(Twice(), 3)
    assert groups_of(network) == [
        each(
            5,
            lambda k: of(
                ("first.weight", 0, k), ("first.bias", 0, k), ("step.weight", 0, k), ("step.weight", 1, k),
                ("step.bias", 0, k), ("last.weight", 1, k),
            ),
        )
    ]  # fmt: skip


class Functional(nn.Module):
    """Parameters of its own and functional calls."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.shift = nn.Parameter(torch.randn(4, 2, 3, 3)), nn.Parameter(torch.randn(4))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))
        self.matrix = nn.Parameter(torch.randn(4, 5))
        self.last = nn.Parameter(torch.randn(2, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = F.batch_norm(F.conv2d(x, self.kernel, self.shift), self.mean, self.var)
        return F.linear(F.gelu(x.mean((-2, -1)) @ self.matrix), self.last)


def test_functional_calls_are_read_as_modules_are() -> None:
    network = traced(Functional(), 2, 5, 5)
    assert groups_of(network) == [
        each(4, lambda k: of(("kernel", 0, k), ("shift", 0, k), ("mean", 0, k), ("var", 0, k), ("matrix", 0, k))),
        each(5, lambda k: of(("matrix", 1, k), ("last", 1, k))),
    ]


class Einsum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.mixer = nn.Linear(3, 4), nn.Parameter(torch.randn(4, 6))
        self.last = nn.Parameter(torch.randn(2, 6))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.einsum("bti,io->bto", torch.relu(self.first(x)), self.mixer)
        return torch.einsum("...o,po->...p", hidden, self.last)


def test_einsum_reads_and_makes_units() -> None:
    network = traced(Einsum(), 5, 3)
    assert groups_of(network) == [
        each(4, lambda k: of(("first.weight", 0, k), ("first.bias", 0, k), ("mixer", 0, k))),
        each(6, lambda k: of(("mixer", 1, k), ("last", 1, k))),
    ]


class Padded(nn.Module):
    """The shortcut of a small ResNet: every second pixel, and zeros for the channels that are new."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.last = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.last(F.relu(self.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))))


def test_channels_padded_with_zeros_are_fixed_and_the_others_are_tied() -> None:
    network = traced(Padded(), 2, 6, 6)
    assert groups_of(network) == [
        each(
            4,
            lambda k: of(
                ("stem.weight", 0, k), ("stem.bias", 0, k), ("conv.weight", 1, k),
                ("conv.weight", 0, 2 + k), ("conv.bias", 0, 2 + k), ("last.weight", 1, 2 + k),
            ),
        )
    ]  # fmt: skip
