from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import deadhead.report
from deadhead.record import Report
from deadhead.report.facts import costs, losses, reasons, shorten


def test_costs_leave_out_what_was_nothing(report_of: Callable[..., Report]) -> None:
    report = report_of()
    names = [name for name, _ in costs(replace(report.before, latency=0.0), report.after)]
    assert names == ["units", "parameters", "multiply-adds", "size on disk"]


def test_losses_name_what_was_predicted_only_where_it_was(report_of: Callable[..., Report]) -> None:
    assert [value for _, value in losses(report_of())] == [0.0184, 0.0277, 0.0291]
    assert [value for _, value in losses(report_of(predicted_loss=None))] == [0.0184, 0.0291]


def test_reasons_gather_names(report_of: Callable[..., Report]) -> None:
    assert reasons(report_of()) == [("an output of the model", ["fc2", "head"]), ("unknown op", ["odd"])]


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
