from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import deadhead.report
from deadhead.record import Point, Report
from deadhead.report.facts import costs, divided, is_wide, losses, reasons, shorten, tried, way


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


def test_a_curve_is_divided_at_the_result(curve: list[Point]) -> None:
    found = divided(curve, 10)
    assert (units(found.taken), found.result, units(found.refused)) == ([16, 13, 10], curve[2], [9, 8])
    between = divided(curve, 11)
    assert (units(between.taken), between.result, units(between.refused)) == ([16, 13], None, [10, 9, 8])
    unknown = divided(curve, None)
    assert (units(unknown.taken), unknown.result, unknown.refused) == ([16, 13, 10, 9, 8], None, [])


def test_two_points_are_no_curve(report_of: Callable[..., Report], curve: list[Point]) -> None:
    assert [len(way(report_of(curve=curve[:count]))) for count in range(5)] == [0, 0, 0, 3, 4]


def test_losses_are_wide_beyond_two_powers_of_ten(curve: list[Point]) -> None:
    def wide(*losses: float) -> bool:
        return is_wide([replace(curve[0], loss=loss) for loss in losses])

    assert wide(0.01, 1.01, float("nan"))
    assert not wide(0.01, 0.99, float("inf"))
    assert not wide(-0.01, 5.0)
    assert not wide(0.0, 5.0)
    assert not wide(float("nan"))


def test_what_was_tried_is_told_with_what_was_refused_next(
    report_of: Callable[..., Report], curve: list[Point]
) -> None:
    assert tried(report_of(curve=curve)) == (
        "4 smaller networks were measured on held-out calibration rows. "
        "Kept: 10 of 16 units, loss 0.03, accuracy 98.00 %. Refused: 9 of 16 units, loss 0.25."
    )
    assert tried(report_of(curve=curve[:3])).endswith("accuracy 98.00 %.")
    assert tried(report_of(curve=curve[:2])) == ""


def test_shortened_names_have_the_width_asked_for() -> None:
    assert shorten("abcdefghij", 10) == "abcdefghij"
    assert [len(shorten("a" * 50, width)) for width in range(1, 30)] == list(range(1, 30))


def test_report_imports_nothing_above_or_beside_it() -> None:
    allowed = ("deadhead.record", "deadhead.errors", "deadhead.progress", "deadhead.report")
    for path in Path(deadhead.report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("deadhead"):
                assert str(node.module).startswith(allowed), f"{path.name} imports {node.module}"
                assert node.level == 0
