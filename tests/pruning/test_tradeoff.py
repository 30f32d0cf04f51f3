"""The trade-off around a result: what is foretold all along, what is measured beside, and that it changes nothing."""

from __future__ import annotations

import importlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.cut.provable import cuttable
from deadhead.graph.units.groups import Group
from deadhead.pruning import candidates as trials
from deadhead.pruning import measure
from deadhead.select.path import Path
from deadhead.select.plan import Plan
from deadhead.select.ranking import Constraints
from support.networks import Residual, classes, mlp, unit_gain
from support.quick import each_of
from support.snapshot import bits

pruning = importlib.import_module("deadhead.pruning.steps")  # as an attribute of the package it is the function
DATA = classes(60, 2, 5, 5)
ROWS = classes(60, 3, count=3)
FAST: dict[str, Any] = {"loss": "cross_entropy", "criterion": "taylor1", "compensate": "zero"}


class Halves(nn.Module):
    """Two layers whose outputs are shaped by one number: they can only lose equally many units."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 8
        self.a, self.b, self.c, self.d = nn.Linear(3, 8), nn.Linear(3, 8), nn.Linear(8, 5), nn.Linear(8, 5)
        self.out = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.a(x).reshape(-1, self.size), self.b(x).reshape(-1, self.size)
        return self.out(torch.tanh(self.c(torch.tanh(left)) + self.d(torch.sin(right))))


class Stream(nn.Module):
    """A residual stream with a norm before each block and at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.up, self.down, self.head = nn.Linear(3, 8), nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)
        self.first, self.last = nn.LayerNorm(8), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return self.head(self.last(x + self.down(torch.tanh(self.up(self.first(x))))))


def residual() -> nn.Module:
    return unit_gain(Residual())


def halves() -> nn.Module:
    return unit_gain(Halves())


def stream() -> nn.Module:
    return unit_gain(Stream())


def known(model: nn.Module, data: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Data of which the network is right about every row, so that it has something to lose."""
    with torch.no_grad():
        return [(x, model(x).argmax(1)) for x, _ in data]


Case = tuple[Callable[[], nn.Module], list[tuple[Tensor, Tensor]], dict[str, Any]]
CASES: dict[str, Case] = {
    "even": (residual, DATA, {"units": 0.5}),
    "a count": (residual, DATA, {"units": 3}),
    "shares": (residual, DATA, {"units": {"a1": 0.5, "stem": 4}}),
    "one ranking": (residual, DATA, {"units": 0.6, "scope": "all"}),
    "one ranking, normalised": (residual, DATA, {"units": 0.6, "scope": "all", "normalize": "rank"}),
    "parameters": (residual, DATA, {"params": 0.5}),
    "parameters, normalised": (residual, DATA, {"params": 0.5, "normalize": "mean"}),
    "multiply-adds": (residual, DATA, {"macs": 0.4}),
    "memory": (residual, DATA, {"memory": 0.7}),
    "latency": (residual, DATA, {"latency": 0.5}),
    "loss": (residual, known(residual(), DATA), {"max_loss_increase": 0.2}),
    "accuracy": (lambda: mlp(3, 8, 6, 3), known(mlp(3, 8, 6, 3), ROWS), {"max_accuracy_drop": 0.1}),
    "multiples": (lambda: mlp(3, 12, 8, 3), ROWS, {"units": 0.5, "round_to": 2, "min_units": 4}),
    "multiples of parameters": (lambda: mlp(3, 12, 8, 3), ROWS, {"params": 0.5, "round_to": 2}),
    "rounds": (residual, DATA, {"units": 0.4, "rounds": 3}),
    "rounds of parameters": (residual, DATA, {"params": 0.5, "rounds": 2}),
    "steps": (residual, DATA, {"units": 0.6, "scope": "all", "step": 2}),
    "ties": (halves, ROWS, {"units": 0.5}),
    "ties in one ranking": (halves, ROWS, {"units": 0.5, "scope": "all"}),
    "ties and parameters": (halves, ROWS, {"params": 0.5}),
    "width": (stream, ROWS, {"units": 0.5, "width": True}),
    "the smallest": (residual, DATA, {"units": 1}),
    "all but one": (residual, DATA, {"units": 14, "scope": "all"}),
}


@pytest.fixture(autouse=True)
def seconds_are_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock would make the test of a latency one of the machine."""

    def seconds(network: dh.Network, module: nn.Module, batch: Any) -> tuple[float, int]:
        return float(sum(parameter.numel() for parameter in module.parameters())), 1

    monkeypatch.setattr(trials, "latency", seconds)
    monkeypatch.setattr(measure, "latency", seconds)


@dataclass
class Seen:
    """A prune, and the path that its trade-off was looked for on."""

    pruned: dh.Pruned
    path: Path
    result: Plan


def seen(name: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Seen:
    make, data, budget = CASES[name]
    found: list[tuple[Path, Plan]] = []
    real = pruning.trade_off

    def spy(trials: Any, path: Path, result: Plan, *rest: Any) -> Any:
        found.append((path, result))
        return real(trials, path, result, *rest)

    monkeypatch.setattr(pruning, "trade_off", spy)
    pruned = dh.prune(make(), data, **{**FAST, **budget, **options})
    monkeypatch.setattr(pruning, "trade_off", real)
    return Seen(pruned, *found[0])


def smallest(pruned: dh.Pruned, name: str) -> int:
    """The units left when every group that may lose units has as few as it can."""
    options = CASES[name][2]
    groups = {group.name: group for group in pruned.report.groups}
    if isinstance(options.get("units"), dict):
        return sum(1 if each in options["units"] else groups[each].units for each in groups)
    return len(groups) * options.get("min_units", options.get("round_to", 1))


# -- what is foretold ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_forecast_runs_from_the_intact_network_through_the_result_to_the_smallest(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = seen(name, monkeypatch)
    report, told = found.pruned.report, found.pruned.report.predicted_curve
    total = sum(group.units for group in report.groups)
    assert (told[0].units, told[0].parameters, told[0].macs) == (total, report.before.parameters, report.before.macs)
    assert told[0].loss == report.curve[0].loss
    assert told[-1].units == smallest(found.pruned, name)
    assert all(a.units > b.units and a.parameters >= b.parameters for a, b in itertools.pairwise(told))
    (here,) = [place for place in told if place.units == total - found.pruned.plan.count]
    assert (here.parameters, here.macs) == (report.after.parameters, report.after.macs)


@pytest.mark.parametrize("name", [name for name in CASES if "rounds" not in name and name != "steps"])
def test_a_forecast_at_the_result_is_the_intact_loss_and_the_saliencies_of_the_plan(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = seen(name, monkeypatch, curve=0).pruned
    spent = sum(float(pruned.plan.saliencies[group][unit]) for group, unit in pruned.plan.order)
    left = sum(group.kept for group in pruned.report.groups)
    (here,) = [place for place in pruned.report.predicted_curve if place.units == left]
    assert here.loss == pytest.approx(pruned.report.curve[0].loss + spent, rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_sizes_are_those_of_networks_pruned_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = seen(name, monkeypatch, curve=0)
    make, data, budget = CASES[name]
    options = {key: value for key, value in budget.items() if key in ("round_to", "min_units", "width")}
    places = {place.units: place for place in found.pruned.report.predicted_curve}
    total = max(places)
    compared = 0
    for number in found.path.places(2)[1:]:
        plan = found.path.plan(number, found.result)
        assert plan.count == found.path.removed[number]
        model = dh.prune(make(), data, plan=plan, curve=0, **FAST, **options).model
        if total - plan.count in places:
            compared += 1
            assert sum(parameter.numel() for parameter in model.parameters()) == places[total - plan.count].parameters
    assert compared >= 2 or len(places) == 2


@pytest.mark.parametrize("name", ["even", "one ranking", "parameters", "ties", "width", "multiples"])
def test_by_the_surgeon_a_forecast_never_falls(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = seen(name, monkeypatch, criterion="obs", compensate="least_squares")
    told, report = found.pruned.report.predicted_curve, found.pruned.report
    assert all(a.loss <= b.loss for a, b in itertools.pairwise(told))
    assert told[-1].loss > told[0].loss == report.curve[0].loss
    ranked = found.result.saliencies  # the report has the scores of the units that were then chosen front to back
    spent = sum(sum(sorted(ranked[group.name].tolist())[: len(group.removed)]) for group in report.groups)
    (here,) = [place for place in told if place.units == sum(group.kept for group in report.groups)]
    assert here.loss == pytest.approx(told[0].loss + spent, rel=1e-12)
    assert [point.purpose for point in report.curve] == ["accepted", "comparison", "result", "comparison"]


def test_a_forecast_is_what_is_measured_where_the_criterion_is_exact() -> None:
    """One hidden layer read by one linear layer under squared error, with targets that the intact network gives: the
    surgeon's cost is the loss, but for a little damping, and the rows and targets that are drawn."""
    torch.manual_seed(0)
    model = mlp(12, 12, 2)
    nn.init.orthogonal_(model[0].weight)  # type: ignore[arg-type]
    x = torch.randn(20_000, 12, dtype=torch.float64)
    with torch.no_grad():
        data = [(x, model(x))]
    # The other method would choose better units than the scores do.
    options: dict[str, Any] = {"loss": "squared_error", "compensate": "least_squares_one_pass", "samples": 20_000}
    report = dh.prune(model, data, units=0.5, curve=4, **options).report
    told = {place.units: place.loss for place in report.predicted_curve}
    assert len(report.curve) == 6
    for point in report.curve[1:]:
        assert told[point.units] == pytest.approx(point.loss, rel=0.05)
    assert report.curve[0].loss < 1e-12 < 0.01 < report.curve[-1].loss


def test_a_forecast_of_one_unit_at_a_time_by_the_oracle_is_exact() -> None:
    model = mlp(3, 8, 3)
    x, t = ROWS[0]
    twice = [(torch.cat([x[:1]] * 100), torch.cat([t[:1]] * 100))]  # held-out rows are the same as the others
    found = dh.prune(model, twice, units=7, loss="cross_entropy", criterion="oracle", compensate="zero", curve=0)
    told = {place.units: place.loss for place in found.report.predicted_curve}
    assert told[7] == pytest.approx(found.report.curve[-1].loss, rel=1e-10)


@pytest.mark.parametrize("criterion", ["mrs", "mrp", "magnitude", "random"])
def test_scores_in_another_unit_than_the_loss_foretell_nothing_and_points_are_measured_all_the_same(
    criterion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = seen("even", monkeypatch, criterion=criterion).pruned.report
    assert report.predicted_curve == []
    assert [point.purpose for point in report.curve] == ["accepted", "comparison", "result", "comparison"]
    absolute = seen("even", monkeypatch, criterion_options={"absolute": True}).pruned.report
    assert absolute.predicted_curve == []


def test_shares_are_scaled_in_step() -> None:
    path = Path(["a", "b", "a", "b", "a", "a"], 4, {"a": 5, "b": 3}, Constraints())
    assert [path.counts(number) for number in (0, 2, 4, 6)] == [
        {},
        {"a": 1, "b": 1},
        {"a": 2, "b": 2},
        {"a": 4, "b": 2},
    ]
    assert path.removed == [0, 1, 2, 3, 4, 5, 6]


def test_even_shares_on_the_way_are_even(monkeypatch: pytest.MonkeyPatch) -> None:
    make = lambda: mlp(3, 40, 20, 3)  # noqa: E731
    monkeypatch.setitem(CASES, "wide", (make, ROWS, {"units": 0.5}))
    found = seen("wide", monkeypatch, curve=0)
    for number in found.path.places(10):
        counts = found.path.counts(number)
        assert counts.get("0", 0) == pytest.approx(2 * counts.get("2", 0), abs=2)


# -- what is measured beside -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "expected"), [(0, []), (1, [45]), (2, [15, 45]), (3, [15, 40, 50]), (4, [10, 20, 40, 50])]
)
def test_beside_is_half_way_to_the_result_and_half_as_far_again(wanted: int, expected: list[int]) -> None:
    path = Path(["a"] * 99, 30, {"a": 100}, Constraints())
    assert path.beside(wanted, [0, 30]) == expected


def test_beside_stays_short_of_the_smallest_and_where_nothing_is_beyond_all_is_before() -> None:
    rules = Constraints()
    assert Path(["a"] * 40, 30, {"a": 50}, rules).beside(2, [0, 30]) == [15, 35]
    assert Path(["a"] * 30, 30, {"a": 50}, rules).beside(2, [0, 30]) == [10, 20]
    assert Path(["a"] * 2, 1, {"a": 3}, rules).beside(2, [0, 1]) == [2]
    assert Path(["a"], 1, {"a": 2}, rules).beside(5, [0, 1]) == []


def test_where_as_many_are_known_none_are_looked_at() -> None:
    path = Path(["a"] * 99, 30, {"a": 100}, Constraints())
    assert path.beside(2, [0, 12, 30]) == [45]
    assert path.beside(2, [0, 30, 31]) == [15]
    assert path.beside(4, [0, 12, 30, 31, 32]) == [10, 20]
    assert path.beside(2, [0, 15, 29, 30, 45]) == []


@pytest.mark.parametrize("name", CASES)
def test_points_beside_are_what_a_prune_there_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their losses are those of the path's plans, carried out; the result is marked, and nothing else is."""
    found = seen(name, monkeypatch, curve=2)
    make, data, budget = CASES[name]
    options = {key: value for key, value in budget.items() if key in ("round_to", "min_units", "width")}
    curve = found.pruned.report.curve
    total = curve[0].units
    assert [point.units for point in curve if point.purpose == "result"] == [total - found.pruned.plan.count]
    left = total - found.pruned.plan.count
    assert {point.purpose for point in curve if point.units > left} <= {"accepted", "comparison"}
    assert {point.purpose for point in curve if point.units < left} <= {"refused", "comparison"}
    assert len(curve) >= 3
    for point in curve:
        if point.purpose == "comparison":
            number = next(n for n, gone in enumerate(found.path.removed) if gone == total - point.units)
            there = dh.prune(make(), data, plan=found.path.plan(number, found.result), curve=0, **FAST, **options)
            assert there.report.after.loss == pytest.approx(point.loss, rel=1e-9)
            assert (there.report.after.parameters, there.report.after.macs) == (point.parameters, point.macs)


def test_tied_groups_lose_equally_many_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    network = dh.trace(halves(), ROWS[0][0])
    assert [set(tie) for tie in cuttable(network, network.groups).ties] == [{"a", "b"}]
    found = seen("ties in one ranking", monkeypatch)
    for number in found.path.places(20)[1:]:
        plan = found.path.plan(number, found.result)
        assert len(plan.removed.get("a", ())) == len(plan.removed.get("b", ()))


@pytest.mark.parametrize("name", ["loss", "accuracy"])
def test_what_was_refused_is_marked_by_what_it_was_and_not_by_its_size(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = seen(name, monkeypatch).pruned.report
    left = sum(group.kept for group in report.groups)
    refused = [point for point in report.curve if point.purpose == "refused"]
    assert refused
    assert all(point.units < left for point in refused)
    assert not any(point.purpose == "comparison" and point.units < left for point in report.curve)


def test_where_all_is_accepted_nothing_is_refused() -> None:
    report = dh.prune(residual(), DATA, max_loss_increase=1e6, **FAST).report
    assert {point.purpose for point in report.curve} == {"accepted", "result"}


def test_a_plan_of_the_callers_has_its_own_way_measured() -> None:
    plan = dh.oracle(residual(), DATA, loss="cross_entropy", remove=9).plan(9)
    report = dh.prune(residual(), DATA, loss="cross_entropy", plan=plan, curve=2).report
    assert [(point.units, point.purpose) for point in report.curve] == [
        (15, "accepted"), (12, "comparison"), (9, "comparison"), (6, "result"),
    ]  # fmt: skip
    assert report.predicted_curve == []
    assert dh.prune(residual(), DATA, loss="cross_entropy", plan=plan, curve=0).report.curve == []


def weights(model: nn.Module) -> dict[str, Any]:
    return {name: bits(tensor) for name, tensor in model.state_dict().items()}


# -- that it changes nothing -----------------------------------------------------------------------------------------


def told(report: dh.Report) -> dict[str, Any]:
    """A report but for what may differ: seconds, and what was looked at beside."""
    values = report.to_dict()
    values["settings"].pop("curve")
    values["curve"] = [point for point in values["curve"] if point["purpose"] != "comparison"]
    values["predicted_curve"] = [place for place in values["predicted_curve"] if place["units"] in (15, 24, 16)]
    return {key: value for key, value in values.items() if key != "seconds"}


@pytest.mark.parametrize("inplace", each_of([False, True], [False]))
@pytest.mark.parametrize("options", [FAST, {"loss": "cross_entropy"}], ids=["taylor1", "obs"])
@pytest.mark.parametrize("name", each_of(["even", "parameters", "loss", "rounds", "ties", "width"], ["even", "rounds"]))
def test_the_result_is_the_same_to_the_bit(name: str, options: dict[str, Any], inplace: bool) -> None:
    make, data, budget = CASES[name]
    without, with_it = (dh.prune(make(), data, inplace=inplace, curve=n, **options, **budget) for n in (0, 2))
    assert without.plan.order == with_it.plan.order
    assert weights(without.model) == weights(with_it.model)
    assert told(without.report) == told(with_it.report)


def test_points_that_cannot_be_had_are_left_out_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = dh.prune(residual(), DATA, loss="cross_entropy", units=0.5, curve=0)
    real, calls = trials.choose_and_compensate, []

    def fails_beside(network: dh.Network, groups: list[Group], planned: dict[str, Tensor], *rest: Any) -> Any:
        calls.append(planned)
        if len(calls) > 1:
            raise RuntimeError("out of memory")
        return real(network, groups, planned, *rest)

    monkeypatch.setattr(trials, "choose_and_compensate", fails_beside)
    found = dh.prune(residual(), DATA, loss="cross_entropy", units=0.5, curve=2)
    assert len(calls) == 3
    assert [point.purpose for point in found.report.curve] == ["accepted", "result"]
    assert weights(found.model) == weights(expected.model)


def test_what_stops_the_progress_stops_the_prune() -> None:
    def stop(step: str, done: int, total: int) -> None:
        if step == "curve" and done:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        dh.prune(residual(), DATA, units=0.5, progress=stop, **FAST)


def test_it_is_shown_under_a_name_of_its_own() -> None:
    events: list[tuple[str, int, int]] = []
    tell = lambda *event: events.append(event)  # noqa: E731
    report = dh.prune(residual(), DATA, units=0.5, progress=tell, loss="cross_entropy").report
    assert [event for event in events if event[0] == "curve"] == [("curve", 0, 2), ("curve", 1, 2), ("curve", 2, 2)]
    assert "curve" in report.seconds
    assert report.settings["curve"] == 2


def test_a_negative_number_of_points_is_refused() -> None:
    with pytest.raises(dh.DataError, match="curve=-1 is out of range"):
        dh.prune(residual(), DATA, units=0.5, curve=-1, **FAST)


@pytest.mark.parametrize("name", ["even", "parameters", "loss", "ties"])
def test_a_curve_goes_to_json_and_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = seen(name, monkeypatch).pruned.report
    values = report.to_dict()
    assert json.loads(json.dumps(values)) == json.loads(json.dumps(values, allow_nan=False))
    assert [dh_point(place) for place in values["predicted_curve"]] == [
        dh_point(vars(place)) for place in report.predicted_curve
    ]
    assert {each["purpose"] for each in values["curve"]} <= {"accepted", "result", "refused", "comparison"}


def dh_point(values: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(values[key] for key in ("units", "parameters", "macs", "loss"))
