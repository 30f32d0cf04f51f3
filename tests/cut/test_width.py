"""Width pruning: the units of a residual stream, through the normalisations that go over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import as_batch
from deadhead.data.losses import as_loss
from deadhead.gates.gates import Gates
from support.networks import unit_gain

WIDTH, HIDDEN, INPUTS = 8, 12, 5
FAST = {"loss": lambda outputs, _: outputs.square().flatten(1).mean(1), "criterion": "magnitude"}


class HandWritten(nn.Module):
    """RMSNorm as people write it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + 0.3 * torch.randn(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Stream(nn.Module):
    """A residual stream with a norm before each block and at the end."""

    def __init__(self, norm: str = "layer") -> None:
        super().__init__()
        make = {"layer": lambda: nn.LayerNorm(WIDTH), "rms": lambda: nn.RMSNorm(WIDTH), "own": HandWritten}[norm]
        self.embed = nn.Linear(INPUTS, WIDTH)
        self.norms = nn.ModuleList(make() for _ in range(3))
        self.up = nn.ModuleList(nn.Linear(WIDTH, HIDDEN) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(HIDDEN, WIDTH) for _ in range(2))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for norm, up, down in zip(self.norms, self.up, self.down, strict=False):
            x = x + down(F.gelu(up(norm(x))))
        return self.head(self.norms[-1](x))


def stream(norm: str, dtype: torch.dtype = torch.float64) -> Stream:
    torch.manual_seed(0)
    model = unit_gain(Stream(norm)).to(dtype)
    for each in model.norms:
        nn.init.normal_(each.weight, 1.0, 0.3)
    return model.eval()


def batches(dtype: torch.dtype = torch.float64, rows: int = 60) -> list[Any]:
    x = torch.randn(rows, 4, INPUTS, dtype=dtype, generator=torch.Generator().manual_seed(1))
    return [(x[i : i + 20], torch.zeros(20)) for i in range(0, rows, 20)]


def narrow(model: Stream, kept: list[int]) -> Stream:
    """The same network over some of the entries of the stream, cut by hand."""
    small = stream("layer" if isinstance(model.norms[0], nn.LayerNorm) else "own").double()
    for norm, theirs in zip(small.norms, model.norms, strict=True):
        norm.weight = nn.Parameter(theirs.weight[kept])
        if isinstance(theirs, nn.LayerNorm):
            norm.bias, norm.normalized_shape = nn.Parameter(theirs.bias[kept]), (len(kept),)
    small.embed.weight, small.embed.bias = (nn.Parameter(t[kept]) for t in (model.embed.weight, model.embed.bias))
    for own, theirs in zip(small.down, model.down, strict=True):
        own.weight, own.bias = nn.Parameter(theirs.weight[kept]), nn.Parameter(theirs.bias[kept])
    for own, theirs in zip((*small.up, small.head), (*model.up, model.head), strict=True):
        own.weight, own.bias = nn.Parameter(theirs.weight[:, kept]), nn.Parameter(theirs.bias)
    return small


@pytest.mark.parametrize("norm", ["layer", "own"])
def test_a_narrow_network_is_the_one_cut_by_hand(norm: str) -> None:
    model, data = stream(norm), batches()
    pruned = dh.prune(model, data, units={"embed": 0.5}, compensate="zero", width=True, only="embed", **FAST)
    gone = pruned.plan.removed["embed"].tolist()
    kept = [k for k in range(WIDTH) if k not in gone]
    assert len(kept) == WIDTH // 2
    x = data[0][0]
    found, expected, before = pruned.model(x), narrow(model, kept)(x), model(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert (found - before).abs().max() > 0.01 * before.abs().max()


@pytest.mark.parametrize("norm", ["layer", "rms", "own"])
def test_without_the_option_the_norm_fixes_the_stream(norm: str) -> None:
    network = dh.trace(stream(norm), batches()[0][0])
    assert [group.name for group in network.groups] == ["up.0", "up.1"]
    assert not any(group.norms for group in network.groups)
    assert "mixes it" in network.fixed["embed"]
    wide = dh.trace(stream(norm), batches()[0][0], width=True)
    assert [group.name for group in wide.groups] == ["embed", "up.0", "up.1"]
    assert len(wide.groups[0].norms) == 3


@pytest.mark.parametrize("norm", ["layer", "rms", "own"])
@pytest.mark.parametrize("compensate", ["zero", "mean", "least_squares"])
def test_the_report_says_that_it_is_approximate_and_by_how_much(norm: str, compensate: str) -> None:
    model, data = stream(norm), batches()
    pruned = dh.prune(model, data, units=0.75, compensate=compensate, width=True, **FAST)
    report = pruned.report
    assert report.difference <= 1e-10
    assert report.approximation is not None
    assert report.approximation > 1e-3
    (record,) = [group for group in report.groups if group.approximate]
    assert record.name == "embed"
    note = next(note for note in report.notes if note.startswith("approximate"))
    assert "embed" in note
    assert f"{report.approximation:.2g}" in note
    assert report.settings["width"] is True


def test_nothing_is_approximate_where_no_stream_was_cut() -> None:
    pruned = dh.prune(stream("layer"), batches(), units=0.5, width=True, exclude="embed", **FAST)
    assert pruned.report.approximation is None
    assert not any(note.startswith("approximate") for note in pruned.report.notes)


def test_least_squares_makes_up_for_most_of_it() -> None:
    model, data = stream("layer"), batches(rows=600)
    x = torch.cat([inputs for inputs, _ in data])
    errors = {}
    for compensate in ("zero", "least_squares"):
        pruned = dh.prune(
            model, data, units={"embed": 0.75}, compensate=compensate, width=True, only="embed", **FAST
        )  # fmt: skip
        with torch.no_grad():
            errors[compensate] = float((pruned.model(x) - model(x)).square().mean())
    assert errors["least_squares"] < 0.7 * errors["zero"]


def test_gates_count_a_unit_in_its_norms_as_far_as_it_is_open() -> None:
    model, data = stream("layer"), batches()
    network = dh.trace(model, data[0][0], width=True).prepare(data[0][0])
    gates = Gates(network, as_loss(FAST["loss"]))
    batch = as_batch(data[0])
    alpha = torch.ones(WIDTH, dtype=torch.float64)
    intact = gates.loss({}, batch)
    assert torch.equal(gates.loss({"embed": alpha}, batch), intact)
    closed = alpha.index_fill(0, torch.tensor([1, 4]), 0.0)
    by_hand = narrow(model, [0, 2, 3, 5, 6, 7])(data[0][0]).square().flatten(1).mean(1)
    torch.testing.assert_close(gates.loss({"embed": closed}, batch), by_hand)
    half = torch.full_like(alpha, 0.7).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: gates.loss({"embed": a}, batch).sum(), (half,))


def test_it_is_saved_and_read_again(tmp_path: Path) -> None:
    model, data = stream("layer"), batches()
    pruned = dh.prune(model, data, units=0.5, width=True, **FAST)
    pruned.save(tmp_path / "narrow")
    again = dh.load(tmp_path / "narrow", stream("layer"))
    x = data[0][0]
    assert torch.equal(again(x), pruned.model(x))
    assert again.norms[0].normalized_shape == (4,)


def test_a_network_that_was_traced_without_is_refused() -> None:
    network = dh.trace(stream("layer"), batches()[0][0])
    with pytest.raises(dh.DataError, match=r"trace\(model, inputs, width=True\)"):
        dh.prune(network, batches(), units=0.5, width=True, **FAST)


def test_where_nothing_can_be_cut_without_it_the_error_says_so() -> None:
    model = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2))
    data = [(torch.randn(20, INPUTS), torch.zeros(20))]
    with pytest.raises(dh.CutError, match="width=True frees 0, approximately"):
        dh.prune(model, data, units=0.5, width=False, **FAST)
    asked = dh.prune(model, data, units=0.5, width=True, **FAST)
    assert asked.model[0].out_features == WIDTH // 2
    found = dh.prune(model, data, units=0.5, **FAST)
    assert found.model[0].out_features == WIDTH // 2
    assert found.report.notes[0].startswith("nothing else can be cut, so the width was")
    assert not asked.report.notes[0].startswith("nothing else")


class PerHead(nn.Module):
    """A norm over the width of each head: heads are units with and without the option."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 3
        self.q, self.k, self.v = (nn.Linear(INPUTS, 12) for _ in range(3))
        self.norm, self.o = nn.RMSNorm(4), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(self.norm(q), self.norm(k), v)
        return self.o(y.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("width", [False, True])
def test_a_norm_inside_a_head_leaves_heads(width: bool) -> None:
    network = dh.trace(PerHead(), torch.randn(2, 4, INPUTS), width=width)
    assert [(group.kind, group.size) for group in network.groups] == [("head", 3)]
