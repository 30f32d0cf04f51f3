"""Figures of the experiment `certificate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ((REMOVED, "s"), (PREDICTED, "^"), (KEPT, "o"), (FAINT, "D"))


def bounds(whole: Figure, results: Results) -> None:
    """Measured change against bound, all seeds, a panel for each network."""
    panels = whole.subplots(1, len(results[0]["bounds"]), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, results[0]["bounds"], strict=True):
        for each in results:
            pairs = np.array([each["bounds"][name]["bound"], each["bounds"][name]["change"]])
            inside = (pairs > 1e-12).all(0)
            axes.scatter(*pairs[:, inside], s=3, color=KEPT, linewidths=0, alpha=0.5)
        ends = np.array([1e-4, 1e6])
        axes.plot(ends, ends, color=REMOVED, linewidth=1, label="bound")
        axes.plot(ends, ends / 100, color=FAINT, linewidth=1, linestyle="--", label="a hundredth of it")
        axes.set(xscale="log", yscale="log", xlim=(1e-3, 1e3), ylim=(1e-6, 1e2), xlabel="certified bound (nats)")
        axes.set_title(name, loc="left")
    panels[0].set_ylabel("mean absolute change of the loss (nats)")
    panels[0].legend(frameon=False, fontsize=7, loc="lower right")


def effects(whole: Figure, results: Results) -> None:
    """Effect of each unit against its deviation, trained spiral network, all seeds."""
    axes = whole.subplots()
    labelled = False
    for each in results:
        x, y = np.array(each["deviations"]), np.maximum(np.array(each["effects"]), 1e-9)
        axes.scatter(x, y, s=5, color=KEPT, linewidths=0, label=None if labelled else "a unit")
        chosen = each["exception_units"]
        axes.scatter(x[chosen], y[chosen], s=16, color=REMOVED, marker="s", label=None if labelled else "an exception")
        labelled = True
    axes.set(yscale="log", xlabel="standard deviation of the unit's activation", ylabel="|change of the loss| (nats)")
    axes.set_xscale("symlog", linthresh=1e-2, linscale=0.5)
    axes.set_xlim(-1e-3, None)
    axes.legend(frameon=False, fontsize=7, loc="upper left")


def unseen(whole: Figure, results: Results) -> None:
    """Loss on unseen points by share removed, a panel for each number of training points, mean and range over seeds."""
    points, shares = results[0]["points"], [0.0, *results[0]["removed"]]
    panels = whole.subplots(1, len(points), sharey=True, squeeze=False)[0]
    for i, (axes, count) in enumerate(zip(panels, points, strict=True)):
        for (name, _), (color, marker) in zip(results[0]["losses"].items(), COLORS, strict=True):
            values = np.array([each["losses"][name][i] for each in results])
            axes.plot(shares, values.mean(0), color=color, marker=marker, markersize=3, label=name)
            axes.fill_between(shares, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
        axes.axhline(np.mean([each["losses"]["mean"][i][0] for each in results]), color=INK, linewidth=0.6)
        axes.set(yscale="log", xlabel="share of each hidden layer removed")
        axes.set_title(f"{count} training points", loc="left")
    panels[0].set_ylabel("loss on unseen points (nats)")
    panels[-1].legend(frameon=False, fontsize=7, loc="upper left")


PICTURES = (
    Picture("bounds", "Change of the loss against its certified bound, single units and random sets.", (8, 3), bounds),
    Picture("effects", "Deviation of each unit of the trained spiral network, and what its removal changes (0 is drawn "
            "at 1e-9).", (5, 3.2), effects),
    Picture("unseen", "Loss on points that nothing was chosen by; the horizontal line is the intact network.", (8, 2.8),
            unseen),
)  # fmt: skip
