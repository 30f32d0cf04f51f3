"""Figures of the experiment `regulariser`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOK = {"twin": (INK, "-"), "mrs": (REMOVED, "-"), "obs": (KEPT, "-"), "random": (FAINT, "-")}
"""Colour and line of each copy; copies of other sizes are dashed."""


def curves(whole: Figure, results: Results) -> None:
    """Training loss, test loss and memorised labels through training, mean over seeds."""
    panels = whole.subplots(1, 3)
    names = ("training loss (nats)", "test loss, true labels (nats)", "wrong labels given back (share)")
    for place, (axes, title) in enumerate(zip(panels, names, strict=True)):
        for name in results[0]["curves"]:
            values = np.mean([np.array(each["curves"][name])[:, place] for each in results], 0)
            colour, line = LOOK.get(name, (PREDICTED, "--"))
            axes.plot(results[0]["epochs"], values, color=colour, linestyle=line, linewidth=1, label=name)
        axes.set(xlabel="epoch", ylabel=title)
    panels[0].legend(frameon=False, fontsize=7)


def sizes(whole: Figure, results: Results) -> None:
    """Losses and memorised labels at the end against size, all seeds."""
    panels = whole.subplots(1, 2)
    order = sorted((name for name in results[0]["ends"] if name.startswith(("twin", "mrs"))),
                   key=lambda name: results[0]["ends"][name]["parameters"])  # fmt: skip
    at = [results[0]["ends"][name]["parameters"] for name in order]
    for axes, keys in zip(panels, (("train_loss", "test_loss", "gap"), ("fitted", "accuracy")), strict=True):
        names = {"train_loss": "training loss", "test_loss": "test loss, true labels", "gap": "gap of generalisation",
                 "fitted": "wrong labels given back", "accuracy": "test accuracy, true labels"}  # fmt: skip
        for key, colour in zip(keys, (INK, REMOVED, PREDICTED), strict=False):
            values = np.array([[each["ends"][name][key] for name in order] for each in results])
            axes.plot(at, values.mean(0), color=colour, marker="o", markersize=3, label=f"{names[key]}, mrs")
            axes.plot(np.tile(at, (len(values), 1)).T, values.T, ".", color=colour, alpha=0.35, markersize=3)
            for name, marker in (("obs", "^"), ("random", "x")):
                other = [each["ends"][name][key] for each in results]
                at_end = results[0]["ends"][name]["parameters"]
                label = f"the same, {name}" if key == keys[0] else None
                axes.plot(
                    at_end, np.mean(other), marker, color=colour, markersize=5, markerfacecolor="none", label=label
                )
        axes.set(xlabel="parameters", xscale="log")
        axes.set_xticks(at, [f"{size:,}" for size in at], fontsize=7)
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=6)
    panels[0].set_ylabel("nats")
    panels[1].set_ylabel("share")


PICTURES = (
    Picture("curves", "2,000 images, a fifth with wrong labels, mean over seeds.", (8.5, 2.8), curves),
    Picture("sizes", "The end against the size that remains.", (7.5, 3.2), sizes),
)
