"""Figures of the experiment `importance`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORES = {
    "magnitude": ("magnitude", KEPT), "adjusted": ("sum of absolute steps", REMOVED),
    "moved": ("distance from the start", PREDICTED), "gradient": ("gradient at the end", "#c9a227"),
    "taylor1": ("Taylor 1, absolute", INK), "random": ("random", FAINT),
}  # fmt: skip


def curve(whole: Figure, results: Results) -> None:
    """Change of the loss against the share of weights removed, and by whole units at half of the parameters."""
    left, right = whole.subplots(1, 2, width_ratios=(1.3, 1))
    shares = 100 * np.array(results[0]["shares"])
    for name, (label, colour) in SCORES.items():
        values = np.array([each["curve"][name] for each in results])
        left.plot(shares, values.mean(0), color=colour, marker=".", label=label)
        left.fill_between(shares, values.min(0), values.max(0), color=colour, alpha=0.12, linewidth=0)
    left.set_yscale("symlog", linthresh=0.01)
    left.set(xlabel="weights of every layer removed (%)", ylabel="change of the test loss (nats)")
    left.set_title("Single weights")
    left.legend(frameon=False, fontsize=7)
    names = list(results[0]["structure"])
    rows = [*(f"units: {each}" for each in names), "weights: magnitude", "weights: random"]
    for i, label in enumerate(rows):
        kind, _, name = label.partition(": ")
        key = "structure" if kind == "units" else "change"
        found = [each[key][name] for each in results]
        right.scatter(found, [i] * len(found), color=KEPT, s=14, alpha=0.7, label="a seed" if i == 0 else None)
        right.scatter([np.mean(found)], [i], color=REMOVED, marker="|", s=120, label="mean" if i == 0 else None)
    right.set_yticks(range(len(rows)), rows, fontsize=7)
    right.invert_yaxis()
    right.set_xscale("symlog", linthresh=0.01)
    right.set(xlabel="change of the test loss (nats)", title="Half of the parameters")
    right.legend(frameon=False, fontsize=7)


def layers(whole: Figure, results: Results) -> None:
    """Half of the weights of one layer alone, mean over seeds."""
    axes = whole.subplots()
    names = list(results[0]["layers"])
    for i, (name, (label, colour)) in enumerate(SCORES.items()):
        values = np.array([[each["layers"][layer][name] for layer in names] for each in results])
        at = np.arange(len(names)) + 0.13 * (i - 2.5)
        axes.scatter(np.tile(at, len(results)), values.ravel(), color=colour, s=10, alpha=0.6)
        axes.scatter(at, values.mean(0), color=colour, marker="_", s=60, label=label)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set_yscale("symlog", linthresh=0.001)
    axes.set_xticks(range(len(names)), [name.removesuffix(".weight") for name in names])
    axes.set(ylabel="change of the test loss (nats)", xlabel="the layer whose half is removed")
    axes.legend(frameon=False, fontsize=7, ncols=2)


PICTURES = (
    Picture("curve", "Weights and units removed, mean and range over seeds.", (8.5, 3.3), curve),
    Picture("layers", "Half of one layer's weights removed, every seed.", (6.5, 3), layers),
)
