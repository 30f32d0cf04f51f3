"""The figure of a watch: units through time, and the histograms of their values before and after the nonlinearity."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deadhead.drawing import FAINT, INK, canvas, plain
from deadhead.errors import DataError
from deadhead.training.watching.history import HISTOGRAMS, History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Colours that people with any colour vision tell apart (Okabe and Ito, 2008)."""
STYLES = ("-", "--", ":")
"""Line styles, for units beyond the colours."""
TITLES = {
    "mrp": "Mean replacement\npenalty (MRP)",
    "mrs": "Mean replacement\nsaliency (MRS)",
    "output_gradient": "Gradient at the output\n(L1 norm)",
    "incoming": "Incoming weights\n(L1 norm)",
    "outgoing": "Outgoing weights\n(L1 norm)",
    "incoming_gradient": "Incoming weights'\ngradient (L1 norm)",
    "loss": "Loss on the probe\n(mean)",
}
GROUPS_DRAWN, UNITS_DRAWN, UNITS_WITH_HISTOGRAMS = 3, 6, 3
"""How many groups, units of each, and units with histograms are drawn where they were not chosen."""


def figure(
    history: History,
    groups: Sequence[str] | str | None = None,
    units: Mapping[str, Sequence[int]] | None = None,
) -> Figure:
    """The units of some groups through time.

    One row for each group, a line for each unit: penalty, saliency, L1 norms of the gradient at the output, of incoming
    and outgoing weights and of the incoming weights' gradient, and the loss. Below it a row of histograms through time:
    raw outputs, before the nonlinearity, and what consumers read, after it. A dead unit is named so in the legend.

    Args:
        history: what was measured.
        groups: the groups' names; by default the keys of `units`, else those with dead units first, at most 3.
        units: {group: units}; by default up to 3 dead ones and those with the largest saliency, at most 6; histograms
            are drawn of the first 3.

    Raises:
        DataError: nothing was measured, or there is no such group or unit.

    Source:
        Evci (2018), figures 3.1, 3.2 and 3.6.
    """
    named = [groups] if isinstance(groups, str) else list(groups or units or _first_groups(history))
    if not named:
        raise DataError(
            "Nothing was measured yet, so that there is nothing to draw: the loss on the probe is not finite."
        )
    chosen = {name: _chosen(history, name, units) for name in named}
    heights = [height for _ in named for height in (1.0, 0.85)]
    with canvas(17.0, 2.15 * sum(heights) + 0.5) as whole:
        rows = whole.subplots(len(heights), len(TITLES), squeeze=False, height_ratios=heights)
        for place, name in enumerate(named):
            above, below = list(rows[2 * place]), list(rows[2 * place + 1])
            _draw_lines(above, history, name, chosen[name])
            _draw_histograms(whole, below, history, name, chosen[name][:UNITS_WITH_HISTOGRAMS])
            lines = above[0].get_legend_handles_labels()
            below[-1].legend(*lines, title=f"units of {plain(name, 20)}", loc="center right", frameon=False, fontsize=8)
    return whole


def png(drawn: Figure) -> bytes:
    """A figure as a PNG file."""
    held = io.BytesIO()
    drawn.savefig(held, format="png", dpi=120)
    return held.getvalue()


def _first_groups(history: History) -> list[str]:
    last = next((each for each in reversed(history.records) if each.groups), None)
    names = [] if last is None else list(last.groups)
    first = sorted(names, key=lambda name: not (last and last.groups[name].dead))[:GROUPS_DRAWN]
    return [name for name in names if name in first]


def _chosen(history: History, name: str, units: Mapping[str, Sequence[int]] | None) -> list[int]:
    """The units of a group that are drawn, in their order but for dead ones, which come first."""
    size = history.series(name, "mrs").shape[1]
    if units is not None and name in units:
        wrong = [unit for unit in units[name] if not 0 <= unit < size]
        if wrong:
            raise DataError(f"The units of {name} are 0 to {size - 1}, so that there is no unit {wrong[0]} to draw.")
        return list(units[name])
    last = next(each.groups[name] for each in reversed(history.records) if name in each.groups)
    recorded = [unit for unit in range(size) if _is_counted(history, name, unit)] or list(range(size))
    dead = [unit for unit in last.dead if unit in recorded][: UNITS_DRAWN // 2]
    order = torch.argsort(last.values["mrs"], descending=True).tolist()
    best = [unit for unit in order if unit in recorded and unit not in dead][: UNITS_DRAWN - len(dead)]
    return [*dead[:1], *best[:1], *dead[1:], *best[1:]] if dead else best


def _is_counted(history: History, name: str, unit: int) -> bool:
    last = next(each.groups[name] for each in reversed(history.records) if name in each.groups)
    histogram = last.histograms.get("output")
    return histogram is None or bool(histogram.counts[unit].any())


def _draw_lines(row: list[Any], history: History, name: str, units: Sequence[int]) -> None:
    steps = torch.tensor(history.steps)
    last = next(each.groups[name] for each in reversed(history.records) if name in each.groups)
    for axes, (series, title) in zip(row, TITLES.items(), strict=True):
        _prepare(axes, title)
        if series == "loss":
            axes.plot(steps, history.loss, color=INK, linewidth=1.2)
            continue
        values = history.series(name, series)
        for place, unit in enumerate(units):
            there = torch.isfinite(values[:, unit])
            label = f"{unit} (dead)" if unit in last.dead else str(unit)
            axes.plot(
                steps[there], values[there, unit], color=COLOURS[place % len(COLOURS)],
                linestyle=STYLES[place // len(COLOURS) % len(STYLES)], linewidth=1.2, label=label,
                marker="." if int(there.sum()) < 30 else None, markersize=4,
            )  # fmt: skip
        if not torch.isfinite(values[:, list(units)]).any():
            axes.text(0.5, 0.5, "not measured", ha="center", va="center", color=FAINT, transform=axes.transAxes)
        axes.set_ylim(bottom=0)
    row[0].set_ylabel(plain(name, 24), fontweight="bold")


def _prepare(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("optimizer steps", color=FAINT, fontsize=8)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 4))
    axes.tick_params(labelsize=7)
    axes.yaxis.get_offset_text().set_fontsize(7)
    axes.margins(x=0.02)


def _draw_histograms(whole: Figure, row: list[Any], history: History, name: str, units: Sequence[int]) -> None:
    """For each unit two panels through time, darker where more of the values lie."""
    from matplotlib.colors import PowerNorm

    shade = None
    used = 0
    for unit, colour in zip(units, COLOURS, strict=False):
        for kind, title in HISTOGRAMS.items():
            steps, edges, counts = history.histograms(name, kind)
            shares = counts[:, unit].double() / counts[:, unit].max().clamp(min=1)
            axes = row[used]
            used += 1
            _prepare(axes, f"Unit {unit}: {title}")
            axes.title.set_color(colour)
            axes.set_ylabel("value", fontsize=8)
            shade = axes.pcolormesh(
                _between(steps), edges, shares.T, cmap="Greys", norm=PowerNorm(0.5, vmin=0, vmax=1), rasterized=True
            )
            axes.set_ylim(*_with_values(edges, counts[:, list(units)]))
    for axes in row[used:]:
        axes.set_axis_off()
    if shade is not None:
        bar = whole.colorbar(shade, ax=row[-1], location="left", aspect=14, fraction=0.12, ticks=[0, 0.1, 0.5, 1])
        bar.ax.tick_params(labelsize=7)
        bar.set_label("values, of the panel's\nfullest bin", fontsize=8)


def _between(steps: Sequence[int]) -> Tensor:
    """The edges of columns around the steps."""
    places = torch.tensor(steps, dtype=torch.float64)
    if len(places) == 1:
        return torch.stack([places[0] - 0.5, places[0] + 0.5])
    middle = (places[1:] + places[:-1]) / 2
    return torch.cat([places[:1], middle, places[-1:]])


def _with_values(edges: Tensor, counts: Tensor) -> tuple[float, float]:
    """From the first to the last bin in which anything was counted."""
    there = counts.flatten(0, -2).sum(0).nonzero()[:, 0]
    return (float(edges[there[0]]), float(edges[there[-1] + 1])) if len(there) else (float(edges[0]), float(edges[-1]))
