"""Budgets by multiply-adds, memory, latency, loss and accuracy; steps; curves; plans of the caller's."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import calibrate, read
from deadhead.pruning import measure
from deadhead.select.plan import plan_of
from deadhead.select.sizes import Sizes
from support.networks import Flat, Residual, classes, mlp, unit_gain

DATA = classes(60, 2, 5, 5, count=3)
LEARNABLE = [
    (x, (x[:, 0].mean((1, 2)) > 0).long() + (x[:, 1].mean((1, 2)) > 0).long()) for x, _ in classes(200, 2, 5, 5)
]
FAST: dict[str, Any] = {"loss": "cross_entropy", "criterion": "taylor1", "compensate": "zero"}
CAREFUL = {**FAST, "criterion": "oracle"}


def residual() -> nn.Module:
    return unit_gain(Residual())


@functools.lru_cache(maxsize=1)
def trained() -> nn.Module:
    """A network that has learned something, so that its units are worth something."""
    model = residual()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        for x, t in LEARNABLE:
            optimizer.zero_grad()
            F.cross_entropy(model(x), t).backward()
            optimizer.step()
    return model.eval()


def again(model: nn.Module, found: dh.Pruned, number: int, **options: Any) -> dh.Pruned:
    """The model without the first units of an order."""
    return dh.prune(model, DATA, plan=plan_of(found.plan.order[:number]), **FAST, **options)


def held_out(model: nn.Module) -> tuple[float, float]:
    """Loss and accuracy on the rows that scores do not see."""
    rows = calibrate(read(LEARNABLE)).held_out
    x, t = torch.cat([each.inputs for each in rows]), torch.cat([each.targets for each in rows])
    with torch.no_grad():
        outputs = model(x)
    return float(F.cross_entropy(outputs, t)), float((outputs.argmax(1) == t).double().mean())


# -- sizes that are known before anything is cut ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["macs", "memory"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_target_is_met_and_not_by_more_than_a_unit(kind: str, share: float) -> None:
    model = residual()
    found = dh.prune(model, DATA, **FAST, **{kind: share})
    target = share * getattr(found.report.before, kind)
    assert getattr(found.report.after, kind) <= target + 0.5
    assert getattr(again(model, found, found.plan.count - 1).report.after, kind) > target


def test_multiply_adds_are_those_that_torch_counts_in_the_pruned_network() -> None:
    network = dh.trace(residual(), DATA[0][0])
    found = dh.prune(network, DATA, macs=0.4, **FAST)
    counts = {name: len(units) for name, units in found.plan.removed.items()}
    assert Sizes(network, network.groups).macs(counts) == found.report.after.macs
    assert found.report.after.macs < 0.4 * found.report.before.macs + 1


def test_memory_is_weights_and_what_is_alive_at_once_counted_by_hand() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    network = dh.trace(model, torch.randn(4, 3))
    sizes = Sizes(network, network.groups)
    weights = 3 * 8 + 8 + 8 * 2 + 2
    assert sizes.memory({}) == 4 * (weights + 8 + 8)  # what the ReLU reads and what it gives
    assert sizes.memory({"0": 5}) == 4 * (3 * 3 + 3 + 3 * 2 + 2 + 3 + 3)


def test_views_take_no_memory_of_their_own() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.enter(x).unsqueeze(1).transpose(1, 2)
            return self.leave(hidden.transpose(1, 2).squeeze(1))  # type: ignore[no-any-return]

    network = dh.trace(Turned(), torch.randn(4, 3))
    assert Sizes(network, network.groups).memory({}) == 4 * (24 + 8 + 16 + 2 + 8 + 2)


# -- what has to be measured -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0.05, 0.2, 1.0])
def test_the_loss_on_held_out_rows_rises_by_no_more_than_allowed(most: float) -> None:
    model = trained()
    found = dh.prune(model, LEARNABLE, max_loss_increase=most, **CAREFUL)
    before, after = held_out(model)[0], held_out(found.model)[0]
    assert after - before <= most + 1e-6
    assert min(found.report.curve, key=lambda point: abs(point.loss - after)).units == found.report.after.units


def test_one_unit_more_would_cost_too_much() -> None:
    model, most = trained(), 0.2
    found = dh.prune(model, LEARNABLE, max_loss_increase=most, **CAREFUL)
    curve = found.report.curve
    further = [point for point in curve if point.units < found.report.after.units]
    assert max(point.units for point in further) == found.report.after.units - 1
    assert all(point.loss - curve[0].loss > most for point in further if point.units == found.report.after.units - 1)


def test_the_accuracy_on_held_out_rows_drops_by_no_more_than_allowed() -> None:
    model = mlp(2, 12, 9, 3)
    data = classes(300, 2, count=3)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    x, t = data[0][0], (data[0][0][:, 0] > 0).long() + (data[0][0][:, 1] > 0).long()
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(model(x), t).backward()
        optimizer.step()
    found = dh.prune(model, [(x, t)], max_accuracy_drop=0.05, loss="cross_entropy", criterion="mrs")
    assert found.plan.count > 3
    before, after = found.report.curve[0], found.report.curve[-1]
    assert before.units == 21
    kept = [point for point in found.report.curve if point.units == found.report.after.units]
    assert kept
    assert before.accuracy is not None
    assert kept[0].accuracy is not None
    assert before.accuracy - kept[0].accuracy <= 0.05
    assert after.units <= found.report.after.units


def test_accuracy_needs_classes() -> None:
    data = [(torch.randn(20, 2), torch.randn(20, 1))]
    with pytest.raises(dh.BudgetError, match=r"targets that are classes.*max_loss_increase"):
        dh.prune(mlp(2, 8, 1).float(), data, loss="mse", max_accuracy_drop=0.1, criterion="magnitude")


def test_latency_is_that_of_trial_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are with_ties as parameters here: a clock would make the test one of the machine."""

    def seconds(network: dh.Network, module: nn.Module, batch: Any) -> tuple[float, int]:
        return float(sum(parameter.numel() for parameter in module.parameters())), 1

    import deadhead.pruning.candidates as trials

    monkeypatch.setattr(trials, "latency", seconds)
    monkeypatch.setattr(measure, "latency", seconds)
    model = residual()
    found = dh.prune(model, DATA, latency=0.5, **FAST)
    total = sum(parameter.numel() for parameter in model.parameters())
    left = sum(parameter.numel() for parameter in found.model.parameters())
    assert left <= 0.5 * total
    one_less = again(model, found, found.plan.count - 1)
    assert sum(parameter.numel() for parameter in one_less.model.parameters()) > 0.5 * total


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"latency": 1}, r"latency=1 .*fraction that remains"),
        ({"max_loss_increase": -0.1}, r"max_loss_increase=-0.1 .*from 0 on"),
        ({"max_loss_increase": float("nan")}, r"from 0 on"),
        ({"max_accuracy_drop": 1.0}, r"from 0 to below 1"),
        ({"macs": 0.001}, r"with every group at its minimum"),
        ({"memory": 1.0}, r"would remove none .*a smaller one"),
        ({"units": 0.5, "max_loss_increase": 1.0}, r"exactly one budget.*units, max_loss_increase"),
        ({"plan": plan_of([])}, "would remove none"),
        ({"plan": plan_of([("b1", 99)])}, r"numbers from 0 to"),
        ({"plan": plan_of([("nowhere", 0)])}, r"nowhere, which cannot be cut: the groups are"),
    ],
    ids=str,
)
def test_what_cannot_be_done_gets_a_sentence(budget: dict[str, Any], words: str) -> None:
    with pytest.raises(dh.BudgetError, match=words):
        dh.prune(residual(), DATA, **FAST, **budget)


# -- steps, curves, plans --------------------------------------------------------------------------------------------


def test_a_step_at_a_time_by_the_oracle_is_brute_force() -> None:
    model = mlp(3, 6, 5, 3).double()
    data = [(x.double(), t) for x, t in classes(50, 3, count=3)]
    rows = calibrate(read(data))
    expected = dh.oracle(model, [(b.inputs, b.targets) for b in rows.fit], loss="cross_entropy", remove=7)
    options = {"loss": "cross_entropy", "criterion": "oracle", "compensate": "zero"}
    found = dh.prune(model, data, units=4, scope="all", step=1, **options)
    assert found.plan.order == expected.order


def test_a_curve_has_the_loss_after_every_step() -> None:
    model = mlp(3, 6, 5, 3).double()
    data = [(x.double(), t) for x, t in classes(50, 3, count=3)]
    options = {"loss": "cross_entropy", "criterion": "mrs", "compensate": "zero", "curve": 0}
    found = dh.prune(model, data, units=4, scope="all", step=2, **options)
    curve = found.report.curve
    assert [point.units for point in curve] == [11, 9, 7, 5, 4]
    rows = calibrate(read(data)).held_out
    x, t = torch.cat([each.inputs for each in rows]), torch.cat([each.targets for each in rows])
    for point in curve[1:]:
        part = dh.prune(model, data, plan=plan_of(found.plan.order[: 11 - point.units]), **options)
        assert float(F.cross_entropy(part.model(x), t)) == pytest.approx(point.loss, rel=1e-10)
        assert sum(parameter.numel() for parameter in part.model.parameters()) == point.parameters
        assert part.report.after.macs == point.macs
    assert curve[0].loss == pytest.approx(float(F.cross_entropy(model(x), t)), rel=1e-12)


def test_a_plan_of_the_callers_is_carried_out_as_it_is() -> None:
    model = unit_gain(Flat())
    data = classes(40, 2, 6, 6, count=4)
    removal = dh.oracle(model, data, loss="cross_entropy", remove=4)
    found = dh.prune(model, data, loss="cross_entropy", plan=removal.plan(3))
    assert found.plan.order == removal.order[:3]
    assert found.report.criterion == "given"
    assert found.report.budget == "plan=3"


@pytest.mark.parametrize("normalize", ["mean", "max", "l2", "rank", "none"])
def test_one_ranking_normalises_as_it_is_told(normalize: str) -> None:
    model = residual()
    found = dh.prune(model, DATA, units=0.5, scope="all", normalize=normalize, **{**FAST, "criterion": "magnitude"})
    values = {group.name: torch.tensor(group.saliency, dtype=torch.float64) for group in found.report.groups}
    ways = {
        "mean": lambda v: v / v.mean(),
        "max": lambda v: v / v.max(),
        "l2": lambda v: v / v.norm(),
        "none": lambda v: v,
        "rank": lambda v: torch.tensor([float((v < each).sum()) / len(v) for each in v]),
    }
    worth = [(float(w), name, u) for name, value in values.items() for u, w in enumerate(ways[normalize](value))]
    expected, left = [], {name: len(value) for name, value in values.items()}
    for _, name, unit in sorted(worth, key=lambda entry: entry[0]):
        if left[name] > 1 and len(expected) < found.plan.count:
            expected.append((name, unit))
            left[name] -= 1
    assert sorted(expected) == sorted(found.plan.order)


def test_an_unknown_way_to_normalise_is_refused() -> None:
    with pytest.raises(dh.DataError, match=r"no normalize='median'; there are none, mean, max, l2, rank"):
        dh.prune(residual(), DATA, units=0.5, normalize="median", **FAST)
    with pytest.raises(dh.DataError, match="give one"):
        dh.prune(residual(), DATA, units=0.5, rounds=2, step=3, **FAST)


@pytest.mark.parametrize("equation", ["nk,ko->no", "nk,ko", "...k,ko->...o"])
def test_multiply_adds_of_an_einsum_count_every_letter_once(equation: str) -> None:
    class Contracted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.weight = nn.Linear(3, 8), nn.Parameter(torch.randn(8, 2))

        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum(equation, self.enter(x).tanh(), self.weight)

    network = dh.trace(Contracted(), torch.randn(4, 3))
    sizes = Sizes(network, network.groups)
    assert sizes.macs({}) == 3 * 8 + 8 * 2
    assert sizes.macs({network.groups[0].name: 5}) == 3 * 3 + 3 * 2
