"""Figures of the experiment `goodhart`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = {
    "inside_twin": ("relevance inside, twin without", REMOVED, "_"),
    "inside_training": ("relevance inside, training", REMOVED, "s"),
    "inside_swapped": ("relevance inside, swapped", REMOVED, "x"),
    "pointing": ("pointing accuracy, unseen", PREDICTED, "^"),
    "accuracy": ("accuracy, unseen", FAINT, "D"),
    "accuracy_swapped": ("accuracy, textures swapped", KEPT, "o"),
    "texture_decides": ("texture's class chosen, swapped", INK, "+"),
}


def measures(whole: Figure, results: Results) -> None:
    """What each network looks at, by several measures, mean and range over seeds."""
    axes = whole.subplots()
    methods = list(results[0]["accuracy"])
    for i, (name, (label, color, marker)) in enumerate(MEASURES.items()):
        values = 100 * np.array([[each[name][method] for method in methods] for each in results])
        at = np.arange(len(methods)) + 0.12 * (i - (len(MEASURES) - 1) / 2)
        axes.vlines(at, values.min(0), values.max(0), color=color, linewidth=1)
        axes.scatter(at, values.mean(0), color=color, marker=marker, s=24, label=label)
    axes.axhline(
        100 * results[0]["region_share"], color=FAINT, linewidth=0.8, linestyle=":", label="area of the region"
    )
    axes.set_xticks(range(len(methods)), [name.replace("_", " ") for name in methods])
    axes.set(xlabel="relevance in the training loss", ylabel="%", ylim=(-2, 102))
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def maps(whole: Figure, results: Results) -> None:
    """Relevance of one unseen image on its texture and on another one, for each network, first seed."""
    first = results[0]
    methods = list(first["maps"])
    panels = whole.subplots(2, len(methods) + 1)
    for row, (line, title) in enumerate(zip(panels, ("texture of its class", "texture swapped"), strict=True)):
        line[0].imshow(first["images"][row], cmap="gray", vmin=0, vmax=100)
        line[0].set_ylabel(title, fontsize=7)
        for axes, method in zip(line[1:], methods, strict=True):
            shown = axes.imshow(first["maps"][method][row], cmap="RdBu_r", vmin=-100, vmax=100)
            if row == 0:
                axes.set_title(method.replace("_", " "), fontsize=8)
        for axes in line:
            axes.set(xticks=[], yticks=[])
    panels[0][0].set_title("image", fontsize=8)
    whole.colorbar(shown, ax=list(panels.flat), shrink=0.7).set_label("relevance (% of largest)", fontsize=7)


PICTURES = (
    Picture("measures", "What each network looks at, by its own relevance and by swapping textures.", (7.5, 3.4),
            measures),
    Picture("maps", "Relevance of one unseen image by the method in the loss (none: blame the bias), first seed.",
            (8, 3), maps),
)  # fmt: skip
