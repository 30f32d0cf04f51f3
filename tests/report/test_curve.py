from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from deadhead.drawing import FAINT, KEPT, PREDICTED, REMOVED
from deadhead.errors import DataError
from deadhead.pruning.record import Point, PredictedPoint, Report
from deadhead.report import curve_figure, figure


def line(axes: Axes, label: str) -> Line2D:
    return next(each for each in axes.lines if str(each.get_label()).startswith(label))


def labels(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def drawn_at(line: Line2D) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]  # type: ignore[arg-type]


def test_curve_shows_what_was_accepted_what_was_refused_and_rings_the_result(curve: list[Point]) -> None:
    loss, accuracy = curve_figure(curve, "A way").axes
    assert (loss.get_title(loc="left"), loss.get_ylabel(), accuracy.get_ylabel()) == ("A way", "loss", "accuracy")
    assert loss.get_xlabel() == "remaining units, of 16"
    assert drawn_at(line(loss, "measured")) == [(16, 0.02), (13, 0.021), (10, 0.03)]
    assert drawn_at(line(accuracy, "measured")) == [(16, 99.5), (13, 99), (10, 98)]
    assert drawn_at(line(loss, "result: 10 of 16 units")) == [(10, 0.03)]
    assert drawn_at(line(accuracy, "result: 10 of 16 units")) == [(10, 98)]
    assert list(line(loss, "intact").get_ydata()) == [0.02, 0.02]  # type: ignore[arg-type]
    colors = [line(loss, label).get_color() for label in ("measured", "tried and refused")]
    assert colors == [KEPT, FAINT]
    assert line(loss, "result").get_markeredgecolor() == REMOVED
    assert labels(loss) == ["intact", "measured", "tried and refused", "result: 10 of 16 units"]


def test_refused_points_hang_on_the_result_and_gaps_stay_gaps(curve: list[Point]) -> None:
    loss, accuracy = curve_figure(curve, "A way").axes
    refused = line(loss, "tried and refused")
    assert drawn_at(refused)[:2] == [(10, 0.03), (9, 0.25)]
    assert refused.get_markevery() == [1, 2]
    assert [math.isnan(y) for _, y in drawn_at(refused)] == [False, False, True]
    assert [math.isnan(y) for _, y in drawn_at(line(accuracy, "tried and refused"))] == [False, True, False]


def test_intact_network_is_on_the_left_and_every_point_inside(curve: list[Point]) -> None:
    for axes in curve_figure(curve, "A way").axes:
        left, right = axes.get_xlim()
        assert left > 16 > 8 > right > 7


def test_curve_of_an_oracle_has_losses_alone_and_no_result() -> None:
    points = [Point(units, 0, 0, 0.1 + 0.01 * (20 - units), None) for units in range(20, 2, -1)]
    (loss,) = curve_figure(points, "Oracle").axes
    assert drawn_at(line(loss, "measured")) == [(point.units, point.loss) for point in points]
    assert labels(loss) == ["intact", "measured"]


def test_a_result_that_was_not_measured_is_not_ringed(curve: list[Point]) -> None:
    loss, _ = curve_figure([point for point in curve if point.purpose != "result"], "A way").axes
    assert drawn_at(line(loss, "measured"))[-1] == (13, 0.021)
    assert labels(loss) == ["intact", "measured", "tried and refused"]


def test_what_was_looked_at_beyond_the_result_is_measured_and_not_refused(beside: list[Point]) -> None:
    loss, accuracy = curve_figure(beside, "A way").axes
    assert drawn_at(line(loss, "measured")) == [(16, 0.02), (13, 0.021), (10, 0.03), (7, 0.08)]
    assert drawn_at(line(accuracy, "result")) == [(10, 98)]
    assert labels(loss) == ["intact", "measured", "result: 10 of 16 units"]


def test_a_predicted_curve_is_a_dashed_line_of_its_own_down_to_the_smallest(
    beside: list[Point], predicted_curve: list[PredictedPoint]
) -> None:
    loss, accuracy = curve_figure(beside, "A way", predicted_curve).axes
    predicted = line(loss, "predicted by the criterion")
    assert drawn_at(predicted) == [(16, 0.02), (10, 0.026), (6, 0.05), (2, 0.5)]
    assert (predicted.get_color(), predicted.get_linestyle()) == (PREDICTED, "--")
    assert not any(str(each.get_label()).startswith("predicted") for each in accuracy.lines)
    for axes in (loss, accuracy):
        left, right = axes.get_xlim()
        assert left > 16 > 2 > right


def test_a_predicted_curve_may_be_anything(beside: list[Point], predicted_curve: list[PredictedPoint]) -> None:
    odd = [
        replace(each, loss=loss) for each, loss in zip(predicted_curve, (0.02, -1.0, math.inf, math.nan), strict=True)
    ]
    steep = [replace(each, loss=loss) for each, loss in zip(predicted_curve, (0.02, 0.1, 1.0, 1e4), strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for curve, scale in ((odd, "linear"), (steep, "log")):
            drawn = curve_figure(beside, "A way", curve)
            drawn.savefig(io.BytesIO(), dpi=20)
            assert drawn.axes[0].get_yscale() == scale


def test_losses_that_differ_much_get_a_logarithmic_axis(curve: list[Point]) -> None:
    assert curve_figure(curve, "").axes[0].get_yscale() == "linear"
    wide = curve_figure([*curve, replace(curve[0], units=7, loss=20.0)], "")
    assert [axes.get_yscale() for axes in wide.axes] == ["log", "linear"]


def test_ticks_count_whole_units(curve: list[Point]) -> None:
    axes = curve_figure([replace(point, units=units) for point, units in zip(curve, (5, 4, 3), strict=False)], "").axes[
        0
    ]
    assert all(tick == round(tick) for tick in axes.get_xticks())
    assert all(later - earlier == 1 for earlier, later in pairwise(sorted(axes.get_xticks())))


@pytest.mark.parametrize("count", [1, 2, 500])
def test_curve_of_any_length_draws_without_a_warning(count: int) -> None:
    points = [Point(1000 - gone, 0, 0, 0.01 * 1.02**gone, None) for gone in range(count)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream = io.BytesIO()
        curve_figure(points, "$x^$ \u65e5").savefig(stream, dpi=20)
    assert stream.getvalue().startswith(b"\x89PNG")


def test_a_curve_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="without a point"):
        curve_figure([], "Nothing")


def test_figure_has_the_curve_before_the_saliencies(report_of: Callable[..., Report], curve: list[Point]) -> None:
    def titles(points: list[Point]) -> list[str]:
        return [axes.get_title(loc="left") for axes in figure(report_of(1, curve=points)).axes]

    shared = ["Remaining fraction of each cost", "Units kept and removed"]
    assert titles(curve) == [*shared, "Loss against size", "", "conv0"]
    assert titles(curve[:2]) == [*shared, "conv0"]
    panel = figure(report_of(1, curve=curve)).axes[2]
    assert drawn_at(line(panel, "result")) == [(10, 0.03)]


def test_figure_with_a_curve_draws_without_a_warning_and_without_groups(
    report_of: Callable[..., Report], curve: list[Point]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for groups in (0, 5):
            figure(report_of(groups, curve=curve)).savefig(io.BytesIO(), dpi=20)
