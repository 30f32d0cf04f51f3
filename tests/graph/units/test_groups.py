"""Units of whole networks, worked out by hand: which entries of which tensors go together, and why others stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from support.networks import Flat, Residual, TwoReaders, mlp

Entry = tuple[str, int, int]
Unit = frozenset[Entry]


def of(*parts: tuple[str, int, int | Iterable[int]]) -> Unit:
    """A unit from (tensor, axis, index or indices)."""
    return frozenset(
        (name, axis, index) for name, axis, where in parts for index in ([where] if isinstance(where, int) else where)
    )


def each(count: int, unit: Callable[[int], Unit]) -> frozenset[Unit]:
    return frozenset(unit(k) for k in range(count))


def units_of(group: Group) -> frozenset[Unit]:
    """The units of a group as found."""
    found: list[set[Entry]] = [set() for _ in range(group.size)]
    for part in group.slices:
        for index, unit in enumerate(part.units.tolist()):
            if unit >= 0:
                found[unit].add((part.parameter, part.axis, index))
    return frozenset(frozenset(unit) for unit in found)


def groups_of(network: Network) -> list[frozenset[Unit]]:
    return [units_of(group) for group in network.groups]


def readers(group: Group) -> set[str]:
    return {site.module for site in group.consumers}


def norm(name: str, k: int | Iterable[int]) -> list[tuple[str, int, Any]]:
    return [(f"{name}.{leaf}", 0, k) for leaf in ("weight", "bias", "running_mean", "running_var")]


def traced(model: nn.Module, *shape: int, batch: int = 3) -> Network:
    return dh.trace(model.eval(), torch.randn(batch, *shape, dtype=next(model.parameters()).dtype))


# -- chains ----------------------------------------------------------------------------------------------------------


def test_a_hidden_unit_is_a_row_a_bias_and_the_column_that_reads_it() -> None:
    network = traced(mlp(3, 5, 4, 2), 3)
    assert groups_of(network) == [
        each(5, lambda k: of(("0.weight", 0, k), ("0.bias", 0, k), ("2.weight", 1, k))),
        each(4, lambda k: of(("2.weight", 0, k), ("2.bias", 0, k), ("4.weight", 1, k))),
    ]
    assert [group.name for group in network.groups] == ["0", "2"]
    assert [readers(group) for group in network.groups] == [{"2"}, {"4"}]
    assert [group.kind for group in network.groups] == ["unit", "unit"]
    assert network.fixed == {"4": "it is an output of the model"}


def test_a_flattened_channel_owns_a_column_for_each_position() -> None:
    network = traced(Flat().double(), 2, 6, 6)
    assert groups_of(network) == [
        each(6, lambda k: of(("conv1.weight", 0, k), ("conv1.bias", 0, k), *norm("norm", k), ("conv2.weight", 1, k))),
        each(
            5,
            lambda k: of(("conv2.weight", 0, k), ("conv2.bias", 0, k), ("fc1.weight", 1, range(4 * k, 4 * k + 4))),
        ),
        each(7, lambda k: of(("fc1.weight", 0, k), ("fc1.bias", 0, k), ("fc2.weight", 1, k))),
    ]
    assert [group.kind for group in network.groups] == ["channel", "channel", "unit"]
    assert set(network.fixed) == {"fc2"}


def test_a_residual_stream_is_one_group_over_all_blocks() -> None:
    network = traced(Residual().double(), 2, 5, 5)
    stream = each(
        6,
        lambda k: of(
            *((f"{name}.weight", 0, k) for name in ("stem", "a2", "b2")),
            *((f"{name}.bias", 0, k) for name in ("stem", "b2")),
            *norm("norm", k),
            *((f"{name}.weight", 1, k) for name in ("a1", "b1", "fc")),
        ),
    )
    inner = {
        "a1": each(4, lambda k: of(("a1.weight", 0, k), ("a1.bias", 0, k), ("a2.weight", 1, k))),
        "b1": each(5, lambda k: of(("b1.weight", 0, k), ("b1.bias", 0, k), ("b2.weight", 1, k))),
    }
    assert groups_of(network) == [stream, inner["a1"], inner["b1"]]
    assert readers(network.groups[0]) == {"a1", "b1", "fc"}


def test_every_reader_of_a_group_is_listed() -> None:
    network = traced(TwoReaders().double(), 3)
    (group,) = network.groups
    assert readers(group) == {"left", "right"}
    assert units_of(group) == each(
        6,
        lambda k: of(("hidden.weight", 0, k), ("hidden.bias", 0, k), ("left.weight", 1, k), ("right.weight", 1, k)),
    )


class Concatenates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(9)
        self.last = nn.Conv2d(9, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(torch.cat([self.a(x), x, self.b(x)], 1)))


def test_concatenated_channels_keep_to_their_own_producer() -> None:
    network = traced(Concatenates(), 2, 4, 4)
    assert groups_of(network) == [
        each(3, lambda k: of(("a.weight", 0, k), ("a.bias", 0, k), *norm("norm", k), ("last.weight", 1, k))),
        each(4, lambda k: of(("b.weight", 0, k), ("b.bias", 0, k), *norm("norm", 5 + k), ("last.weight", 1, 5 + k))),
    ]


class TwoHalves(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.left, self.right = nn.Linear(3, 7), nn.Linear(3, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        if self.how == "split":
            a, b = hidden.split([3, 4], -1)
        elif self.how == "slice":
            a, b = hidden[:, :3], hidden[..., 3:]
        else:
            a, b = hidden.tensor_split([3], 1)
        return self.left(a) + self.right(b)


@pytest.mark.parametrize("how", ["split", "slice", "tensor_split"])
def test_what_is_split_goes_separate_ways(how: str) -> None:
    network = traced(TwoHalves(how), 3)
    assert groups_of(network) == [
        each(3, lambda k: of(("first.weight", 0, k), ("first.bias", 0, k), ("left.weight", 1, k))),
        each(4, lambda k: of(("first.weight", 0, 3 + k), ("first.bias", 0, 3 + k), ("right.weight", 1, k))),
    ]
    assert [group.name for group in network.groups] == ["first", "first#2"]


class Gated(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.last = nn.Linear(3, 10), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        if self.how == "glu":
            return self.last(F.glu(hidden))
        a, b = hidden.chunk(2, -1)
        return self.last(a * torch.sigmoid(b))


@pytest.mark.parametrize("how", ["glu", "chunk"])
def test_a_gated_linear_unit_is_a_value_with_its_gate(how: str) -> None:
    network = traced(Gated(how), 3)
    assert groups_of(network) == [
        each(5, lambda k: of(("first.weight", 0, (k, 5 + k)), ("first.bias", 0, (k, 5 + k)), ("last.weight", 1, k)))
    ]


# -- convolutions ----------------------------------------------------------------------------------------------------


def test_a_depthwise_channel_goes_with_its_filter() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 3, 1))
    network = traced(model, 2, 5, 5)
    assert groups_of(network) == [
        each(
            4,
            lambda k: of(
                ("0.weight", 0, k), ("0.bias", 0, k), ("1.weight", 0, k), ("1.bias", 0, k), ("3.weight", 1, k)
            ),
        )
    ]
    assert readers(network.groups[0]) >= {"3"}


def test_a_depthwise_convolution_with_several_filters_to_a_channel() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 8, 3, groups=4), nn.ReLU(), nn.Conv2d(8, 3, 1))
    network = traced(model, 2, 5, 5)
    assert groups_of(network) == [
        each(
            4,
            lambda k: of(
                ("0.weight", 0, k), ("0.bias", 0, k),
                *((f"1.{leaf}", 0, (2 * k, 2 * k + 1)) for leaf in ("weight", "bias")),
                ("3.weight", 1, (2 * k, 2 * k + 1)),
            ),
        )
    ]  # fmt: skip


def test_a_unit_of_a_grouped_convolution_is_one_channel_of_each_group() -> None:
    model = nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 3, 1))
    network = traced(model, 2, 5, 5)
    assert groups_of(network) == [
        each(3, lambda k: of(("0.weight", 0, (k, 3 + k)), ("0.bias", 0, (k, 3 + k)), ("2.weight", 1, k))),
        each(2, lambda k: of(("2.weight", 0, (k, 2 + k)), ("2.bias", 0, (k, 2 + k)), ("4.weight", 1, (k, 2 + k)))),
    ]


def test_a_transposed_convolution_has_its_channels_the_other_way_round() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ConvTranspose2d(4, 5, 2, stride=2), nn.ReLU(), nn.Conv2d(5, 2, 1))
    network = traced(model, 2, 4, 4)
    assert groups_of(network) == [
        each(4, lambda k: of(("0.weight", 0, k), ("0.bias", 0, k), ("1.weight", 0, k))),
        each(5, lambda k: of(("1.weight", 1, k), ("1.bias", 0, k), ("3.weight", 1, k))),
    ]


@pytest.mark.parametrize("rank", [1, 3])
def test_convolutions_of_other_ranks_are_the_same(rank: int) -> None:
    conv = {1: nn.Conv1d, 3: nn.Conv3d}[rank]
    normed = {1: nn.BatchNorm1d, 3: nn.BatchNorm3d}[rank]
    network = traced(nn.Sequential(conv(2, 4, 2), normed(4), nn.ReLU(), conv(4, 3, 1)), 2, *[4] * rank)
    assert groups_of(network) == [
        each(4, lambda k: of(("0.weight", 0, k), ("0.bias", 0, k), *norm("1", k), ("3.weight", 1, k)))
    ]


class Squeeze(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.down, self.up = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1)
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.conv(x))
        weight = torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return self.last(x * weight)


def test_squeeze_and_excitation_ties_the_channel_to_its_weight() -> None:
    network = traced(Squeeze(), 2, 5, 5)
    assert groups_of(network) == [
        each(
            6,
            lambda k: of(
                ("conv.weight", 0, k), ("conv.bias", 0, k), ("down.weight", 1, k), ("up.weight", 0, k),
                ("up.bias", 0, k), ("last.weight", 1, k),
            ),
        ),
        each(3, lambda k: of(("down.weight", 0, k), ("down.bias", 0, k), ("up.weight", 1, k))),
    ]  # fmt: skip


def test_pixel_shuffle_makes_one_unit_of_the_channels_of_a_pixel() -> None:
    model = nn.Sequential(nn.Conv2d(2, 12, 1), nn.PixelShuffle(2), nn.ReLU(), nn.Conv2d(3, 2, 1))
    network = traced(model, 2, 4, 4)
    assert groups_of(network) == [
        each(
            3,
            lambda k: of(
                ("0.weight", 0, range(4 * k, 4 * k + 4)), ("0.bias", 0, range(4 * k, 4 * k + 4)), ("3.weight", 1, k)
            ),
        )
    ]


def test_pixel_unshuffle_reads_a_channel_at_several_columns() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.PixelUnshuffle(2), nn.ReLU(), nn.Conv2d(12, 2, 1))
    network = traced(model, 2, 4, 4)
    assert groups_of(network) == [
        each(3, lambda k: of(("0.weight", 0, k), ("0.bias", 0, k), ("3.weight", 1, range(4 * k, 4 * k + 4))))
    ]


# -- normalisation ---------------------------------------------------------------------------------------------------


def test_a_unit_of_group_norm_is_a_group() -> None:
    model = nn.Sequential(nn.Conv2d(2, 6, 1), nn.GroupNorm(3, 6), nn.ReLU(), nn.Conv2d(6, 2, 1))
    network = traced(model, 2, 4, 4)
    assert groups_of(network) == [
        each(
            3,
            lambda k: of(
                *((f"{name}.{leaf}", 0, (2 * k, 2 * k + 1)) for name in "01" for leaf in ("weight", "bias")),
                ("3.weight", 1, (2 * k, 2 * k + 1)),
            ),
        )
    ]


def test_instance_norm_goes_along_with_its_channel() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.InstanceNorm2d(4, affine=True), nn.ReLU(), nn.Conv2d(4, 2, 1))
    network = traced(model, 2, 4, 4)
    assert groups_of(network) == [
        each(
            4,
            lambda k: of(
                *((f"{name}.{leaf}", 0, k) for name in "01" for leaf in ("weight", "bias")), ("3.weight", 1, k)
            ),
        )
    ]


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_layer_norm_fixes_what_it_mixes_and_nothing_else(kind: type[nn.Module]) -> None:
    model = nn.Sequential(nn.Linear(3, 5), kind(5), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    network = traced(model, 3)
    assert groups_of(network) == [each(4, lambda k: of(("2.weight", 0, k), ("2.bias", 0, k), ("4.weight", 1, k)))]
    assert "norm" in network.fixed["0"]
    assert "mixes it" in network.fixed["0"]


# -- attention -------------------------------------------------------------------------------------------------------


class Fused(nn.Module):
    """Attention with one projection for queries, keys and values: 4 heads of width 2."""

    def __init__(self, how: str, fused: bool) -> None:
        super().__init__()
        self.how, self.fused = how, fused
        self.qkv, self.out = nn.Linear(6, 24), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, _ = x.shape
        if self.how == "unbind":
            q, k, v = self.qkv(x).reshape(rows, length, 3, 4, 2).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (t.view(rows, length, 4, 2).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.transpose(-2, -1) / 2**0.5).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(rows, length, 8))


@pytest.mark.parametrize("how", ["unbind", "chunk"])
@pytest.mark.parametrize("fused", [True, False])
def test_a_head_is_a_unit(how: str, fused: bool) -> None:
    network = traced(Fused(how, fused), 5, 6)

    def rows(k: int) -> list[int]:
        return [8 * part + 2 * k + i for part in range(3) for i in range(2)]

    assert groups_of(network) == [
        each(4, lambda k: of(("qkv.weight", 0, rows(k)), ("qkv.bias", 0, rows(k)), ("out.weight", 1, rows(k)[:2])))
    ]
    assert [group.kind for group in network.groups] == ["head"]


class Grouped(nn.Module):
    """Four query heads that share two heads of keys and values, of width 2."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.q, self.k, self.v, self.out = nn.Linear(6, 8), nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, _ = x.shape
        q = self.q(x).view(rows, length, 4, 2).transpose(1, 2)
        k, v = (layer(x).view(rows, length, 2, 2).transpose(1, 2) for layer in (self.k, self.v))
        if self.how == "gqa":
            mixed = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        else:
            if self.how == "expand":
                k, v = (t[:, :, None].expand(rows, 2, 2, length, 2).reshape(rows, 4, length, 2) for t in (k, v))
            else:
                k, v = (t.repeat_interleave(2, dim=1) for t in (k, v))
            mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(rows, length, 8))


@pytest.mark.parametrize("how", ["expand", "repeat_interleave", "gqa"])
def test_with_grouped_queries_a_unit_is_a_shared_head_with_its_queries(how: str) -> None:
    network = traced(Grouped(how), 5, 6)

    def unit(k: int) -> Unit:
        wide, narrow = range(4 * k, 4 * k + 4), range(2 * k, 2 * k + 2)
        both = ("weight", "bias")
        return of(
            *((f"q.{leaf}", 0, wide) for leaf in both),
            *((f"{name}.{leaf}", 0, narrow) for name in "kv" for leaf in both),
            ("out.weight", 1, wide),
        )

    assert groups_of(network) == [each(2, unit)]


# -- sharing ---------------------------------------------------------------------------------------------------------


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


# -- what is fixed ---------------------------------------------------------------------------------------------------


class Through(nn.Module):
    """A linear layer, some op on its output, and a reader."""

    def __init__(self, op: Callable[[Tensor], Any], width: int = 4, read: int = 4) -> None:
        super().__init__()
        self.op = op
        self.first, self.last = nn.Linear(3, width), nn.Linear(read, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.op(self.first(x)))


FIXED: Sequence[tuple[str, Callable[[Tensor], Tensor], int, str]] = [
    ("log_softmax", lambda h: F.log_softmax(h, 1), 4, "log_softmax"),
    ("cumprod", lambda h: h.cumprod(1), 4, "cumprod"),
    ("flip", lambda h: h.flip(1), 4, "flip"),
    ("roll", lambda h: h.roll(1, -1), 4, "roll"),
    ("sort", lambda h: h.sort(1).values, 4, "sort"),
    ("mean", lambda h: h - h.mean(1, keepdim=True), 4, "mean"),
    ("norm", lambda h: h / h.norm(p=-1, dim=1, keepdim=True), 4, "norm"),
    ("index", lambda h: h[:, torch.arange(3) + 1], 3, "index"),
    ("index_select", lambda h: h.index_select(1, torch.tensor([2, 0, 1, 3])), 4, "index_select"),
    ("fft", lambda h: torch.fft.rfft(h).abs(), 3, "fft"),
    ("select", lambda h: h[:, 2:3] * h[:, 0][:, None].expand(-1, 4), 4, "pick|broadcast"),
    ("pool", lambda h: F.avg_pool1d(h[:, None], 2)[:, 0], 2, "slides along it"),
    ("max", lambda h: h.max(1, keepdim=True).values.expand(-1, 4), 4, "max"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "read", "why"), [case[1:] for case in FIXED], ids=[case[0] for case in FIXED])
def test_an_op_that_mixes_or_reorders_units_fixes_them_and_is_named(
    op: Callable[[Tensor], Tensor], read: int, why: str
) -> None:
    network = traced(Through(op, read=read), 3)
    assert not network.groups
    import re

    assert re.search(why, network.fixed["first"]), network.fixed


FREE: Sequence[tuple[str, Callable[[Tensor], Tensor]]] = [
    *((name, getattr(F, name)) for name in (
        "relu", "relu6", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "hardtanh",
        "leaky_relu", "logsigmoid", "softplus", "softsign", "tanhshrink", "hardshrink", "softshrink", "rrelu",
        "dropout", "tanh", "sigmoid",
    )),
    ("threshold", lambda h: F.threshold(h, 0.1, 20.0)),
    ("clamp", lambda h: h.clamp(-1, 1)),
    ("where", lambda h: torch.where(h > 0, h, 0.1 * h)),
    ("power", lambda h: h.pow(2) + h.exp() - 1 / (1 + h.abs())),
    ("rows", lambda h: h - h.mean(0, keepdim=True).detach() * 0 + h.unsqueeze(1).squeeze(1)),
    ("there and back", lambda h: h.t().contiguous().transpose(0, 1).clone()),
    ("stack", lambda h: torch.stack([h, h.sin()], 0).sum(0)),
    ("flatten", lambda h: h.reshape(-1, 4, 1, 1).flatten(1)),
]  # fmt: skip


@pytest.mark.parametrize("op", [case[1] for case in FREE], ids=[case[0] for case in FREE])
def test_elementwise_ops_and_moves_leave_units_as_they_are(op: Callable[[Tensor], Tensor]) -> None:
    network = traced(Through(op), 3)
    assert groups_of(network) == [
        each(4, lambda k: of(("first.weight", 0, k), ("first.bias", 0, k), ("last.weight", 1, k)))
    ]


class Prelu(nn.Module):
    def __init__(self, slopes: int) -> None:
        super().__init__()
        self.conv, self.slope, self.last = nn.Conv2d(2, 4, 1), nn.PReLU(slopes), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.slope(self.conv(x)))


@pytest.mark.parametrize("slopes", [1, 4])
def test_a_slope_for_each_channel_goes_with_it_and_one_for_all_stays(slopes: int) -> None:
    network = traced(Prelu(slopes), 2, 3, 3)
    own = [("slope.weight", 0, None)] if slopes > 1 else []
    assert groups_of(network) == [
        each(
            4,
            lambda k: of(
                ("conv.weight", 0, k), ("conv.bias", 0, k), ("last.weight", 1, k), *((n, a, k) for n, a, _ in own)
            ),
        )
    ]


class Embeds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(7, 4), nn.Linear(4, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.last(self.table(ids).relu().sum(1))


def test_an_embedding_has_units_along_its_width_and_none_along_its_vocabulary() -> None:
    network = dh.trace(Embeds(), torch.randint(7, (3, 5)))
    assert groups_of(network) == [each(4, lambda k: of(("table.weight", 1, k), ("last.weight", 1, k)))]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.lstm, self.last = nn.Linear(3, 4), nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lstm(torch.relu(self.first(x)))[0][:, -1])


def test_a_recurrent_layer_has_hidden_units_with_their_gates_and_what_they_read_of_themselves() -> None:
    network = traced(Recurrent(), 5, 3)
    first, hidden = groups_of(network)
    assert first == each(4, lambda k: of(("first.weight", 0, k), ("first.bias", 0, k), ("lstm.weight_ih_l0", 1, k)))
    gates = ("lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.bias_ih_l0", "lstm.bias_hh_l0")
    assert hidden == each(
        5,
        lambda k: of(
            *((name, 0, 5 * gate + k) for name in gates for gate in range(4)),
            ("lstm.weight_hh_l0", 1, k), ("last.weight", 1, k),
        ),
    )  # fmt: skip


class Turned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 2)
        self.axes = nn.Parameter(torch.randn(1, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.linalg.cross(torch.relu(self.first(x)), self.axes.expand(len(x), -1)))


def test_what_no_rule_knows_is_fixed_and_named_itself_too() -> None:
    network = traced(Turned(), 3)
    assert not network.groups
    assert "cross" in network.fixed["first"]


SUMMED: Sequence[tuple[str, Callable[[Tensor], Tensor]]] = [
    ("sum", lambda h: h.sum(1, keepdim=True).expand(-1, 4)),
    ("sum that drops the axis", lambda h: (h * h.sigmoid()).sum(-1)[:, None].expand(-1, 4)),
    ("norm", lambda h: h.norm(dim=1, keepdim=True).expand(-1, 4)),
    ("largest", lambda h: h.norm(p=float("inf"), dim=1, keepdim=True).expand(-1, 4)),
    ("cosine similarity", lambda h: F.cosine_similarity(h, h.roll(1, 0), dim=1)[:, None].expand(-1, 4)),
    ("distances", lambda h: torch.cdist(h[:, None], h[:, None].roll(1, 0))[:, 0].expand(-1, 4)),
    ("einsum", lambda h: torch.einsum("ni->n", h)[:, None].expand(-1, 4)),
]


@pytest.mark.parametrize("op", [case[1] for case in SUMMED], ids=[case[0] for case in SUMMED])
def test_a_sum_reads_its_units_as_a_product_with_ones_would(op: Callable[[Tensor], Tensor]) -> None:
    network = traced(Through(op), 3)
    assert units_of(network.groups[0]) == each(4, lambda k: of(("first.weight", 0, k), ("first.bias", 0, k)))
    assert all(site.weight is None for site in network.groups[0].consumers)


def test_a_running_sum_reads_its_units_and_keeps_them() -> None:
    (group,) = traced(Through(lambda h: h.cumsum(1)), 3).groups
    assert [site.weight for site in group.consumers] == [None, "last.weight"]


def test_a_softmax_chooses_among_its_units_and_keeps_them() -> None:
    (group,) = traced(Through(lambda h: h.softmax(-1)), 3).groups
    assert [(site.weight, site.among) for site in group.consumers] == [(None, 1), ("last.weight", 0)]
    assert group.minimum == 1


class Experts(nn.Module):
    """Each row goes through the experts that a router chooses for it, whose weights are looked up."""

    def __init__(self, count: int = 5, chosen: int = 2, how: str = "index") -> None:
        super().__init__()
        self.count, self.chosen, self.how = count, chosen, how
        self.router = nn.Linear(4, count)
        self.experts = nn.Parameter(torch.randn(count, 3, 4))
        self.shift = nn.Parameter(torch.randn(count, 3))

    def forward(self, x: Tensor) -> Tensor:
        scores, chosen = self.router(x).topk(self.chosen)
        if self.how == "one hot":
            marked = F.one_hot(chosen, self.count).to(x.dtype)
            weights = torch.einsum("nk,nke->ne", scores.softmax(-1), marked)
            return torch.einsum("nd,eod,ne->no", x, self.experts, weights)
        if self.how == "reckoned":
            return (scores.softmax(-1) * (chosen + 1)).sum(-1, keepdim=True)
        made = torch.einsum("nd,nkod->nko", x, self.experts[chosen])
        shift = self.shift.index_select(0, chosen.flatten()).unflatten(0, (-1, self.chosen))
        return torch.einsum("nk,nko->no", scores.softmax(-1), made + shift)


@pytest.mark.parametrize("how", ["index", "one hot"])
def test_an_expert_is_its_row_of_the_router_and_its_weights(how: str) -> None:
    network = traced(Experts(how=how), 4)
    (group,) = network.groups
    assert (group.kind, group.minimum) == ("expert", 2)
    shift = [("shift", 0)] if how == "index" else []
    names = [("router.weight", 0), ("router.bias", 0), ("experts", 0), *shift]
    assert units_of(group) == each(5, lambda k: of(*((name, axis, k) for name, axis in names)))


def test_experts_whose_numbers_are_reckoned_with_are_fixed() -> None:
    network = traced(Experts(how="reckoned"), 4)
    assert not network.groups
    assert "reckons with which of them was chosen" in network.fixed["router"]


def test_experts_that_are_all_chosen_are_fixed() -> None:
    network = traced(Experts(chosen=5), 4)
    assert not network.groups
    assert "all 5 of them are chosen" in network.fixed["router"]


def test_a_vector_that_is_divided_by_its_norm_keeps_its_units() -> None:
    network = traced(Through(lambda h: F.normalize(h, dim=1)), 3)
    (group,) = network.groups
    assert [site.weight for site in group.consumers] == [None, "last.weight"]


def test_indices_that_are_known_carry_their_units_along() -> None:
    network = traced(Through(lambda h: h[:, torch.tensor([2, 0, 1, 3])], read=4), 3)
    order = [2, 0, 1, 3]
    assert groups_of(network) == [
        each(4, lambda k: of(("first.weight", 0, k), ("first.bias", 0, k), ("last.weight", 1, order.index(k))))
    ]


def test_inputs_and_outputs_are_fixed() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            hidden = x + self.a(x)
            inner = torch.relu(self.b(hidden))
            return self.c(inner), inner

    network = traced(Skip(), 4)
    assert not network.groups
    assert "input" in network.fixed["a"]
    assert "output" in network.fixed["b"]
    assert "output" in network.fixed["c"]


def test_a_constant_of_the_module_fixes_what_it_meets() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x) * torch.tensor([1.0, 2.0, 3.0, 4.0]))

    network = traced(Scaled(), 3)
    assert not network.groups
    assert "first" in network.fixed


def test_two_units_merged_by_a_repeat_are_one() -> None:
    network = traced(Through(lambda h: h.repeat(1, 2), read=8), 3)
    assert groups_of(network) == [
        each(4, lambda k: of(("first.weight", 0, k), ("first.bias", 0, k), ("last.weight", 1, (k, 4 + k))))
    ]


def test_printing_names_groups_readers_and_reasons() -> None:
    text = str(traced(mlp(3, 5, 2), 3))
    for part in ("1 groups", "5", "read by 2", "fixed: 2: it is an output of the model"):
        assert part in text


def test_patterns_select_groups_and_one_that_matches_none_is_refused() -> None:
    network = traced(Residual().double(), 2, 5, 5)
    assert [group.name for group in network.select(only=["b*"])] == ["stem", "b1"], "b2 makes the stream too"
    assert [group.name for group in network.select(exclude=["a1"])] == ["stem", "b1"]
    with pytest.raises(dh.DataError, match=r"'nothing\*'.*stem, a1, b1"):
        network.select(only=["nothing*"])
