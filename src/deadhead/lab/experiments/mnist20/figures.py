"""Figures of the experiment `mnist20`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results
from deadhead.lab.panels import STYLES, dots, legend_below, lines, mark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = ("brute force", "linear", "quadratic")
MORE = ("quadratic, mean threshold", "quadratic, median threshold", "exact quadratic")
BEYOND = ("brute force", "exact quadratic", "race", "means", "least squares", "surgeon")
TITLES = {"one": "one layer", "two": "two layers"}
FREE = {"one": 60, "two": 40}
"""The paper's share of free units, in percent."""


def _network(whole: Figure, results: Results, name: str) -> None:
    panels = whole.subplots(2, 2, sharex=True)
    for row, (algorithm, title) in zip(
        panels, (("single", "a single ranking"), ("re-ranked", "re-ranked after each removal")), strict=True
    ):
        for axes, quantity in zip(row, ("error", "accuracy"), strict=True):
            lines(axes, results, ("curves", name, algorithm), PAPER, quantity)
            axes.set_title(f"{TITLES[name]}, {title}")
    for axes in panels[1]:
        mark(axes, FREE[name], f"paper: {FREE[name]} % free")
    for axes in panels[0]:
        axes.set_xlabel("")
    panels[0][0].legend(frameon=False, fontsize=7, loc="lower right")


def one(whole: Figure, results: Results) -> None:
    """Error and accuracy of the network of one layer, as figures 3 and 4 of the paper."""
    _network(whole, results, "one")


def two(whole: Figure, results: Results) -> None:
    """Error and accuracy of the network of two layers, as figures 8 and 9 of the paper."""
    _network(whole, results, "two")


def beyond(whole: Figure, results: Results) -> None:
    """Thresholds and exact derivatives; and held-out accuracy by what the paper lacks."""
    panels = whole.subplots(2, 2, sharex=True)
    for column, (name, title) in enumerate(TITLES.items()):
        lines(panels[0][column], results, ("curves", name, "re-ranked"), ("brute force", "quadratic", *MORE), "error")
        lines(panels[1][column], results, ("curves", name, "re-ranked"), BEYOND, "held_accuracy")
        panels[0][column].set_title(title)
        panels[0][column].set_xlabel("")
    panels[0][1].legend(frameon=False, fontsize=6.5, loc="lower right")
    panels[1][1].legend(frameon=False, fontsize=6.5, loc="lower left")


def estimates(whole: Figure, results: Results) -> None:
    """Estimated against measured changes of the loss, first seed."""
    panels = whole.subplots(1, 2)
    for axes, (name, title) in zip(panels, TITLES.items(), strict=True):
        found = results[0]["estimates"][name]
        measured = np.array(found["measured"])
        for way in ("linear", "quadratic", *(["exact quadratic"] if name == "two" else [])):
            color = STYLES[way]["color"]
            axes.scatter(measured, found[way], s=9, color=color, alpha=0.7, linewidths=0, label=way)
        ends = [min(measured.min(), 0), measured.max()]
        axes.plot(ends, ends, color=INK, linewidth=0.8, label="equal")
        axes.set(xlabel="measured change of the error", title=title)
        axes.set_xscale("symlog", linthresh=1e-3)
        axes.set_yscale("symlog", linthresh=1e-3)
    panels[0].set_ylabel("estimated change of the error")
    legend_below(whole, panels[1], 4)


def layers(whole: Figure, results: Results) -> None:
    """From which layer units are taken: share from the last hidden layer among those removed so far."""
    axes = whole.subplots()
    for way in (*PAPER, "exact quadratic"):
        taken = [each["curves"]["two"]["re-ranked"][way]["layers"] for each in results]
        share = np.array([100 * np.cumsum(each) / np.arange(1, len(each) + 1) for each in taken])
        removed = 100 * np.arange(1, share.shape[1] + 1) / results[0]["curves"]["two"]["re-ranked"][way]["total"]
        axes.plot(removed, share.mean(0), label=way, linewidth=1.4, **STYLES[way])
        axes.fill_between(removed, share.min(0), share.max(0), color=STYLES[way]["color"], alpha=0.13, linewidth=0)
    axes.axhline(50, color=INK, linewidth=0.8, linestyle=":", label="no preference")
    axes.set(xlabel="units removed (%)", ylabel="of these, from the second layer (%)", xlim=(0, 100), ylim=(0, 100))
    axes.legend(frameon=False, fontsize=7, loc="lower right")


def _points(axes: Any, values: np.ndarray, label: str, color: str) -> None:
    places = range(values.shape[1])
    axes.plot(places, values.mean(0), color=color, linewidth=1.2, label=label)
    for row in values:
        axes.scatter(places, row, color=color, s=9, alpha=0.4, linewidths=0)


def sizes(whole: Figure, results: Results) -> None:
    """What brute force frees by depth, and what it leaves by width."""
    left, right = whole.subplots(1, 2)
    _points(left, 100 * np.array([each["free_by_depth"] for each in results]), "on the images that decide", KEPT)
    _points(left, 100 * np.array([each["held_free_by_depth"] for each in results]), "on held-out images", REMOVED)
    left.plot([0, 1], [60, 40], color=INK, linestyle=":", linewidth=1, label="paper")
    left.set_xticks([0, 1, 2], ["1x100", "2x50", "3x33"])
    left.set(xlabel="layers x units", ylabel="units free by brute force (%)", ylim=(0, 100))
    left.legend(frameon=False, fontsize=7)
    units = results[0]["units_by_width"]
    _points(right, np.array([each["left_by_width"] for each in results]), "left by brute force", KEPT)
    right.plot(range(3), units, color=FAINT, linestyle="--", linewidth=1, label="all")
    right.set_xticks(range(3), [str(each) for each in units])
    right.set(xlabel="units of one layer", ylabel="units needed")
    right.legend(frameon=False, fontsize=7)


def tasks(whole: Figure, results: Results) -> None:
    """How far each of the paper's ways is flat, on all of its tasks."""
    axes = whole.subplots()
    names = results[0]["tasks"]
    values = {
        way: [[100 * each["flat_by_task"][way][i] for each in results] for i in range(len(names))] for way in PAPER
    }
    shown = {"one": "digits, 1x100", "two": "digits, 2x50", "cosine": "cosine, 2x10"}
    dots(axes, [shown.get(name, name) for name in names], values, "units removed before the error rises (%)")
    axes.axvspan(10, 30, color=FAINT, alpha=0.15, linewidth=0, label="paper: Taylor methods, 10-30 %")
    axes.set_xlim(0, 100)
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


PICTURES = (
    Picture("one", "One layer of 100 units: mean and range over seeds, on the images that decide.", (8, 5.6), one),
    Picture("two", "Two layers of 50 units: mean and range over seeds, on the images that decide.", (8, 5.6), two),
    Picture(
        "beyond", "Other estimates above, other ways below: mean and range over seeds, re-ranked.", (8, 5.8), beyond
    ),
    Picture("estimates", "What each unit's removal costs, estimated and measured; first seed.", (8, 3.9), estimates),
    Picture("layers", "From which layer units are taken: mean and range over seeds, re-ranked.", (5, 3.2), layers),
    Picture("sizes", "Brute force by depth and by width: seeds and means.", (8, 3.2), sizes),
    Picture("tasks", "Where each curve leaves its start by 5 % of its range: seeds and means.", (8, 3.6), tasks),
)
