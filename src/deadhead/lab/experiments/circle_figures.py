"""Figures of the experiment `circle`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.distributions import density
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (KEPT, REMOVED, PREDICTED)
LABELS = ("p = 0.25", "p = 0.5", "p = 0.75")


def losses(whole: Figure, results: Results) -> None:
    """Densities of loss and log loss over all seeds, with fitted normal curves and the document's means."""
    left, right = whole.subplots(1, 2)
    for i, (colour, label) in enumerate(zip(COLOURS, LABELS, strict=True)):
        values = np.concatenate([each["losses"][i] for each in results])
        at = np.linspace(0, 4, 400)
        left.plot(at, density(values, at, 0.03), color=colour, label=label)
        left.axvline((1.0277158, 0.87821335, 0.584365)[i], color=colour, linestyle=":", linewidth=1)
        listing = np.mean([each["listing_mean_loss"][i] for each in results])
        left.axvline(listing, color=colour, linestyle="--", linewidth=1)
        logs, at = np.log(values), np.linspace(-3.5, 2, 400)
        right.plot(at, density(logs, at, 0.03), color=colour, label=label)
        mean, spread = logs.mean(), logs.std()
        bell = np.exp(-0.5 * ((at - mean) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
        right.plot(at, bell, color=colour, linestyle="--", linewidth=1, label=f"normal, {label}")
    left.axvline(0.117, color=FAINT, label="all units on (document)")
    left.plot([], [], color=INK, linestyle=":", label="mean (document)")
    left.plot([], [], color=INK, linestyle="--", label="our mean, radius 0.893")
    left.set(xlabel="loss (nats)", ylabel="density", title="Loss of random subnetworks")
    right.set(xlabel="log loss", ylabel="density", title="Its logarithm")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=7)


def gradients(whole: Figure, results: Results) -> None:
    """Densities of the gradients by the gates, means over seeds."""
    panels = whole.subplots(1, 3)
    parts = (
        ("gradient_density", LABELS, "Gradient of the loss"),
        ("log_gradient_density", LABELS, "Gradient of the log loss"),
        ("on_off_density", ("unit on", "unit off"), "Log loss, p = 0.5"),
    )
    for axes, (key, labels, title) in zip(panels, parts, strict=True):
        curves = np.mean([each[key] for each in results], 0)
        for curve, colour, label in zip(curves, COLOURS, labels, strict=False):
            axes.plot(results[0]["gradient_axis"], curve, color=colour, label=label)
        axes.axvline(0, color=FAINT, linewidth=0.8)
        axes.set(xlabel="gradient by a gate", ylabel="density", title=title)
        axes.legend(frameon=False, fontsize=7)


def nodes(whole: Figure, results: Results) -> None:
    """Densities of the log loss gradient for each unit of the first seed's network."""
    curves, at = results[0]["node_density"], results[0]["gradient_axis"]
    panels = whole.subplots(-(-len(curves) // 5), 5, sharex=True, squeeze=False)
    for i, (axes, pair) in enumerate(zip(panels.flat, curves, strict=False)):
        for curve, colour, label in zip(pair, (KEPT, REMOVED), ("on", "off"), strict=True):
            axes.plot(at, curve, color=colour, label=label, linewidth=1)
        axes.set_title(f"unit {i}", fontsize=7)
        axes.set_yticks([])
    panels.flat[0].legend(frameon=False, fontsize=7)
    whole.supxlabel("gradient of the log loss by the unit's gate", fontsize=9)
    whole.supylabel("density", fontsize=9)


def flips(whole: Figure, results: Results) -> None:
    """Covariance along paths of flips."""
    left, middle, right = whole.subplots(1, 3)
    covariance = np.mean([each["path_covariance"] for each in results], 0)
    steps = np.arange(len(covariance))
    shown = left.imshow(covariance, origin="lower", cmap="viridis")
    left.set(xlabel="flips", ylabel="flips", title="Covariance of log loss")
    whole.colorbar(shown, ax=left, shrink=0.7)
    middle.plot(steps, covariance[0], color=KEPT, label="with the start")
    middle.plot(steps, covariance[-1, ::-1], color=REMOVED, linestyle="--", label="with the end")
    middle.axhline(0, color=FAINT, linewidth=0.8)
    middle.set(xlabel="flips between", ylabel="covariance of log loss", title="From start and end")
    for i, each in enumerate(results):
        right.plot(steps, each["path_correlation"], color=KEPT, alpha=0.5, label="a seed" if i == 0 else None)
    right.axhline(0, color=FAINT, linewidth=0.8)
    right.axvspan(5, 6, color=REMOVED, alpha=0.25, linewidth=0, label='"5 or 6" (document)')
    right.set(xlabel="flips from the start", ylabel="correlation of log loss", title="Correlation")
    for axes in (middle, right):
        axes.legend(frameon=False, fontsize=7)


def maps(whole: Figure, results: Results) -> None:
    """Output, loss, and each unit's gradient over [-2, 2]^2, of the first seed's network."""
    first = results[0]
    bias_like = set(first["bias_like"])
    many: list[tuple[str, Any, bool]] = [("p(inside)", first["inside_map"], False), ("loss", first["loss_map"], False)]
    many += [
        (f"unit {i}{' (bias-like)' if i in bias_like else ''}", each, True)
        for i, each in enumerate(first["gradient_maps"])
    ]
    panels = whole.subplots(-(-len(many) // 6), 6, squeeze=False)
    limit = float(np.quantile(np.abs(first["gradient_maps"]), 0.99)) or 1.0
    angle = np.linspace(0, 2 * np.pi, 100)
    for axes, (title, values, signed) in zip(panels.flat, many, strict=False):
        how: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} if signed else {"cmap": "viridis"}
        shown = axes.imshow(values, origin="lower", extent=(-2, 2, -2, 2), **how)
        axes.plot(first["radius"] * np.cos(angle), first["radius"] * np.sin(angle), color=INK, linewidth=0.6)
        axes.set_title(title, fontsize=7)
        axes.set_xticks([-2, 0, 2])
        axes.set_yticks([-2, 0, 2])
        axes.tick_params(labelsize=6)
    for axes in panels.flat[len(many) :]:
        axes.set_axis_off()
    bar = whole.colorbar(shown, ax=list(panels.flat), shrink=0.5)
    bar.set_label("gradient of the loss by the unit's gate (nats)", fontsize=7)
    bar.ax.tick_params(labelsize=6)


PICTURES = (
    Picture("losses", "Loss and log loss of random subnetworks, all seeds, kernel 0.03.", (7.5, 3.2), losses),
    Picture("gradients", "Gradients of loss and log loss, mean over seeds, kernel 0.03.", (8.5, 3), gradients),
    Picture("nodes", "Gradients of the log loss for each unit at p = 0.5, first seed, kernel 0.03.", (7.5, 5), nodes),
    Picture("flips", "Log loss along paths that flip every unit once.", (8.5, 2.8), flips),
    Picture(
        "maps", "Output, loss and gradient for each unit, first seed; blue lowers the loss, the line is the circle.",
        (8, 5.6), maps,
    ),
)  # fmt: skip
