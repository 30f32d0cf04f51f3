"""Figures of the experiment `spiral`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FRAMES = 12
"""Of the film."""
BARE = ", units left out"
ORDERS = {
    "random, train, prune": "random half: train, prune",
    "random, train, prune, fine-tune": "train, prune, fine-tune",
    "random, prune, train": "prune, train",
    "inactive, train, prune": "inactive half: train, prune",
    "inactive, prune, train": "prune, train",
}
"""Columns of the decision pictures, with their titles."""


def _decision(axes: Any, picture: Any, points: Any, title: str, *, ticks: bool = False) -> Any:
    look = {"cmap": "PuOr", "vmin": 0, "vmax": 100, "interpolation": "bilinear"}
    shown = axes.imshow(picture, origin="lower", extent=(-1, 1, -1, 1), **look)
    x, y = np.array(points[0]), np.array(points[1])
    for arm, inner, edge in ((0, "black", "white"), (1, "white", "black")):
        axes.scatter(*x[y == arm].T, s=3, color=inner, edgecolors=edge, linewidths=0.25)
    axes.set_title(title, fontsize=6.5)
    axes.set_xticks([-1, 0, 1] if ticks else [])
    axes.set_yticks([-1, 0, 1] if ticks else [])
    axes.tick_params(labelsize=6)
    return shown


def _bar(whole: Figure, shown: Any, panels: Any) -> None:
    bar = whole.colorbar(shown, ax=list(panels), shrink=0.8)
    bar.set_label("probability of the second arm (%)", fontsize=6)
    bar.ax.tick_params(labelsize=6)


def decisions(whole: Figure, results: Results) -> None:
    """Decision pictures of every order, with adjusted biases above and without below, first seed."""
    first, panels = results[0], whole.subplots(2, 1 + len(ORDERS))
    rows = (("trained", "trained", ""), ("obs, train, prune, refit", "OBS half: train, prune, refit", BARE))
    for row, (alone, name, ending) in zip(panels, rows, strict=True):
        titles = {alone: name} | {f"{each}{ending}": title for each, title in ORDERS.items()}
        for axes, (order, title) in zip(row, titles.items(), strict=True):
            right = 100 * first["accuracies"][order]
            picture, text = first["pictures"][order], f"{title}\n{right:.1f} % right"
            shown = _decision(axes, picture, first["points"], text, ticks=axes is panels[1, 0])
    panels[0, 1].set_ylabel("biases adjusted", fontsize=7)
    panels[1, 1].set_ylabel("units left out", fontsize=7)
    _bar(whole, shown, panels.flat)


def rate(whole: Figure, results: Results) -> None:
    """Decision pictures at ten times the learning rate, first seed."""
    essay, panels = results[0]["essay"], whole.subplots(1, 3)
    titles = ("trained", "inactive half: train, prune", "inactive half: prune, train")
    for axes, (name, picture), title in zip(panels, essay["pictures"].items(), titles, strict=True):
        right = 100 * essay["accuracies"][name]
        text = f"{title}\n{right:.1f} % right"
        shown = _decision(axes, picture, results[0]["points"], text, ticks=axes is panels[0])
    _bar(whole, shown, panels)


def film(whole: Figure, results: Results, frame: int) -> None:
    """A decision picture through training, first seed."""
    first, at = results[0], min(frame, len(results[0]["film"]) - 1)
    title = f"after step {first['film_steps'][at]:,}"
    shown = _decision(whole.subplots(), first["film"][at], first["points"], title, ticks=True)
    _bar(whole, shown, whole.axes)


def stills(whole: Figure, results: Results) -> None:
    """Five pictures of the film."""
    first, panels = results[0], whole.subplots(1, 5)
    last = len(first["film"]) - 1
    for axes, at in zip(panels, [round(last * each) for each in (0, 0.4, 0.6, 0.8, 1)], strict=True):
        title = f"after step {first['film_steps'][at]:,}"
        shown = _decision(axes, first["film"][at], first["points"], title, ticks=axes is panels[0])
    _bar(whole, shown, panels)


def kernels(whole: Figure, results: Results) -> None:
    """Weights of both orders against each other, whole and zoomed, at both learning rates, first seed."""
    panels = whole.subplots(2, 4)
    readings = ((results[0], "0.01"), (results[0]["essay"], "0.1"))
    for row, (found, learning_rate) in zip(panels, readings, strict=True):
        pairs = [(kind, limit) for kind in ("random", "inactive") for limit in (None, 0.9)]
        for axes, (kind, limit) in zip(row, pairs, strict=True):
            x, y = found[f"{kind}_kernels"]
            axes.scatter(x, y, s=2, color=KEPT, label="a weight", linewidths=0)
            end = limit or float(np.abs([x, y]).max())
            axes.plot([-end, end], [-end, end], color=REMOVED, linewidth=0.6, label="equal", zorder=0)
            axes.set(xlim=(-end, end), ylim=(-end, end))
            axes.set_title(f"{kind} half, rate {learning_rate}{', zoomed' if limit else ''}", fontsize=7.5)
    panels[0, 0].legend(frameon=False, fontsize=6, loc="upper left")
    whole.supxlabel("weight after training, then pruning", fontsize=9)
    whole.supylabel("weight after pruning, then training", fontsize=9)


def moves(whole: Figure, results: Results) -> None:
    """How far training moved the weights between the hidden layers, at both learning rates, all seeds."""
    panels = whole.subplots(1, 2, sharey=True)
    readings = ((results, 0.01), ([each["essay"] for each in results], 0.1))
    for axes, (found, learning_rate) in zip(panels, readings, strict=True):
        counts = np.sum([each["moves"] for each in found], 0)
        axes.stairs(counts, np.linspace(0, 1.5, len(counts) + 1), fill=True, color=KEPT, label="weights that moved")
        single = results[0]["one_gradient_move"] * learning_rate / 0.01
        axes.axvline(single, color=PREDICTED, linestyle="--", linewidth=1, label="one gradient, then none")
        axes.axvline(0.59, color=REMOVED, linestyle=":", linewidth=1.2, label="0.59 (document)")
        axes.set(xlabel="distance from the start", title=f"learning rate {learning_rate}")
        axes.legend(frameon=False, fontsize=7)
    panels[0].set_ylabel("weights in a bin of 0.01")


def accuracies(whole: Figure, results: Results) -> None:
    """Held-out accuracy of every order and seed."""
    axes = whole.subplots()
    names = [each for each in results[0]["accuracies"] if "again" not in each]
    for i, name in enumerate(names):
        values = [100 * each["accuracies"][name] for each in results]
        axes.scatter(values, [i] * len(values), color=KEPT, s=14, alpha=0.6, label="a seed" if i == 0 else None)
        axes.scatter([np.mean(values)], [i], color=REMOVED, marker="|", s=120, label="mean" if i == 0 else None)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("held-out accuracy (%)")
    axes.legend(frameon=False, fontsize=7)


def ways(whole: Figure, results: Results) -> None:
    """What removal in one step costs in three ways, and how fast training repairs it."""
    left, right = whole.subplots(1, 2)
    looks = ((REMOVED, "o"), (PREDICTED, "s"), (KEPT, "^"))
    shares = 100 * np.array(results[0]["shares"])
    for (colour, marker), name in zip(looks, results[0]["ways"], strict=True):
        values = 100 * np.array([each["ways"][name] for each in results])
        left.plot(shares, values.mean(0), color=colour, marker=marker, markersize=4, label=name)
        left.fill_between(shares, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
    left.set(xlabel="removed of each layer (%)", ylabel="held-out accuracy (%)", title="Removed in one step")
    checked = (1, 2, 5, 10, 20, 50, 100, 200)
    named = (("random, train, prune, fine-tune", "train, prune, fine-tune"), ("random, prune, train", "prune, train"))
    for (colour, marker), (name, label) in zip(looks, named, strict=False):
        values = 100 * np.array([each["curves"][name] for each in results])
        at = checked[: values.shape[1]]
        right.plot(at, values.mean(0), color=colour, marker=marker, markersize=4, label=label)
        right.fill_between(at, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
    right.set_xscale("log")
    right.set(xlabel="epochs after pruning", ylabel="held-out accuracy (%)", title="A random half, trained on")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=7)


PICTURES = (
    Picture(
        "decisions", "Decisions of each order, first seed; first arm black, second arm white.", (9.2, 3.2), decisions
    ),
    Picture("film", "Training, first seed.", (3.2, 2.6), film, frames=FRAMES),
    Picture("stills", "The film's pictures at 0, 40, 60, 80 and 100 % of its length.", (7.2, 1.6), stills),
    Picture("rate", "Decisions at ten times the learning rate, all points in a batch, first seed.", (5.4, 1.9), rate),
    Picture("kernels", "Weights between the hidden layers after both orders, first seed.", (8, 4.2), kernels),
    Picture("moves", "How far training moved the weights between the hidden layers, all seeds.", (7.5, 2.6), moves),
    Picture("accuracies", "Held-out accuracy, all seeds.", (6.5, 3.4), accuracies),
    Picture("ways", "Pruning in one step, and training afterwards: means and ranges over seeds.", (7, 2.6), ways),
)
