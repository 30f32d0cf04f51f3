"""Figures of the experiment `one_digit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = {
    "brute force": ("brute force", KEPT, "-", ""),
    "linear": ("linear", REMOVED, "-", ""),
    "quadratic": ("quadratic", PREDICTED, "-", ""),
    "race": ("race", INK, ":", ""),
    "means": ("brute force, mean replacement", KEPT, "--", ""),
    "least squares": ("brute force, refitted by least squares", KEPT, "", "^"),
    "surgeon": ("optimal brain surgeon", INK, "", "s"),
}
PAPER = {"0": 60, "1": 80}
"""Share removed, in percent, until which the paper's error stays within its start."""


def _band(axes: Any, results: Results, digit: str, way: str, key: str, look: tuple[str, str, str, str]) -> None:
    """Mean over seeds, and the range."""
    label, colour, style, marker = look
    found = [each["digits"][digit][way] for each in results]
    total = max(results[0]["digits"][digit]["brute force"]["removed"]) + 1
    x = 100 * np.array(found[0]["removed"]) / total
    rows = np.array([each[key] for each in found])
    middle = np.exp(np.log(rows).mean(0))
    axes.plot(x, middle, style or "none", marker=marker or None, markersize=4, color=colour, linewidth=1.1, label=label)
    if style == "-":
        axes.fill_between(x, rows.min(0), rows.max(0), color=colour, alpha=0.15, linewidth=0)


def errors(whole: Figure, results: Results) -> None:
    """Error by the share of units removed: above on the images that decide, below on held-out ones."""
    digits = list(results[0]["digits"])
    panels = whole.subplots(2, len(digits), sharex=True, squeeze=False)
    for row, (key, data) in zip(panels, (("error", "deciding images"), ("held_error", "held-out images")), strict=True):
        for axes, digit in zip(row, digits, strict=True):
            for way, look in LINES.items():
                _band(axes, results, digit, way, key, look)
            start = float(np.mean([each["digits"][digit]["brute force"][key][0] for each in results]))
            axes.axhline(start, color=FAINT, linewidth=0.8)
            if digit in PAPER:
                axes.axvline(PAPER[digit], color=FAINT, linestyle="--", linewidth=0.8, label="flat until here (paper)")
            axes.set_yscale("log")
            axes.set_title(f"digit {digit}, {data}")
    for axes in panels[1]:
        axes.set_xlabel("units removed (%)")
    for row in panels:
        row[0].set_ylabel("error (mean of half the squares)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    whole.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)


def twins(whole: Figure, results: Results) -> None:
    """Error, to the intact network's, of networks stopped early and of twins that were trained on, by brute force."""
    digits = list(results[0]["digits"])
    panels = whole.subplots(1, len(digits), sharey=True, squeeze=False)[0]
    for axes, digit in zip(panels, digits, strict=True):
        for way, colour, label in (("brute force", REMOVED, "stopped early"), ("twin", KEPT, "trained on")):
            for place, each in enumerate(results):
                found = each["digits"][digit][way]
                x = 100 * np.array(found["removed"]) / (max(found["removed"]) + 1)
                y = np.array(found["error"]) / found["error"][0]
                axes.plot(x, y, color=colour, linewidth=0.8, label=None if place else label)
        axes.axhline(1, color=FAINT, linewidth=0.8)
        axes.set(title=f"digit {digit}", xlabel="units removed (%)", ylim=(0.4, 2))
    panels[0].set_ylabel("error, to the intact network's")
    panels[0].legend(frameon=False, fontsize=8)


PICTURES = (
    Picture(
        "errors",
        "Error by the share of units removed, mean over seeds with the range of the paper's three criteria; grey: the "
        "intact network's.",
        (10, 6.2), errors,
    ),
    Picture(
        "twins", "Brute force on networks that were stopped early and on twins trained on, a line for each seed.",
        (9, 3), twins,
    ),
)  # fmt: skip
