from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import deadhead.report
from deadhead.drawing import shorten
from deadhead.pruning.record import Forecast, Point, Report
from deadhead.report.facts import (
    costs,
    divided,
    foretold,
    is_wide,
    losses,
    predicted_at,
    reasons,
    tried,
    way,
)


def test_costs_leave_out_what_was_nothing(report_of: Callable[..., Report]) -> None:
    report = report_of()
    names = [name for name, _ in costs(replace(report.before, latency=0.0), report.after)]
    assert names == ["units", "parameters", "multiply-adds", "size on disk", "memory"]


def test_losses_name_what_was_predicted_only_where_it_was(report_of: Callable[..., Report]) -> None:
    assert [value for _, value in losses(report_of())] == [0.0184, 0.0277, 0.0291]
    assert [value for _, value in losses(report_of(predicted_loss=None))] == [0.0184, 0.0291]


def test_reasons_gather_names(report_of: Callable[..., Report]) -> None:
    assert reasons(report_of()) == [("an output of the model", ["fc2", "head"]), ("unknown op", ["odd"])]


def units(points: list[Point]) -> list[int]:
    return [point.units for point in points]


def test_a_curve_is_divided_by_what_points_were_measured_for(curve: list[Point], beside: list[Point]) -> None:
    found = divided(curve)
    assert (units(found.taken), found.result, units(found.refused)) == ([16, 13, 10], curve[2], [9, 8])
    looked = divided(beside)
    assert (units(looked.taken), units(looked.aside), looked.refused) == ([16, 10], [13, 7], [])
    assert units(looked.measured) == [16, 13, 10, 7]
    unknown = divided([point for point in curve if point.purpose == "way"])
    assert (units(unknown.taken), unknown.result, unknown.refused) == ([16, 13], None, [])


def test_what_is_predicted_is_interpolated_by_units(forecast: list[Forecast]) -> None:
    assert [predicted_at(forecast, units) for units in (16, 10, 2)] == [0.02, 0.026, 0.5]
    assert predicted_at(forecast, 13) == pytest.approx(0.023)
    assert [predicted_at(forecast, units) for units in (17, 1)] == [None, None]
    assert predicted_at([], 16) is None
    assert predicted_at(forecast[:1], 16) == 0.02


def test_two_points_are_no_curve(report_of: Callable[..., Report], curve: list[Point]) -> None:
    assert [len(way(report_of(curve=curve[:count]))) for count in range(5)] == [0, 0, 0, 3, 4]


def test_two_points_with_a_forecast_between_them_are_a_curve(
    report_of: Callable[..., Report], curve: list[Point], forecast: list[Forecast]
) -> None:
    assert len(way(report_of(curve=[curve[0], curve[2]], forecast=forecast))) == 2


def test_losses_are_wide_beyond_two_powers_of_ten(curve: list[Point]) -> None:
    def wide(*losses: float) -> bool:
        return is_wide([replace(curve[0], loss=loss) for loss in losses])

    assert wide(0.01, 1.01, float("nan"))
    assert not wide(0.01, 0.99, float("inf"))
    assert not wide(-0.01, 5.0)
    assert not wide(0.0, 5.0)
    assert not wide(float("nan"))


def test_losses_with_a_forecast_are_wide_beyond_one_power_of_ten(curve: list[Point], forecast: list[Forecast]) -> None:
    assert is_wide(curve[:1], forecast)
    assert not is_wide(curve[:1], forecast[:3])
    assert not is_wide(curve[:1], [replace(forecast[3], loss=-1.0), *forecast])


def test_what_was_tried_is_told_with_what_was_refused_next(
    report_of: Callable[..., Report], curve: list[Point]
) -> None:
    assert tried(report_of(curve=curve)) == (
        "4 smaller networks were measured on held-out calibration rows. "
        "Kept: 10 of 16 units, loss 0.03, accuracy 98.00 %. Refused: 9 of 16 units, loss 0.25."
    )
    assert tried(report_of(curve=curve[:3])).endswith("accuracy 98.00 %.")
    assert tried(report_of(curve=curve[:2])) == ""


def test_what_lies_beyond_is_told_beside_what_was_predicted(
    report_of: Callable[..., Report], beside: list[Point], forecast: list[Forecast]
) -> None:
    assert tried(report_of(curve=beside, forecast=forecast)) == (
        "3 smaller networks were measured on held-out calibration rows. "
        "Kept: 10 of 16 units, loss 0.03 (mrs predicted 0.026), accuracy 98.00 %. "
        "Further, for comparison: 7 of 16 units, loss 0.08 (mrs predicted 0.044), accuracy 93.00 %."
    )


@pytest.mark.parametrize(
    ("criterion", "order"), [("obs", "to second order"), ("taylor2", "to second order"), ("taylor1", "to first order")]
)
def test_a_forecast_says_what_it_is(
    report_of: Callable[..., Report], beside: list[Point], forecast: list[Forecast], criterion: str, order: str
) -> None:
    told = foretold(report_of(curve=beside, forecast=forecast, criterion=criterion))
    assert told.startswith(f"Predicted by {criterion}: the intact loss plus each removed unit's score")
    assert ("at its turn in its group" in told) == (criterion == "obs")
    assert f"found on calibration rows, {order}, without what removals in other groups change." in told
    assert foretold(report_of(curve=beside)) == ""


def test_shortened_names_have_the_width_asked_for() -> None:
    assert shorten("abcdefghij", 10) == "abcdefghij"
    assert [len(shorten("a" * 50, width)) for width in range(1, 30)] == list(range(1, 30))


def test_report_imports_nothing_above_or_beside_it() -> None:
    allowed = ("deadhead.pruning.record", "deadhead.errors", "deadhead.progress", "deadhead.drawing", "deadhead.report")
    for path in Path(deadhead.report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("deadhead"):
                assert str(node.module).startswith(allowed), f"{path.name} imports {node.module}"
                assert node.level == 0
