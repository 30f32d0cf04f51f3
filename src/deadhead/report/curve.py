"""The loss against the size, measured and predicted, as a Matplotlib figure or a part of one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from deadhead.drawing import FAINT, KEPT, PREDICTED, REMOVED, canvas, plain
from deadhead.errors import DataError
from deadhead.pruning.record import Point, PredictedPoint
from deadhead.report.facts import by_purpose, is_wide

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def curve_figure(points: Sequence[Point], title: str, predicted_curve: Sequence[PredictedPoint] = ()) -> Figure:
    """Draw the loss against the number of remaining units, and beside it the accuracy where it is known.

    The result is ringed, and refused networks have a line of their own. The loss has a logarithmic axis where it spans
    more than two powers of ten, with a predicted curve more than one.

    Args:
        points: The intact network first, the others by falling numbers of units.
        title: What stands above the figure.
        predicted_curve: The loss that a criterion predicts, a dashed line.

    Returns:
        A figure that belongs to no window: `figure.savefig(path)` writes it.

    Raises:
        DataError: There is no point.

    Example:
        >>> points = [Point(units, 0, 0, 0.4 / units, None, "result" if units == 2 else "accepted")
        ...           for units in (4, 3, 2)]
        >>> drawn = curve_figure(points, "Oracle")
        >>> [axes.get_ylabel() for axes in drawn.axes], drawn.axes[0].get_title(loc="left")
        (['loss'], 'Oracle')
    """
    if not points:
        raise DataError("A curve without a point cannot be drawn; give at least the intact network's.")
    with canvas(10 if _knows_accuracy(points) else 7, 3.1) as whole:
        draw_curve(whole, points, title, predicted_curve)
    return whole


def draw_curve(
    part: Figure | SubFigure, points: Sequence[Point], title: str, predicted_curve: Sequence[PredictedPoint]
) -> None:
    """Fill `part` with what `curve_figure` shows."""
    quantities: list[tuple[str, Callable[[Point], float]]] = [("loss", lambda point: point.loss)]
    if _knows_accuracy(points):
        quantities.append(("accuracy", lambda point: math.nan if point.accuracy is None else 100 * point.accuracy))
    panels = part.subplots(1, len(quantities), squeeze=False)[0]
    fewest = min([point.units for point in points] + [place.units for place in predicted_curve])
    if predicted_curve:
        losses = [each.loss if math.isfinite(each.loss) else math.nan for each in predicted_curve]
        panels[0].plot(
            [each.units for each in predicted_curve], losses, label="predicted by the criterion", color=PREDICTED,
            linewidth=1.5, linestyle="--", zorder=2,
        )  # fmt: skip
    for axes, (name, value) in zip(panels, quantities, strict=True):
        _draw_quantity(axes, points, fewest, value)
        axes.set_ylabel(name)
    if is_wide(points, predicted_curve):
        from matplotlib.ticker import LogLocator, NullFormatter

        panels[0].set_yscale("log")
        low, high = panels[0].get_ylim()
        subs = (1, 2, 5) if high < 1000 * low else (1,)
        panels[0].yaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
        panels[0].yaxis.set_minor_formatter(NullFormatter())
    panels[0].yaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
    for axes in panels[1:]:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.5g} %")
    panels[0].set_title(plain(title, 110), loc="left", fontweight="bold", parse_math=False)
    panels[0].legend(loc="best", frameon=False, fontsize=8)


def _knows_accuracy(points: Sequence[Point]) -> bool:
    return any(point.accuracy is not None for point in points)


def _draw_quantity(axes: Axes, points: Sequence[Point], fewest: int, value: Callable[[Point], float]) -> None:
    curve = by_purpose(points)
    intact = points[0]
    # Markers of several hundred points would merge into a band that hides the line.
    size = 4.5 if len(points) <= 80 else 0.0

    def values(shown: Sequence[Point]) -> list[float]:
        # Matplotlib leaves NaN out of its limits, but not infinities.
        return [found if math.isfinite(found) else math.nan for found in map(value, shown)]

    def plot(shown: Sequence[Point], label: str, **look: object) -> None:
        axes.plot([point.units for point in shown], values(shown), label=label, markersize=size, **look)  # type: ignore[arg-type]

    axes.axhline(values([intact])[0], color=FAINT, linewidth=0.9, linestyle=":", label="intact", zorder=1)
    plot(curve.measured, "measured", color=KEPT, marker="o", linewidth=1.5, zorder=3)
    if curve.refused:
        shown = [*curve.accepted[-1:], *curve.refused]
        joint = list(range(len(curve.accepted[-1:]), len(shown)))
        plot(shown, "tried and refused", color=FAINT, marker="o", linewidth=1.2, linestyle="--", markevery=joint)
    if curve.result is not None:
        label = f"result: {curve.result.units:,} of {intact.units:,} units"
        axes.axvline(curve.result.units, color=REMOVED, linewidth=0.9, alpha=0.6, zorder=1)
        axes.plot(
            [curve.result.units],
            values([curve.result]),
            marker="o",
            markersize=10,
            markerfacecolor="none",
            markeredgecolor=REMOVED,
            markeredgewidth=1.8,
            linestyle="none",
            label=label,
            zorder=4,
        )
    margin = 0.03 * max(intact.units - fewest, 1)
    axes.set_xlim(intact.units + margin, fewest - margin)
    axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    axes.xaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    axes.set_xlabel(f"remaining units, of {intact.units:,}")
    axes.tick_params(length=2)
