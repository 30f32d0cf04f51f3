"""A report as one Matplotlib figure: what is left of each cost, of each group, and how that came about."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from deadhead.drawing import FAINT, KEPT, REMOVED, canvas, plain
from deadhead.pruning.record import GroupRecord, Report
from deadhead.report.curve import draw_curve
from deadhead.report.facts import costs, ranked, way

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def figure(report: Report) -> Figure:
    """Draw `report`: costs left, units kept and removed by group, the loss against the size where that was foretold or
    measured at three points or more, and the sorted saliencies of each group.

    The figure grows with the number of groups (1 to 60 and more), belongs to no window and no global state, and is
    saved with `figure(report).savefig(path)`.

    >>> from deadhead.pruning.record import GroupRecord, Measures, Report
    >>> before = Measures(4, 100, 400, 400, 600, 1e-3, 32, 0.1, 0.99)
    >>> after = Measures(2, 50, 200, 200, 500, 5e-4, 32, 0.11, 0.98)
    >>> group = GroupRecord("conv1", "channel", 4, [0, 2], [0.0, 2.0, 0.1, 3.0], ["conv2"])
    >>> report = Report("net", "units=0.5", "mrs", "constant", "cross_entropy", "test", 100, 400, before, after,
    ...                 0.105, 1e-7, 1e-4, [group])
    >>> [axes.get_title(loc="left") for axes in figure(report).axes]
    ['What is left of each cost', 'Units kept and removed', 'conv1']
    """
    drawable = [group for group in report.groups if any(map(math.isfinite, group.saliency))]
    columns = _columns(len(drawable))
    parts: list[tuple[float, Callable[[SubFigure], None]]] = [
        (0.5 + 0.32 * len(costs(report.before, report.after)), lambda part: _draw_costs(part.subplots(), report)),
        (0.9 + max(0.2 * len(report.groups), 0.5), lambda part: _draw_units(part.subplots(), report.groups)),
    ]
    if points := way(report):
        parts.append((2.6, lambda part: draw_curve(part, points, "Loss against size", report.forecast)))
    if drawable:
        height = 0.9 + (1.25 if columns > 3 else 1.9) * math.ceil(len(drawable) / columns)
        parts.append((height, lambda part: _draw_saliencies(part, drawable, columns, report.criterion)))
    heights = [height for height, _ in parts]
    with canvas(10, sum(heights) + 0.6) as whole:
        whole.suptitle(
            plain(f"{report.model} {report.headline}", 110), fontsize=11, x=0.01, ha="left", parse_math=False
        )
        rooms = whole.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for room, (_, draw) in zip(rooms, parts, strict=True):
            draw(room)
    return whole


def _columns(groups: int) -> int:
    """Panels in a row: few and wide, or many and small, and never one alone on the last of two."""
    if groups == 4:
        return 2
    return min(max(groups, 1), 3 if groups <= 9 else 6)


def _draw_costs(axes: Axes, report: Report) -> None:
    left = costs(report.before, report.after)
    places = range(len(left))
    highest = max([1.0, *(fraction for _, fraction in left)])
    axes.barh(places, [1.0] * len(left), color="#e8ecee", height=0.62)
    axes.barh(places, [fraction for _, fraction in left], color=KEPT, height=0.62)
    for place, (_, fraction) in zip(places, left, strict=True):
        axes.text(fraction + 0.01 * highest, place, f"{100 * fraction:.3g} %", va="center", ha="left")
    axes.axvline(1.0, color=FAINT, linewidth=0.8)
    axes.set_yticks(places, [name for name, _ in left])
    axes.set_xlim(0, 1.1 * highest)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.tick_params(length=0)
    axes.set_title("What is left of each cost", loc="left", fontweight="bold")


def _draw_units(axes: Axes, groups: list[GroupRecord]) -> None:
    places = range(len(groups))
    kept, removed = [group.kept for group in groups], [len(group.removed) for group in groups]
    axes.barh(places, kept, color=KEPT, height=0.7, label="kept")
    axes.barh(places, removed, left=kept, color=REMOVED, height=0.7, label="removed")
    widest = max([1, *(group.units for group in groups)])
    for place, group in zip(places, groups, strict=True):
        axes.text(group.units + 0.008 * widest, place, f"{group.kept:,} of {group.units:,}", va="center", fontsize=7.5)
    axes.set_yticks(places, [plain(group.name, 40) for group in groups], fontsize=8, parse_math=False)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_xlim(0, 1.1 * widest)
    axes.tick_params(length=0)
    axes.set_title("Units kept and removed", loc="left", fontweight="bold")
    if groups:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0.1)


def _draw_saliencies(part: SubFigure, groups: list[GroupRecord], columns: int, criterion: str) -> None:
    """One panel a group: units by rising saliency, the removed ones coloured, and tinted where they are too small."""
    import numpy as np

    # So many characters fit above a panel, at the size that its title has.
    small = columns > 3
    width = 21 if small else 100 // columns
    grid = part.subplots(math.ceil(len(groups) / columns), columns, squeeze=False)
    for axes, group in zip(grid.flat, groups, strict=False):
        entries = [entry for entry in ranked(group) if math.isfinite(entry.saliency)]
        values = np.array([entry.saliency for entry in entries])
        gone = np.array([entry.removed for entry in entries])
        low, high = min(values.min(), 0.0), max(values.max(), 0.0)
        if low == high:
            high = 1.0
        axes.stairs(np.where(gone, high, low), baseline=low, fill=True, color=REMOVED, alpha=0.16, linewidth=0)
        axes.stairs(np.where(gone, 0.0, values), fill=True, color=KEPT, linewidth=0)
        axes.stairs(np.where(gone, values, 0.0), fill=True, color=REMOVED, linewidth=0)
        axes.set_xlim(0, len(values))
        axes.set_ylim(low, high + 0.04 * (high - low))
        axes.locator_params(axis="both", nbins=3)
        # Matplotlib's own exponent would stand above some panels only, and push them out of line.
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
        axes.tick_params(length=2, labelsize=6.5 if small else 8)
        axes.set_title(plain(group.name, width), loc="left", fontsize=7 if small else 9, parse_math=False)
    for axes in list(grid.flat)[len(groups) :]:
        axes.set_axis_off()
    title = f"Saliency of each unit by {criterion}, in rising order; orange units were removed"
    part.suptitle(plain(title, 110), x=0.01, ha="left", fontsize=9, fontweight="bold", parse_math=False)
