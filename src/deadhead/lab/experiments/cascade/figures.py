"""Figures of the experiment `cascade`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.experiments.cascade.claims import NAMES
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = {
    "pruned": ("pruned by brute force", REMOVED, "-"),
    "cascade": ("grown by cascade correlation", KEPT, "-"),
    "layered": ("grown, outputs read hidden units only", PREDICTED, "-"),
}
WAYS = {
    "pruned": ("pruned", REMOVED, "o"),
    "refitted": ("pruned, refitted by least squares", REMOVED, "^"),
    "surgeon": ("optimal brain surgeon", REMOVED, "s"),
    "scratch": ("trained from scratch", INK, "D"),
    "cascade": ("cascade correlation", KEPT, "o"),
    "layered": ("cascade, outputs read hidden units only", PREDICTED, "o"),
}


def errors(whole: Figure, results: Results) -> None:
    """Training error by the number of hidden units, all tasks and seeds."""
    names = list(results[0]["tasks"])
    panels = whole.subplots(-(-len(names) // 3), min(len(names), 3), squeeze=False)
    for axes, name in zip(panels.flat, names, strict=False):
        for way, (label, colour, style) in CURVES.items():
            for place, each in enumerate(results):
                units, error, _ = each["tasks"][name]["curves"][way]
                axes.plot(units, error, style, color=colour, linewidth=0.8, alpha=0.7, label=None if place else label)
        limit = float(np.mean([each["tasks"][name]["limit"] for each in results]))
        axes.axhline(limit, color=FAINT, linestyle=":", label="error of the comparison, mean over seeds")
        axes.set(yscale="log", xscale="symlog", title=NAMES[name], xlabel="hidden units", ylabel="training error")
        axes.set_xlim(-0.1, 110)
        axes.set_xticks([0, 1, 3, 10, 30, 100], ["0", "1", "3", "10", "30", "100"])
    handles, labels = axes.get_legend_handles_labels()
    whole.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)


def sizes(whole: Figure, results: Results) -> None:
    """Hidden units at equal error by each way, all tasks and seeds."""
    axes: Any = whole.subplots()
    names = list(results[0]["tasks"])
    for shift, (way, (label, colour, marker)) in enumerate(WAYS.items()):
        x, y = [], []
        for at, name in enumerate(names):
            found = [each["tasks"][name]["units"][way] for each in results]
            y += [each for each in found if each is not None]
            x += [at + (shift - 2.5) * 0.13] * sum(each is not None for each in found)
        axes.scatter(x, y, s=18, color=colour, marker=marker, alpha=0.6, linewidths=0, label=label)
    axes.set_xticks(range(len(names)), [NAMES[name] for name in names])
    axes.set(yscale="symlog", ylim=(-0.2, None), ylabel="hidden units at equal training error")
    axes.set_yticks([0, 1, 2, 5, 10, 20, 50, 100], ["0", "1", "2", "5", "10", "20", "50", "100"])
    whole.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False, fontsize=8)


PICTURES = (
    Picture(
        "errors",
        "Training error (mean of half the sum of squares) while networks shrink or grow, a line for each seed.",
        (9, 6), errors,
    ),
    Picture(
        "sizes",
        "Hidden units at the error where brute force's flat part ends, a mark for each seed; a way that does not meet "
        "the error has none.",
        (8.5, 4.2), sizes,
    ),
)  # fmt: skip
