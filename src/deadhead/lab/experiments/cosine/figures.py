"""Figures of the experiment `cosine`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results
from deadhead.lab.panels import dots, legend_below, lines, mark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = ("brute force", "linear", "quadratic")
BEYOND = ("brute force", "exact quadratic", "means", "least squares", "surgeon", "race")
SIZES = {"small": ("two layers, small", 50), "large": ("two layers, large", 90)}
"""Titles, and the share of units up to which the paper's brute force is flat."""


def curves(whole: Figure, results: Results) -> None:
    """Squared error against removed units, as figure 2 of the paper has it."""
    panels = whole.subplots(1, 2, sharey=True)
    for axes, (size, (title, flat)) in zip(panels, SIZES.items(), strict=True):
        lines(axes, results, ("curves", size), PAPER, "error")
        total = results[0]["curves"][size]["brute force"]["total"]
        axes.set_title(f"{title}: {total} units")
        mark(axes, flat, f"paper: flat to {flat} %")
    panels[0].legend(frameon=False, fontsize=7, loc="lower right")
    panels[1].set_ylabel("")


def beyond(whole: Figure, results: Results) -> None:
    """Held-out error by what the paper lacks, beside brute force."""
    panels = whole.subplots(1, 2, sharey=True)
    for axes, (size, (title, _)) in zip(panels, SIZES.items(), strict=True):
        lines(axes, results, ("curves", size), BEYOND, "held_error")
        axes.set_title(title)
    panels[1].set_ylabel("")
    legend_below(whole, panels[0])


def flat(whole: Figure, results: Results) -> None:
    """How far every way is flat."""
    axes = whole.subplots()
    ways = [name for name in results[0]["flat_small"] if name != "race"]
    values = {way: [[100 * each[f"flat_{size}"][way] for each in results] for size in SIZES] for way in ways}
    dots(axes, [title for title, _ in SIZES.values()], values, "units removed before the error rises (%)")
    axes.set_xlim(0, 100)
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


PICTURES = (
    Picture("curves", "Squared error against removed units, re-ranked: mean and range over seeds.", (8, 3.2), curves),
    Picture("beyond", "Held-out error by other ways: mean and range over seeds.", (8, 3.7), beyond),
    Picture("flat", "Where each curve leaves its start by 5 % of the range: seeds and means.", (8, 3), flat),
)
