"""Figures of the experiment `shapes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results
from deadhead.lab.panels import legend_below, lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = ("brute force", "linear", "quadratic", "exact quadratic")
BEYOND = ("brute force", "exact quadratic", "means", "least squares", "surgeon", "race")
KINDS = {"diamond": "diamond", "random": "random shape"}


def curves(whole: Figure, results: Results) -> None:
    """Squared error and accuracy, as figure 25 of the paper has them."""
    panels = whole.subplots(2, 2, sharex=True)
    for row, (name, title) in zip(panels, KINDS.items(), strict=True):
        for axes, quantity in zip(row, ("error", "accuracy"), strict=True):
            lines(axes, results, ("curves", name), PAPER, quantity)
            axes.set_title(title)
    panels[0][0].set_xlabel("")
    panels[0][1].set_xlabel("")
    legend_below(whole, panels[0][0], 4)


def beyond(whole: Figure, results: Results) -> None:
    """Held-out accuracy by what the paper lacks, beside brute force."""
    panels = whole.subplots(1, 2, sharey=True)
    for axes, (name, title) in zip(panels, KINDS.items(), strict=True):
        lines(axes, results, ("curves", name), BEYOND, "held_accuracy")
        axes.set_title(title)
    panels[1].set_ylabel("")
    legend_below(whole, panels[0])


def decisions(whole: Figure, results: Results) -> None:
    """Where the networks of the first seed see the shape, without half of the units."""
    panels = whole.subplots(2, 4, sharex=True, sharey=True)
    for row, (name, title) in zip(panels, KINDS.items(), strict=True):
        for axes, (way, picture) in zip(row, results[0]["pictures"][name].items(), strict=True):
            axes.imshow(np.array(picture), origin="lower", extent=(-1, 1, -1, 1), cmap="PuOr", vmin=-0.4, vmax=1.4)
            axes.set_title(f"{title}, intact" if way == "intact" else f"without half: {way}", fontsize=7)
            axes.set_xticks([-1, 0, 1])
            axes.set_yticks([-1, 0, 1])


PICTURES = (
    Picture(
        "curves", "Error and accuracy against removed units, re-ranked: mean and range over seeds.", (8, 5.6), curves
    ),
    Picture("beyond", "Held-out accuracy by other ways: mean and range over seeds.", (8, 3.7), beyond),
    Picture("decisions", "Decisions without half of the units (purple: the shape), first seed.", (8, 4.2), decisions),
)
