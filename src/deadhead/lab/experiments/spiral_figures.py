"""Figures of the experiment `spiral`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _decision(axes: Any, picture: Any, points: Any, title: str) -> Any:
    shown = axes.imshow(picture, origin="lower", extent=(-1, 1, -1, 1), cmap="PuOr", vmin=0, vmax=1)
    x, y = np.array(points[0]), np.array(points[1])
    axes.scatter(*x[y == 0].T, s=1, color=INK)
    axes.scatter(*x[y == 1].T, s=1, color=FAINT)
    axes.set_title(title, fontsize=7)
    axes.set_xticks([-1, 0, 1])
    axes.set_yticks([-1, 0, 1])
    axes.tick_params(labelsize=6)
    return shown


def decisions(whole: Figure, results: Results) -> None:
    """Decision pictures of every order, first seed."""
    first = results[0]
    panels = whole.subplots(2, 3)
    for axes, (name, picture) in zip(panels.flat, first["pictures"].items(), strict=True):
        title = f"{name} ({100 * first['accuracies'][name]:.1f} %)"
        shown = _decision(axes, picture, first["points"], title)
    whole.colorbar(shown, ax=list(panels.flat), shrink=0.6).set_label("probability of the second arm", fontsize=7)


def film(whole: Figure, results: Results) -> None:
    """Decision pictures through training, first seed."""
    first = results[0]
    panels = whole.subplots(1, len(first["film"]) + 1)
    pictures = [*first["film"], first["pictures"]["trained"]]
    titles = [*(f"after epoch {each}" for each in first["film_epochs"]), "trained"]
    for axes, picture, title in zip(panels, pictures, titles, strict=True):
        shown = _decision(axes, picture, first["points"], title)
    whole.colorbar(shown, ax=list(panels), shrink=0.8).set_label("p (second arm)", fontsize=7)


def kernels(whole: Figure, results: Results) -> None:
    """Weights of both orders against each other, whole and zoomed, first seed."""
    panels = whole.subplots(2, 2)
    for row, kind in zip(panels, ("random", "inactive"), strict=True):
        x, y = results[0][f"{kind}_kernels"]
        for axes, limit in zip(row, (None, 0.6), strict=True):
            axes.scatter(x, y, s=2, color=KEPT, label="a weight", linewidths=0)
            end = limit or float(np.abs([x, y]).max())
            axes.plot([-end, end], [-end, end], color=REMOVED, linewidth=0.8, label="equal")
            axes.set(xlim=(-end, end), ylim=(-end, end), xlabel="train, prune", ylabel="prune, train")
            axes.set_title(f"{kind} half removed{', zoomed' if limit else ''}")
            axes.legend(frameon=False, fontsize=7, loc="upper left")


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


PICTURES = (
    Picture("decisions", "Decisions of each order with training points, first seed.", (8, 5), decisions),
    Picture("film", "Decisions through training, first seed.", (9, 2.2), film),
    Picture("kernels", "Every second weight between the hidden layers, both orders, first seed.", (7, 6.4), kernels),
    Picture("accuracies", "Held-out accuracy, all seeds.", (6.5, 2.6), accuracies),
)
