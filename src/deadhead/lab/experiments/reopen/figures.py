"""Figures of the experiment `reopen`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOK = {
    "twin": (INK, "-"), "removed": (REMOVED, "-"), "reopened": (KEPT, "-"), "reopened anew": (KEPT, ":"),
    "open for an epoch": (PREDICTED, "-"),
}  # fmt: skip
"""Colour and line of each copy."""


def losses(whole: Figure, results: Results) -> None:
    """Test loss after each epoch, mean over seeds, and at the end, all seeds."""
    left, right = whole.subplots(1, 2, width_ratios=(1.3, 1))
    shown = {name: look for name, look in LOOK.items() if name in results[0]["curves"]}
    for place, (name, (colour, line)) in enumerate(shown.items()):
        values = np.array([each["curves"][name] for each in results])
        left.plot(range(1, values.shape[1] + 1), values.mean(0), color=colour, linestyle=line, linewidth=1, label=name)
        right.scatter(values[:, -1], [place] * len(values), color=colour, s=14, alpha=0.6)
        right.scatter([values[:, -1].mean()], [place], color=colour, marker="|", s=140)
    left.set(xlabel="epoch", ylabel="test loss (nats)", yscale="log")
    left.legend(frameon=False, fontsize=7)
    right.set_yticks(range(len(shown)), list(shown), fontsize=7)
    right.invert_yaxis()
    right.set_xlabel("test loss at the end (nats), seeds and mean")


def disruption(whole: Figure, results: Results) -> None:
    """Rise of the test loss by closing units or weights, against the parameters that remain."""
    axes = whole.subplots()
    looks = {"units": (REMOVED, "o"), "units refitted": (KEPT, "^"), "weights": (PREDICTED, "s")}
    names = {"units": "units, MRS, means", "units refitted": "units, OBS, least squares", "weights": "smallest weights"}
    for name, (colour, marker) in looks.items():
        values = np.array([each["rises"][name] for each in results])
        axes.plot(results[0]["sizes"], values.mean(0), color=colour, marker=marker, markersize=4, label=names[name])
        at = np.tile(results[0]["sizes"], (len(values), 1)).T
        axes.plot(at, values.T, ".", color=colour, alpha=0.4, markersize=3)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set(xlabel="parameters that remain", ylabel="rise of the test loss (nats)")
    axes.set_yscale("symlog", linthresh=0.01)
    axes.legend(frameon=False, fontsize=7)


PICTURES = (
    Picture("losses", "Test loss of copies that end with 4-7-26 units, and of their twin.", (8, 3), losses),
    Picture("disruption", "The trained twin without some of its units or weights.", (6, 3), disruption),
)
