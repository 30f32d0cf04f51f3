"""What fixes units, what leaves them free, and how groups are told and selected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from support.networks import Residual, mlp
from support.units import each, groups_of, of, traced, units_of


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
    lines = [line.split() for line in str(traced(mlp(3, 5, 2), 3)).splitlines()]
    assert ["Sequential:", "1", "group,", "5", "units", "that", "can", "be", "pruned"] in lines
    assert ["0", "5", "unit", "0", "2"] in lines
    assert ["1", "module", "2", "it", "is", "an", "output", "of", "the", "model"] in lines


def test_patterns_select_groups_and_one_that_matches_none_is_refused() -> None:
    network = traced(Residual().double(), 2, 5, 5)
    assert [group.name for group in network.select(only=["b*"])] == ["stem", "b1"], "b2 makes the stream too"
    assert [group.name for group in network.select(exclude=["a1"])] == ["stem", "b1"]
    with pytest.raises(dh.DataError, match=r"'nothing\*'.*stem, a1, b1"):
        network.select(only=["nothing*"])
