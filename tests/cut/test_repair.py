"""Numbers that a class's own forward reads: found, changed with the units, and proved; else the group is left whole."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.cut.cut import cut
from deadhead.cut.provable import cuttable
from deadhead.cut.repair import Repair, settings_for
from deadhead.select.plan import plan_of
from deadhead.select.ties import Tied
from support.networks import unit_gain
from support.quick import each_of
from support.snapshot import Unharmed

WIDTH, HEADS = 24, 4
FAST = {"loss": lambda outputs, _: outputs.square().mean(1), "compensate": "zero", "criterion": "magnitude"}


class Sizes:
    """What a configuration holds."""

    def __init__(self, heads: int = HEADS) -> None:
        self.heads = heads
        self.name = "small"


class Attention(nn.Module):
    """Attention whose forward reads its number of heads in one of several ways."""

    def __init__(self, how: str = "number", config: Sizes | None = None) -> None:
        super().__init__()
        self.how, self.config = how, config or Sizes()
        self.heads, self.width = HEADS, WIDTH // HEADS
        self.shape = (HEADS, WIDTH // HEADS)
        self.inner = WIDTH
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.o = nn.Linear(WIDTH, WIDTH)

    def split(self, x: Tensor) -> Tensor:
        rows, steps, _ = x.shape
        sizes = {
            "number": lambda: (self.heads, self.width),
            "config": lambda: (self.config.heads, self.width),
            "tuple": lambda: self.shape,
            "two": lambda: (self.heads, self.inner // self.heads),
            "literal": lambda: (4, 6),
        }[self.how]()
        return x.view(rows, steps, *sizes).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.scaled_dot_product_attention(self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x)))
        return self.o(y.transpose(1, 2).flatten(2))


class Layers(nn.Module):
    """Two attentions that share a configuration, and a head."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.config = Sizes()
        self.first, self.second = Attention(how, self.config), Attention(how, self.config)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.first(x)
        x = x + self.second(x)
        return self.head(x.mean(1))


def data(*shape: int, rows: int = 12) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(rows, *shape, generator=generator, dtype=torch.float64), torch.zeros(rows))]


def zeroed(model: nn.Module, network: dh.Network, removed: dict[str, list[int]]) -> nn.Module:
    """A copy with all slices of the removed units set to zero."""
    model = copy.deepcopy(model)
    tensors = dict(model.named_parameters())
    with torch.no_grad():
        for group in network.groups:
            for part in group.slices:
                for unit in removed.get(group.name, []):
                    tensors[part.parameter].index_fill_(part.axis, (part.units == unit).nonzero()[:, 0], 0)
    return model


@pytest.mark.parametrize(
    ("how", "attribute", "value"),
    [("number", "heads", 2), ("config", "config.heads", 2), ("tuple", "shape", (2, 6)), ("two", "inner", 12)],
)
def test_the_number_of_heads_follows_wherever_it_is_held(
    how: str, attribute: str, value: object, unharmed: Unharmed, tmp_path: Path
) -> None:
    model = unit_gain(Layers(how))
    samples = data(7, WIDTH)
    with unharmed(model):
        pruned = dh.prune(model, samples, units=0.5, **FAST)
    assert [len(group.removed) for group in pruned.report.groups] == [2, 2]
    assert {(m, a, v) for m, a, v in pruned.surgery.settings if a == attribute} == {
        ("first", attribute, value), ("second", attribute, value)
    }  # fmt: skip
    new = torch.randn(5, 3, WIDTH, dtype=torch.float64)
    network = dh.trace(model, samples[0][0])
    reference = zeroed(model, network, {g.name: g.removed for g in pruned.report.groups})(new)
    assert (reference - model(new)).abs().max() > 0.01 * model(new).abs().max()
    torch.testing.assert_close(pruned.model(new), reference, rtol=1e-10, atol=1e-11)
    pruned.save(tmp_path / "saved")
    assert torch.equal(dh.load(tmp_path / "saved", model)(new), pruned.model(new))


def test_a_configuration_that_others_share_is_changed_for_its_module_alone() -> None:
    model = unit_gain(Layers("config"))
    pruned = dh.prune(model, data(7, WIDTH), units={"first*": 0.25, "second*": 0.75}, **FAST).model
    assert (pruned.first.config.heads, pruned.second.config.heads, pruned.config.heads) == (1, 3, HEADS)
    assert model.config.heads == HEADS
    assert model.first.config is model.config


def test_a_number_in_the_code_leaves_the_group_whole_with_the_reason() -> None:
    model = unit_gain(nn.Sequential(Layers("literal"), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)))
    pruned = dh.prune(model, data(7, WIDTH), units=0.5, **FAST)
    whole = dict(pruned.report.left_alone)
    assert "forward fails" in whole["0.first.q"]
    assert [group.name for group in pruned.report.groups] == ["0.head", "2"]


class Misled(Attention):
    """Divides by a number that happens to be that of its heads."""

    def __init__(self) -> None:
        super().__init__("number")
        self.temperature = HEADS

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / self.temperature


def test_a_number_that_only_happens_to_be_as_large_stays() -> None:
    model = unit_gain(nn.Sequential(Misled(), nn.Flatten(), nn.Linear(3 * WIDTH, 2)))
    pruned = dh.prune(model, data(3, WIDTH), units=0.5, **FAST).model
    assert (pruned[0].heads, pruned[0].temperature) == (2, HEADS)


class Halves(nn.Module):
    """Half of the channels go past a layer: both halves must stay equally many."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.side, self.leave = nn.Linear(3, 12), nn.Linear(6, 6), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        past, through = self.enter(x).chunk(2, -1)
        return self.leave(torch.cat([past, self.side(through).relu()], -1))


@pytest.mark.parametrize(
    "options", [{"units": 0.5}, {"units": 0.6, "scope": "all"}, {"params": 0.7, "rounds": 2}], ids=str
)
def test_halves_of_a_chunk_lose_equally_many_units_each_its_own(options: dict[str, object]) -> None:
    model = unit_gain(Halves())
    network = dh.trace(model, data(3)[0][0])
    assert [len(tie) for tie in cuttable(network, network.groups).ties] == [2]
    pruned = dh.prune(model, data(3), **options, **FAST)
    removed = {group.name: group.removed for group in pruned.report.groups}
    past, through = removed["enter"], removed["enter#2"]
    assert len(past) == len(through) > 0
    assert past != through, "each half loses its own least units"
    new = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(pruned.model(new), zeroed(model, network, removed)(new), rtol=1e-10, atol=1e-11)


def test_tied_groups_are_chosen_by_the_sum_of_their_ranks() -> None:
    network = dh.trace(unit_gain(Halves()), data(3)[0][0])
    saliencies = {group.name: torch.tensor([3.0, 1, 2, 6, 5, 4]) for group in network.groups}
    saliencies["enter#2"] = torch.tensor([1.0, 9, 9, 9, 9, 0])
    tied = Tied(network.groups, saliencies, [("enter", "enter#2")])
    assert [group.name for group in tied.groups] == ["enter", "side"]
    assert tied.saliencies["enter"].tolist() == [1 + 0, 2 + 1, 3 + 9, 4 + 9, 5 + 9, 6 + 9]
    plan = tied.of(plan_of([("enter", 1), ("enter", 0)]))
    assert plan.order == [("enter", 2), ("enter#2", 0), ("enter", 1), ("enter#2", 5)]


class Aligned(nn.Module):
    """A kernel that wants multiples of eight, as many do."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 32), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.enter(x).relu()
        if hidden.shape[-1] % 8:
            raise RuntimeError("strides should be multiple of 8")
        return self.leave(hidden)


@pytest.mark.parametrize(("units", "kept"), [(0.5, 16), (0.3, 16), (1, 8)])
def test_what_only_works_in_multiples_keeps_a_multiple(units: float, kept: int) -> None:
    model = unit_gain(Aligned())
    assert dh.prune(model, data(3), units=units, **FAST).model.enter.out_features == kept


def test_settings_count_what_is_left_and_keep_the_rest_of_a_tuple() -> None:
    model = Layers("tuple")
    repairs = [Repair("first", "shape", 0, 4, "g", 4), Repair("first", "inner", None, 24, "g", 4)]
    assert settings_for(model, repairs, {"g": torch.tensor([1])}) == [
        ("first", "shape", (3, 6)),
        ("first", "inner", 18),
    ]
    assert settings_for(model, repairs, {"other": torch.tensor([1])}) == []


def test_a_cut_without_its_repairs_fails_where_forward_reads_the_number() -> None:
    network = dh.trace(unit_gain(Layers("number")), data(7, WIDTH)[0][0])
    plan = plan_of([("first.q", 1)])
    with pytest.raises(RuntimeError):
        cut(network, plan)(data(7, WIDTH)[0][0])


class TwoLayers(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn, self.head = kind(3, 6, num_layers=2, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize("kind", each_of([nn.LSTM, nn.GRU, nn.RNN], [nn.RNN]))
def test_layers_of_a_recurrent_network_lose_equally_many_hidden_units(kind: type[nn.RNNBase]) -> None:
    model = unit_gain(TwoLayers(kind))
    samples = data(4, 3)
    pruned = dh.prune(model, samples, units=0.5, **FAST)
    assert (pruned.model.rnn.hidden_size, pruned.model.rnn.input_size) == (3, 3)
    removed = {group.name: group.removed for group in pruned.report.groups}
    assert [len(units) for units in removed.values()] == [3, 3]
    new = torch.randn(5, 4, 3, dtype=torch.float64)
    reference = zeroed(model, dh.trace(model, samples[0][0]), removed)(new)
    torch.testing.assert_close(pruned.model(new), reference, rtol=1e-10, atol=1e-11)
