"""What zeroed, sparse and cut weights cost: counted by hand, and all three compute the same."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.training.forms.sparse import Sparse
from deadhead.training.forms.storage import storage
from deadhead.training.forms.zeroed import zeroed_like
from support.networks import Flat, unit_gain
from support.snapshot import Unharmed


@dataclass
class Closed:
    """What masks have: a network, what is kept, and a cut."""

    network: dh.Network
    keep: dict[str, Tensor]
    pruned: dh.Pruned

    def cut(self) -> dh.Pruned:
        return self.pruned


def prune(model: nn.Module, shape: tuple[int, ...], **options: Any) -> dh.Pruned:
    dtype = next(model.parameters()).dtype
    data = [(torch.randn(40, *shape, dtype=dtype), torch.randint(4, (40,)))]
    return dh.prune(model, data, loss="cross_entropy", **{"units": 0.5, "curve": 0, "compensate": "zero", **options})


def closed(model: nn.Module, pruned: dh.Pruned) -> Closed:
    """Masks of what a prune without compensation removed, by loops over entries."""
    keep = {}
    for name, parameter in model.named_parameters():
        kept = torch.ones(parameter.shape, dtype=torch.bool)
        for place in torch.ones(parameter.shape).nonzero().tolist():
            kept[tuple(place)] = all(place[axis] in ok for axis, ok in pruned.surgery.keep.get(name, {}).items())
        keep[name] = kept
    return Closed(dh.trace(model, pruned.example), keep, pruned)


def flat() -> nn.Module:
    return unit_gain(Flat(), 0)


def test_parameters_and_bytes_are_those_counted_by_hand() -> None:
    """4 x 3 with 5 entries and 2 x 4 with 2 entries that are not zero, float32."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2, 0], [0, 0, 0], [0, 3, 0], [4, 0, 5]]))
        model[2].weight.copy_(torch.tensor([[0.0, 0, 6, 0], [0, 0, 0, 7]]))
    found = storage(model, example=torch.randn(2, 3), batches=(1, 5), repeats=3)
    zeroed, sparse = found["zeroed"], found["sparse"]
    assert (zeroed.parameters, zeroed.memory_bytes) == (12 + 4 + 8, 4 * 24)
    # values, indices of columns and of the beginnings of rows, one more than there are rows
    assert (sparse.parameters, sparse.memory_bytes) == (5 + 2 + 4, 4 * (5 + 5 + 5) + 4 * (2 + 2 + 3) + 4 * 4)
    for row in found.rows:
        assert 0 < row.disk_bytes - row.memory_bytes < 700, "safetensors adds a header"
        assert list(row.milliseconds) == [1, 5]
        assert all(each > 0 for each in row.milliseconds.values())
    assert [row.form for row in found.rows] == ["zeroed", "sparse"]
    assert zeroed.difference == 0
    assert sparse.difference < 1e-6


@pytest.mark.parametrize("compensate", ["zero", "mean", "gauss_newton"])
def test_all_forms_of_a_pruned_network_compute_the_same(compensate: str, unharmed: Unharmed) -> None:
    model = flat()
    pruned = prune(model, (2, 6, 6), compensate=compensate)
    with unharmed(model), unharmed(pruned.model):
        found = storage(model, pruned=pruned, repeats=1)
    assert [row.form for row in found.rows] == ["zeroed", "sparse", "cut"]
    assert max(row.difference for row in found.rows) < 1e-12
    assert found["zeroed"].parameters == sum(p.numel() for p in model.parameters())
    assert found["cut"].parameters == sum(p.numel() for p in pruned.model.parameters())
    assert found["cut"].memory_bytes < found["sparse"].memory_bytes < found["zeroed"].memory_bytes


def test_a_prune_that_adds_biases_is_zeroed_with_them() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 12), nn.Sigmoid(), nn.Linear(12, 8, bias=False), nn.Sigmoid(), nn.Linear(8, 4))
    pruned = prune(model, (3,), compensate="mean")
    assert list(pruned.surgery.biases) == ["2.bias"]
    found = storage(model, pruned=pruned, repeats=1)
    assert max(row.difference for row in found.rows) < 1e-5
    assert model[2].bias is None


def test_masks_are_compared_with_their_cut(unharmed: Unharmed) -> None:
    model = flat()
    masks = closed(model, prune(model, (2, 6, 6)))
    with unharmed(model):
        found = storage(model, masks, repeats=1)
    assert max(row.difference for row in found.rows) < 1e-12
    assert [row.form for row in found.rows] == ["zeroed", "sparse", "cut"]
    other = prune(model, (2, 6, 6), units=0.25)
    assert storage(model, masks, pruned=other, repeats=1)["cut"].difference > 1e-3, "other units are another network"


class Many(nn.Module):
    """Ops that have no sparse product: an embedding, attention, a convolution, a weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.conv = nn.Conv1d(4, 4, 3, padding=1)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.last = nn.Linear(4, 5)

    def forward(self, words: Tensor) -> dict[str, Any]:
        x = self.words(words)
        x = x + self.attention(x, x, x)[0]
        x = self.conv(x.mT).mT
        return {"out": self.last(self.second(self.first(x).tanh())), "n": 3}


def test_what_has_no_sparse_product_is_made_dense_in_every_call_and_named() -> None:
    torch.manual_seed(0)
    model = Many()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter[torch.rand(parameter.shape) < 0.7] = 0
    found = storage(model, example=torch.randint(7, (3, 5)), repeats=1)
    assert found["sparse"].difference < 1e-5
    assert found.notes[0] == "Multiplied as CSR: last.weight."
    names = ("words.weight", "attention.in_proj_weight", "conv.weight", "first.weight", "attention.out_proj.weight")
    assert found.notes[1].startswith("Stored as CSR and made dense in every call: ")
    assert set(Sparse(model).unpacked) == set(names)
    assert found["sparse"].parameters == sum(
        int((p != 0).sum()) if p.dim() > 1 else p.numel() for p in model.parameters()
    )


def test_a_type_without_a_sparse_product_is_made_dense_and_said() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).bfloat16()
    with torch.no_grad():
        model[0].weight[1:] = 0
    found = storage(model, example=torch.randn(2, 4).bfloat16(), repeats=1)
    assert found["sparse"].difference == 0
    assert found.notes[0].startswith("No linear layer is multiplied as CSR: ")
    assert "0.weight" in found.notes[1]


def test_it_prints_a_table_and_is_written_as_json() -> None:
    model = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 4))
    found = storage(model, pruned=prune(model, (3,)), repeats=2, batches=(1, 8))
    lines = str(found).splitlines()
    assert lines[0].split("  ")[0] == "weights"
    assert [part.strip() for part in lines[0].split("  ") if part] == [
        "weights", "parameters", "bytes on disk", "bytes in memory", "ms at 1", "ms at 8", "difference",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[1:4]] == ["zeroed", "sparse", "cut"]
    assert lines[1].split()[1] == "516"
    assert lines[-1] == "Medians of 2 calls in turn, cpu, torch with threads: 1."
    written = json.loads(found.to_json())
    assert written["rows"][2]["form"] == "cut"
    assert list(written["rows"][2]["milliseconds"]) == ["1", "8"]


def test_every_form_is_called_with_every_number_of_samples_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, int]] = []

    class Noted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            called.append(("sparse" if self.sparse else "zeroed", len(x)))
            return x

        sparse = False

    monkeypatch.setattr("deadhead.training.forms.storage.TIMED", 0.0)
    model = nn.Sequential(nn.Linear(2, 2), Noted())
    with torch.no_grad():
        model[0].weight[0] = 0
    kind = Sparse.__init__

    def marked(self: Sparse, *args: Any, **kwargs: Any) -> None:
        kind(self, *args, **kwargs)
        self.module[1].sparse = True  # type: ignore[index]

    monkeypatch.setattr(Sparse, "__init__", marked)
    storage(model, example=torch.ones(1, 2), batches=(2, 3), repeats=4)
    for samples in (2, 3):
        calls = [form for form, rows in called if rows == samples]
        start = calls.index("sparse") + 3
        assert calls[start : start + 8] == 4 * ["zeroed", "sparse"]


def test_a_median_is_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = iter([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, *(each for d in (5.0, 1.0, 2.0) for each in (d, 2 * d))])
    clock, running = [0.0], [False]

    def tick() -> float:
        if running[0]:
            clock[0] += next(durations)
        running[0] = not running[0]
        return clock[0]

    monkeypatch.setattr("deadhead.training.forms.storage.time.perf_counter", tick)
    model = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight[0] = 0
    found = storage(model, example=torch.ones(1, 2), batches=(1,), repeats=3)
    assert [row.milliseconds[1] for row in found.rows] == [2000.0, 4000.0]


def test_what_cannot_be_compared_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))
    pruned = prune(model, (3,))
    with pytest.raises(dh.DataError, match="No weight of Sequential is zero"):
        storage(model, example=torch.ones(1, 3))
    with pytest.raises(dh.DataError, match=r"0\.weight of the pruned network does not fit Sequential"):
        storage(pruned.model, pruned=pruned)
    with pytest.raises(dh.DataError, match="does not fit Sequential"):
        zeroed_like(nn.Sequential(nn.Linear(3, 3)), pruned)
    masks = closed(model, pruned)
    masks.keep["other"] = torch.ones(1, dtype=torch.bool)
    with pytest.raises(dh.DataError, match="The masks have other"):
        storage(model, masks)
    with torch.no_grad():
        model[0].weight[0] = 0
    with pytest.raises(dh.DataError, match="give example="):
        storage(model)
    for options in ({"repeats": 0}, {"batches": ()}, {"batches": (0,)}):
        with pytest.raises(dh.DataError, match="measure nothing"):
            storage(model, example=torch.ones(1, 3), **options)  # type: ignore[arg-type]
    assert math.isfinite(storage(model, example=torch.ones(1, 3), repeats=1)["zeroed"].milliseconds[64])


def test_masks_with_batch_norm_are_weighed_as_they_are_closed() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    masks = dh.Masks(model, torch.optim.SGD(model.parameters(), 0.1), example=torch.randn(2, 1, 6, 6))
    masks.close({"0": [0, 2, 3]})
    found = storage(model, masks, batches=(1,), repeats=1)
    assert [row.form for row in found.rows] == ["zeroed", "sparse", "cut"]
    assert found["cut"].parameters == 10 + 2 + 16 * 3 + 3
    assert found["cut"].difference < 1e-6
