from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest
from rich.console import Console

from deadhead.pruning.record import Point, PredictedPoint, Report
from deadhead.report import print_report, progress_bars


def printed(report: Report, width: int = 120) -> str:
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=width))
    return stream.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


def test_headline_is_the_first_line(report_of: Callable[..., Report]) -> None:
    report = report_of()
    assert printed(report).splitlines()[0] == f"net {report.headline}"


def test_tables_say_what_was_measured_and_what_went(report_of: Callable[..., Report]) -> None:
    text = words(printed(report_of()))
    assert "parameters 20,522 8,000 39 %" in text
    assert "accuracy 99.72 % 99.17 %" in text
    assert "conv1 channel 5 of 8 3 0.2 conv2" in text
    assert "0.0277 predicted, 0.0291 measured on 360 test samples" in text
    assert "Passed: the pruned network and its gated original differ by at most 2.5e-07" in text
    assert "not pruned fc2, head: an output of the model" in text
    assert "not pruned odd: unknown op" in text
    assert "note 230 rows were held out" in text


def test_what_was_tried_is_a_line_where_there_was_a_way(report_of: Callable[..., Report], curve: list[Point]) -> None:
    assert "measured 4 smaller networks were measured" in words(printed(report_of(curve=curve)))
    assert "smaller networks" not in words(printed(report_of(curve=curve[:2])))


def test_the_curve_is_a_table_with_what_was_predicted(
    report_of: Callable[..., Report], beside: list[Point], predicted_curve: list[PredictedPoint]
) -> None:
    text = words(printed(report_of(curve=beside, predicted_curve=predicted_curve)))
    assert "curve units remaining loss predicted accuracy" in text
    assert "intact 16 100 % 0.02 0.02 99.50 %" in text
    assert "result 10 62.5 % 0.03 0.026 98.00 %" in text
    assert "for comparison 7 43.8 % 0.08 0.044 93.00 %" in text
    assert "predicted Predicted by mrs: the intact loss plus" in text
    assert "predicted accuracy" not in words(printed(report_of(curve=beside)))


def test_of_a_curve_with_hundreds_of_points_some_are_printed(report_of: Callable[..., Report]) -> None:
    points = [Point(900 - gone, 0, 0, 0.1, None, "result" if gone == 500 else "accepted") for gone in range(501)]
    points += [Point(399 - gone, 0, 0, 0.9, None, "refused") for gone in range(3)]
    text = printed(report_of(curve=points))
    rows = [line for line in text.splitlines() if line.rstrip().endswith(("0.1", "0.9"))]
    assert len(rows) == 12
    assert [row.split()[:2] for row in rows if not row.split()[0].isdigit()] == [
        ["intact", "900"], ["result", "400"], ["refused", "399"],
    ]  # fmt: skip


def test_failed_verification_is_printed_as_failed(report_of: Callable[..., Report]) -> None:
    text = printed(report_of(difference=0.5))
    assert "FAILED: the pruned network" in text
    assert "Passed" not in text


def test_square_brackets_in_names_are_no_markup(hostile: Report) -> None:
    assert printed(hostile, width=400).count("[bold]$x^$") >= 8


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(report_of: Callable[..., Report], width: int) -> None:
    assert max(map(len, printed(report_of(60), width).splitlines())) <= width


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_show_each_step_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bars() as progress:
        for step, total in (("score [conv1]", 3), ("unknown length", 0), ("score [conv1]", 5)):
            for done in range(total + 1):
                progress(step, done, total)
        progress("started in the middle", 2, 4)
    last = terminal.getvalue()
    assert "score [conv1]" in last
    assert "5/5" in last
    assert "0/?" in last
    assert "2/4" in last
    assert capsys.readouterr().out == ""


def test_bars_are_silent_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    with progress_bars() as progress:
        progress("score", 1, 2)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_an_error_inside_the_bars_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())

    def work() -> None:
        with progress_bars() as progress:
            progress("score", 1, 2)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        work()
