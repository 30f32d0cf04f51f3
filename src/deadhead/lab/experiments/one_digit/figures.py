"""Figures of the experiment `one_digit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deadhead.drawing import FAINT, KEPT, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results
from deadhead.lab.panels import lines, mark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WAYS = ("brute force", "linear", "quadratic", "race", "means", "least squares", "surgeon")
PAPER = {"0": 60, "1": 80}
"""Share removed, in percent, until which the paper's error stays within its start."""


def errors(whole: Figure, results: Results) -> None:
    """Error by the share of units removed: above on the images that decide, below on held-out ones."""
    digits = list(results[0]["digits"])
    panels = whole.subplots(2, len(digits), sharex=True, squeeze=False)
    for row, (key, data) in zip(panels, (("error", "deciding images"), ("held_error", "held-out images")), strict=True):
        for axes, digit in zip(row, digits, strict=True):
            lines(axes, results, ("digits", digit), WAYS, key)
            start = float(np.mean([each["digits"][digit]["brute force"][key][0] for each in results]))
            axes.axhline(start, color=FAINT, linewidth=0.8)
            if digit in PAPER:
                mark(axes, PAPER[digit], "paper")
            axes.set_title(f"digit {digit}, {data}")
            if axes is not row[0]:
                axes.set_ylabel("")
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
        axes.set(title=f"digit {digit}", xlabel="units removed (%)", ylim=(0.8, 2))
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
