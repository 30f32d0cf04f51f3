from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import deadhead.report
from deadhead.drawing import shorten
from deadhead.pruning.record import GroupRecord, Point, PredictedPoint, Report
from deadhead.report.facts import (
    again,
    by_purpose,
    costs,
    curve_summary,
    in_order,
    is_wide,
    losses,
    predicted_at,
    prediction_method,
    reasons,
    shown_curve,
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


def order_of(removed: list[int], saliency: list[float], order: list[int]) -> list[int]:
    return [
        entry.unit for entry in in_order(GroupRecord("g", "unit", len(saliency), removed, saliency, [], False, order))
    ]


def test_removed_units_come_first_in_their_order_and_kept_ones_as_they_would_follow() -> None:
    saliency = [0.5, 0.9, 0.1, 0.2, 0.3]
    assert order_of([1, 2], saliency, [2, 1, 3, 4, 0]) == [2, 1, 3, 4, 0]
    assert order_of([1, 2], saliency, [2, 1]) == [2, 1, 3, 4, 0]
    assert order_of([1, 2], saliency, [2, 1, 0]) == [2, 1, 0, 3, 4]
    assert order_of([1, 2], saliency, []) == [2, 1, 3, 4, 0]
    assert order_of([1, 2], [float("nan"), float("inf"), 3.0, 2.0, -1.0], []) == [2, 1, 4, 3, 0]


def test_a_removed_unit_that_scores_higher_than_a_kept_one_is_explained(report_of: Callable[..., Report]) -> None:
    mixed = GroupRecord("g", "unit", 3, [1], [0.1, 0.9, 0.5], [], order=[1])
    plain = GroupRecord("g", "unit", 3, [0], [0.1, 0.9, 0.5], [], order=[0])
    assert "chosen again" in again(report_of(groups=[plain, mixed], criterion="obs"))
    assert again(report_of(groups=[plain], criterion="obs")) == again(report_of(groups=[mixed])) == ""


def units(points: list[Point]) -> list[int]:
    return [point.units for point in points]


def test_a_curve_is_divided_by_what_points_were_measured_for(curve: list[Point], beside: list[Point]) -> None:
    found = by_purpose(curve)
    assert (units(found.accepted), found.result, units(found.refused)) == ([16, 13, 10], curve[2], [9, 8])
    looked = by_purpose(beside)
    assert (units(looked.accepted), units(looked.comparison), looked.refused) == ([16, 10], [13, 7], [])
    assert units(looked.measured) == [16, 13, 10, 7]
    unknown = by_purpose([point for point in curve if point.purpose == "accepted"])
    assert (units(unknown.accepted), unknown.result, unknown.refused) == ([16, 13], None, [])


def test_what_is_predicted_is_interpolated_by_units(predicted_curve: list[PredictedPoint]) -> None:
    assert [predicted_at(predicted_curve, units) for units in (16, 10, 2)] == [0.02, 0.026, 0.5]
    assert predicted_at(predicted_curve, 13) == pytest.approx(0.023)
    assert [predicted_at(predicted_curve, units) for units in (17, 1)] == [None, None]
    assert predicted_at([], 16) is None
    assert predicted_at(predicted_curve[:1], 16) == 0.02


def test_two_points_are_no_curve(report_of: Callable[..., Report], curve: list[Point]) -> None:
    assert [len(shown_curve(report_of(curve=curve[:count]))) for count in range(5)] == [0, 0, 0, 3, 4]


def test_two_points_with_a_predicted_curve_between_them_are_a_curve(
    report_of: Callable[..., Report], curve: list[Point], predicted_curve: list[PredictedPoint]
) -> None:
    assert len(shown_curve(report_of(curve=[curve[0], curve[2]], predicted_curve=predicted_curve))) == 2


def test_losses_are_wide_beyond_two_powers_of_ten(curve: list[Point]) -> None:
    def wide(*losses: float) -> bool:
        return is_wide([replace(curve[0], loss=loss) for loss in losses])

    assert wide(0.01, 1.01, float("nan"))
    assert not wide(0.01, 0.99, float("inf"))
    assert not wide(-0.01, 5.0)
    assert not wide(0.0, 5.0)
    assert not wide(float("nan"))


def test_losses_with_a_predicted_curve_are_wide_beyond_one_power_of_ten(
    curve: list[Point], predicted_curve: list[PredictedPoint]
) -> None:
    assert is_wide(curve[:1], predicted_curve)
    assert not is_wide(curve[:1], predicted_curve[:3])
    assert not is_wide(curve[:1], [replace(predicted_curve[3], loss=-1.0), *predicted_curve])


def test_what_was_measured_is_summarised_with_what_was_refused_next(
    report_of: Callable[..., Report], curve: list[Point]
) -> None:
    assert curve_summary(report_of(curve=curve)) == (
        "4 smaller networks were measured on held-out calibration samples. "
        "Result: 10 of 16 units, loss 0.03, accuracy 98.00 %. Refused: 9 of 16 units, loss 0.25."
    )
    assert curve_summary(report_of(curve=curve[:3])).endswith("accuracy 98.00 %.")
    assert curve_summary(report_of(curve=curve[:2])) == ""


def test_what_lies_beyond_is_summarised_beside_what_was_predicted(
    report_of: Callable[..., Report], beside: list[Point], predicted_curve: list[PredictedPoint]
) -> None:
    assert curve_summary(report_of(curve=beside, predicted_curve=predicted_curve)) == (
        "3 smaller networks were measured on held-out calibration samples. "
        "Result: 10 of 16 units, loss 0.03 (mrs predicted 0.026), accuracy 98.00 %. "
        "Smaller, for comparison: 7 of 16 units, loss 0.08 (mrs predicted 0.044), accuracy 93.00 %."
    )


@pytest.mark.parametrize(
    ("criterion", "order"), [("obs", "to second order"), ("taylor2", "to second order"), ("taylor1", "to first order")]
)
def test_a_predicted_curve_says_what_it_is(
    report_of: Callable[..., Report],
    beside: list[Point],
    predicted_curve: list[PredictedPoint],
    criterion: str,
    order: str,
) -> None:
    text = prediction_method(report_of(curve=beside, predicted_curve=predicted_curve, criterion=criterion))
    assert text.startswith(f"Predicted by {criterion}: the intact loss plus each removed unit's score")
    assert ("at its turn in its group" in text) == (criterion == "obs")
    assert (
        f"computed on calibration samples, {order}; what removals in one group change for another is ignored." in text
    )
    assert prediction_method(report_of(curve=beside)) == ""


def test_shortened_names_have_the_width_asked_for() -> None:
    assert shorten("abcdefghij", 10) == "abcdefghij"
    assert [len(shorten("a" * 50, width)) for width in range(1, 30)] == list(range(1, 30))


def test_report_imports_nothing_above_or_beside_it() -> None:
    allowed = ("deadhead.pruning.record", "deadhead.errors", "deadhead.progress", "deadhead.drawing", "deadhead.report")
    allowed += ("deadhead.files", "deadhead.text")
    for path in Path(deadhead.report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("deadhead"):
                assert str(node.module).startswith(allowed), f"{path.name} imports {node.module}"
                assert node.level == 0
