from __future__ import annotations

import io
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from deadhead.pruning.record import GroupRecord, Report
from deadhead.report import figure
from deadhead.report.figures import KEPT, REMOVED
from support.quick import each_of


def bars(axes: object, color: str) -> list[Rectangle]:
    patches = axes.patches  # type: ignore[attr-defined]
    return [p for p in patches if isinstance(p, Rectangle) and p.get_facecolor() == to_rgba(color)]


@pytest.mark.parametrize("groups", each_of([0, 1, 4, 60], [0, 1, 4]))
def test_figure_draws_without_a_warning(report_of: Callable[..., Report], groups: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = figure(report_of(groups))
        stream = io.BytesIO()
        drawn.savefig(stream, dpi=20)
    assert stream.getvalue().startswith(b"\x89PNG")
    panels = [axes for axes in drawn.axes if axes.axison]
    assert len(panels) == 2 + groups


def test_names_are_drawn_as_they_are_or_with_question_marks(hostile: Report) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = figure(hostile)
        drawn.savefig(io.BytesIO(), dpi=20)
    title = drawn.axes[2].get_title(loc="left")
    assert "$x^$" in title
    assert title.endswith("?")


def test_cost_bars_have_the_fractions_left(report_of: Callable[..., Report]) -> None:
    axes = figure(report_of()).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["units", "parameters"]
    left = [10 / 16, 8000 / 20522, 0.4, 32 / 82, 41 / 96, 0.5]
    assert [bar.get_width() for bar in bars(axes, KEPT)] == pytest.approx(left)


def test_unit_bars_stack_kept_and_removed(report_of: Callable[..., Report]) -> None:
    axes = figure(report_of(3)).axes[1]
    assert [bar.get_width() for bar in bars(axes, KEPT)] == [5, 5, 5]
    assert [(bar.get_x(), bar.get_width()) for bar in bars(axes, REMOVED)] == [(5, 3)] * 3


def drawn(axes: Axes, label: str) -> list[tuple[float, float]]:
    line = next(each for each in axes.lines if each.get_label() == label)
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]  # type: ignore[arg-type]


def test_saliencies_are_drawn_in_the_order_of_removal_the_removed_on_the_left(report_of: Callable[..., Report]) -> None:
    axes = figure(report_of(1)).axes[2]
    assert drawn(axes, "removed") == [(1, 0.05), (2, 0.1), (3, 0.2)]
    assert drawn(axes, "kept") == [(4, 0.3), (5, 0.4), (6, 0.7), (7, 0.8), (8, 0.9)]
    colors = {str(line.get_label()): line.get_color() for line in axes.lines}
    assert (colors["removed"], colors["kept"]) == (REMOVED, KEPT)
    (shaded,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert (shaded.get_x(), shaded.get_x() + shaded.get_width()) == (0, 3.5)


def test_the_order_of_removal_is_that_of_the_record_where_it_knows_it(report_of: Callable[..., Report]) -> None:
    report = report_of(1)
    order = [5, 1, 2, 0, 4, 3, 6, 7]
    report.groups[0] = replace(report.groups[0], order=order)
    axes, saliency = figure(report).axes[2], report.groups[0].saliency
    found = [*drawn(axes, "removed"), *drawn(axes, "kept")]
    assert found == [(place, saliency[unit]) for place, unit in enumerate(order, 1)]


@pytest.mark.parametrize(
    ("saliency", "scale"),
    [
        ([0.1, 0.2, 0.9], "linear"),
        ([0.0, 0.0, 0.0], "linear"),
        ([float("nan"), 0.2, float("inf")], "linear"),
        ([1e-6, 0.2, 0.9], "log"),
        ([0.0, 1e-6, 0.9], "symlog"),
        ([-1e-6, 0.2, 0.9], "symlog"),
        ([0.0, -2e-9, -1.0], "symlog"),
    ],
)
def test_saliencies_of_several_powers_of_ten_get_a_logarithmic_axis(
    report_of: Callable[..., Report], saliency: list[float], scale: str
) -> None:
    group = GroupRecord("g", "unit", 3, [0], saliency, [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = figure(report_of(groups=[group]))
        whole.savefig(io.BytesIO(), dpi=20)
    assert whole.axes[2].get_yscale() == scale


def test_group_names_are_told_apart_when_shortened(report_of: Callable[..., Report]) -> None:
    report = report_of(2)
    prefix = "transformer.encoder.layers.feed_forward.intermediate.dense.projection."
    for number, group in enumerate(report.groups):
        object.__setattr__(group, "name", f"{prefix}{number}")
    labels = [label.get_text() for label in figure(report).axes[1].get_yticklabels()]
    assert all(len(label) <= 40 and re.search("…", label) for label in labels)
    assert len(set(labels)) == 2


def test_figure_leaves_pyplot_and_its_settings_alone(report_of: Callable[..., Report]) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    figure(report_of())
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []
