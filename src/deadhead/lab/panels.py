"""Panels that figures of removal curves share: a line for each way to choose, its mean and range over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.judges import Results

STYLES: dict[str, dict[str, Any]] = {
    "brute force": {"color": KEPT},
    "linear": {"color": REMOVED, "linestyle": (0, (5, 1.5))},
    "quadratic": {"color": PREDICTED, "linestyle": (0, (2, 1))},
    "quadratic, mean threshold": {"color": "#b79ad8", "linestyle": (0, (4, 1, 1, 1))},
    "quadratic, median threshold": {"color": FAINT, "linestyle": (0, (4, 1, 1, 1))},
    "exact quadratic": {"color": "#d1495b", "linestyle": (0, (1, 1))},
    "race": {"color": FAINT, "linestyle": (0, (6, 2))},
    "means": {"color": INK, "linestyle": (0, (3, 1, 1, 1))},
    "least squares": {"color": "#3b6fb6", "linestyle": (0, (5, 1, 1, 1))},
    "surgeon": {"color": "#c9a227"},
}
"""Colour and dashes of each way, the same in every figure."""

NAMES = {
    "means": "brute force, mean replacement",
    "least squares": "brute force, then least squares",
    "surgeon": "optimal brain surgeon, refitted",
    "race": "brute force by a race",
    "quadratic": "quadratic (appendix A)",
    "exact quadratic": "quadratic, exact second derivatives",
}
"""What a legend calls them, where that is not their name."""

QUANTITIES = {
    "error": "squared error, mean of ½ Σ (o - t)²",
    "held_error": "held-out squared error",
    "accuracy": "accuracy (%)",
    "held_accuracy": "held-out accuracy (%)",
}


def lines(axes: Any, results: Results, path: Sequence[str], ways: Sequence[str], quantity: str) -> None:
    """Draw a quantity against the share of removed units, a line and a band for each way.

    Args:
        axes: what is drawn on.
        results: over seeds; `results[i][path[0]][path[1]]...[way]` is what `Curve.plain` gives.
        path: keys that lead to the ways.
        ways: which are drawn; one that the results lack is left out.
        quantity: of `QUANTITIES`; errors are drawn to a logarithmic scale, accuracies in percent.
    """
    scale = 100.0 if "accuracy" in quantity else 1.0
    for way in ways:
        found = [each[way] for each in (_at(result, path) for result in results) if way in each]
        if not found or not found[0][quantity]:
            continue
        count = min(len(each[quantity]) for each in found)
        values = scale * np.array([each[quantity][:count] for each in found])
        share = 100 * np.array(found[0]["removed"][:count]) / found[0]["total"]
        axes.plot(share, values.mean(0), label=NAMES.get(way, way), linewidth=1.4, **STYLES[way])
        axes.fill_between(share, values.min(0), values.max(0), color=STYLES[way]["color"], alpha=0.13, linewidth=0)
    if "error" in quantity:
        axes.set_yscale("log")
    axes.set_xlim(0, 100)
    axes.set_xlabel("units removed (%)")
    axes.set_ylabel(QUANTITIES[quantity])


def legend_below(whole: Any, axes: Any, columns: int = 3) -> None:
    """One legend for all panels, below them."""
    handles, labels = axes.get_legend_handles_labels()
    whole.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=7)


def mark(axes: Any, at: float, text: str) -> None:
    """A vertical line at the paper's share, in percent of units, with a word on it."""
    axes.axvline(at, color=INK, linewidth=0.8, linestyle=":")
    side = -1 if at > 60 else 1
    axes.annotate(
        text, (at, 1), xycoords=("data", "axes fraction"), xytext=(2 * side, -2), textcoords="offset points",
        fontsize=7, va="top", ha="right" if side < 0 else "left", color=INK,
    )  # fmt: skip


def dots(axes: Any, groups: Sequence[str], values: dict[str, list[list[float]]], label: str) -> None:
    """Dots for each group and way: every seed faint, the mean large.

    Args:
        axes: what is drawn on.
        groups: names along the vertical axis.
        values: for each way, the seeds' values of each group.
        label: of the horizontal axis.
    """
    step = 0.7 / max(1, len(values))
    for row, (way, columns) in enumerate(values.items()):
        color = STYLES[way]["color"]
        for place, seeds in enumerate(columns):
            at = place - 0.35 + step * (row + 0.5)
            axes.scatter(seeds, [at] * len(seeds), color=color, s=8, alpha=0.35, linewidths=0)
            name = NAMES.get(way, way) if place == 0 else None
            axes.scatter(
                [np.mean(seeds)] if seeds else [], [at] if seeds else [], color=color, s=60, marker="|", label=name
            )
    axes.set_yticks(range(len(groups)), groups)
    axes.invert_yaxis()
    axes.set_xlabel(label)


def _at(result: Any, path: Sequence[str]) -> Any:
    for key in path:
        result = result[key]
    return result
