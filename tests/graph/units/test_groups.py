"""Units of whole networks, worked out by hand: which entries of which tensors go together, and why others stay."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.networks import Flat, Residual, TwoReaders, mlp
from support.units import Unit, each, groups_of, norm, of, readers, traced, units_of

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
