"""A report as one Matplotlib figure: the remaining costs and units, the curve, and the saliencies of each group."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

from deadhead.drawing import FAINT, KEPT, REMOVED, canvas, plain
from deadhead.pruning.record import GroupRecord, Report
from deadhead.report.curve import draw_curve
from deadhead.report.facts import RemovalOrder, again, costs, in_order, quantity_of, shown_curve, spread_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.ticker import Locator


def figure(report: Report) -> Figure:
    """Draw a report: remaining costs, units kept and removed by group, the loss against the size where that was
    predicted or measured at three points or more, and the saliencies of each group in the order of removal.

    Args:
        report: What a prune did; 1 to 60 groups and more, with which the figure grows.

    Returns:
        A figure that belongs to no window and no global state: `figure(report).savefig(path)` writes it.

    Example:
        >>> from deadhead.pruning.record import GroupRecord, Measures, Report
        >>> before = Measures(4, 100, 400, 400, 600, 1e-3, 32, 0.1, 0.99)
        >>> after = Measures(2, 50, 200, 200, 500, 5e-4, 32, 0.11, 0.98)
        >>> group = GroupRecord("conv1", "channel", 4, [0, 2], [0.0, 2.0, 0.1, 3.0], ["conv2"])
        >>> report = Report("net", "units=0.5", "mrs", "constant", "cross_entropy", "test", 100, 400, before, after,
        ...                 0.105, 1e-7, 1e-4, [group])
        >>> [axes.get_title(loc="left") for axes in figure(report).axes]
        ['Remaining fraction of each cost', 'Units kept and removed', 'conv1']
    """
    drawable = [group for group in report.groups if any(map(math.isfinite, group.saliency))]
    columns = _columns(len(drawable))
    parts: list[tuple[float, Callable[[SubFigure], None]]] = [
        (0.5 + 0.32 * len(costs(report.before, report.after)), lambda part: _draw_costs(part.subplots(), report)),
        (1.05 + max(0.2 * len(report.groups), 0.5), lambda part: _draw_units(part.subplots(), report.groups)),
    ]
    if points := shown_curve(report):
        parts.append((2.6, lambda part: draw_curve(part, points, "Loss against size", report.predicted_curve)))
    if drawable:
        height = 1.2 + (1.25 if columns > 3 else 1.9) * math.ceil(len(drawable) / columns)
        parts.append((height, lambda part: _draw_saliencies(part, drawable, columns, report)))
    heights = [height for height, _ in parts]
    with canvas(10, sum(heights) + 0.6) as whole:
        whole.suptitle(
            plain(f"{report.model} {report.headline}", 110), fontsize=11, x=0.01, ha="left", parse_math=False
        )
        areas = whole.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for area, (_, draw) in zip(areas, parts, strict=True):
            draw(area)
    return whole


def _columns(groups: int) -> int:
    """Panels in a row: few and wide, or many and small, and never one alone on the last of two."""
    if groups == 4:
        return 2
    return min(max(groups, 1), 3 if groups <= 9 else 6)


def _draw_costs(axes: Axes, report: Report) -> None:
    remaining = costs(report.before, report.after)
    places = range(len(remaining))
    highest = max([1.0, *(fraction for _, fraction in remaining)])
    axes.barh(places, [1.0] * len(remaining), color="#e8ecee", height=0.62)
    axes.barh(places, [fraction for _, fraction in remaining], color=KEPT, height=0.62)
    for place, (_, fraction) in zip(places, remaining, strict=True):
        axes.text(fraction + 0.01 * highest, place, f"{100 * fraction:.3g} %", va="center", ha="left")
    axes.axvline(1.0, color=FAINT, linewidth=0.8)
    axes.set_yticks(places, [name for name, _ in remaining])
    axes.set_xlim(0, 1.1 * highest)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.tick_params(length=0)
    axes.set_title("Remaining fraction of each cost", loc="left", fontweight="bold")


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
    axes.set_xlabel("units")
    axes.set_title("Units kept and removed", loc="left", fontweight="bold")
    if groups:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0.1)


def _draw_saliencies(part: SubFigure, groups: list[GroupRecord], columns: int, report: Report) -> None:
    """One panel for each group: its units in the order of removal, the removed ones on the left."""
    # So many characters fit above a panel, at the size that its title has.
    small = columns > 3
    width = 21 if small else 100 // columns
    grid = part.subplots(math.ceil(len(groups) / columns), columns, squeeze=False)
    for axes, group in zip(grid.flat, groups, strict=False):
        _draw_order(axes, in_order(group), small)
        axes.tick_params(length=2, labelsize=6.5 if small else 8, which="both")
        axes.set_title(plain(group.name, width), loc="left", fontsize=7 if small else 9, parse_math=False)
    for axes in list(grid.flat)[len(groups) :]:
        axes.set_axis_off()
    title = f"Saliency of each unit by {report.criterion}, in the order of removal"
    part.suptitle(plain(title, 110), x=0.01, ha="left", fontsize=9, fontweight="bold", parse_math=False)
    note = "\n".join(["order of removal (1 is removed first)", *textwrap.wrap(again(report), 110)])
    part.supxlabel(note, fontsize=8)
    part.supylabel(quantity_of(report), fontsize=8)
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    part.legend(
        handles.values(), handles, loc="upper right", ncols=len(handles), frameon=False, fontsize=8, borderaxespad=0.1
    )


def _draw_order(axes: Axes, entries: list[RemovalOrder], small: bool) -> None:
    """Saliency against the place in the order of removal; a background and a marker of their own for removed units."""
    count = sum(entry.removed for entry in entries)
    size = (5.0 if len(entries) <= 40 else 3.5 if len(entries) <= 300 else 2.0) * (0.6 if small else 1.0)
    for removed, color, marker in ((True, REMOVED, "s"), (False, KEPT, "o")):
        places = [
            place
            for place, entry in enumerate(entries, 1)
            if entry.removed == removed and math.isfinite(entry.saliency)
        ]
        if places:
            values = [entries[place - 1].saliency for place in places]
            label = "removed" if removed else "kept"
            axes.plot(places, values, marker, color=color, markersize=size, markeredgewidth=0, label=label, zorder=3)
    if count:
        axes.axvspan(0, count + 0.5, color=REMOVED, alpha=0.13, linewidth=0, zorder=0)
        axes.axvline(count + 0.5, color=REMOVED, linewidth=0.9, zorder=1)
    axes.set_xlim(0, len(entries) + 1)
    axes.xaxis.set_major_locator(_whole_numbers())
    _scale(axes, [entry.saliency for entry in entries if math.isfinite(entry.saliency)])


def _scale(axes: Axes, values: list[float]) -> None:
    """A logarithmic axis where values span more than two powers of ten; zero and negative values are then shown on a
    linear part around 0."""
    wide = spread_of(values)
    if wide is None:
        low, high = min([0.0, *values]), max([0.0, *values])
        if low == high:
            high = 1.0
        axes.set_ylim(low - 0.04 * (high - low), high + 0.06 * (high - low))
        axes.locator_params(axis="y", nbins=3)
        # Matplotlib's own exponent would stand above some panels only, and push them out of line.
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
        return
    from matplotlib.ticker import LogLocator, NullFormatter, SymmetricalLogLocator

    smallest, largest = wide
    if min(values) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=4))
    else:
        linear = max(smallest, 1e-4 * largest)
        axes.set_yscale("symlog", linthresh=linear)
        locator = SymmetricalLogLocator(base=10, linthresh=linear)
        locator.set_params(numticks=4)
        axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}" if value else "0")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _whole_numbers() -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4, integer=True)
