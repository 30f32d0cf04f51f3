"""Figures of the experiment `circle`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results
from deadhead.lab.measures.distributions import density

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (KEPT, REMOVED, PREDICTED)
LABELS = ("p = 0.25", "p = 0.5", "p = 0.75")


DOCUMENT = {
    "loss_mean": (1.0277158, 0.87821335, 0.584365),
    "log_loss_mean": (-0.08020699, -0.28468585, -0.7286095),
    "log_loss_spread": (0.44782004, 0.5544732, 0.6133959),
    "gradient_mean": (-0.0693278, -0.04751453, -0.027095174),
    "gradient_spread": (0.36804602, 0.33512998, 0.26713666),
    "log_gradient_mean": (-0.0746937, -0.05837615, -0.046731997),
    "log_gradient_spread": (0.36064485, 0.38386792, 0.44563505),
}
"""The essay's tables, for p = 0.25, 0.5, 0.75."""


def losses(whole: Figure, results: Results) -> None:
    """Densities of loss and log loss over all seeds for both radii, with fitted normal curves."""
    readings = (results, "the text's circle"), ([each["listing"] for each in results], "the listing's circle")
    for row, (found, title) in zip(whole.subplots(2, 2), readings, strict=True):
        _densities(row, found)
        row[0].set(xlabel="loss (nats)", ylabel="density", title=f"Loss, {title}")
        row[1].set(xlabel="log loss", ylabel="density", title=f"Log loss, {title}")
        for axes in row:
            axes.legend(frameon=False, fontsize=6)


def _densities(row: Any, found: Results) -> None:
    left, right = row
    for i, (colour, label) in enumerate(zip(COLOURS, LABELS, strict=True)):
        values = np.concatenate([each["losses"][i] for each in found])
        at = np.linspace(0, 4, 400)
        left.plot(at, density(values, at, 0.03), color=colour, label=label)
        left.axvline(DOCUMENT["loss_mean"][i], color=colour, linestyle=":", linewidth=1)
        left.axvline(values.mean(), color=colour, linestyle="--", linewidth=1)
        logs, at = np.log(values), np.linspace(-3.5, 2, 400)
        right.plot(at, density(logs, at, 0.03), color=colour, label=label)
        mean, spread = logs.mean(), logs.std()
        bell = np.exp(-0.5 * ((at - mean) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
        right.plot(at, bell, color=colour, linestyle="--", linewidth=1)
    left.axvline(0.117, color=FAINT, label="all units on (document)")
    left.plot([], [], color=INK, linestyle=":", label="mean (document)")
    left.plot([], [], color=INK, linestyle="--", label="mean (ours)")
    right.plot([], [], color=INK, linestyle="--", label="fitted normal")


def tables(whole: Figure, results: Results) -> None:
    """The essay's tables, for both radii: means over seeds with their range, and the document's numbers."""
    panels = whole.subplots(2, 4, sharex=True)
    titles = {
        "loss": "loss (nats)",
        "log_loss": "log loss",
        "gradient": "gradient (nats)",
        "log_gradient": "gradient of log loss",
    }
    series = (
        (results, KEPT, "o", -0.02, "the text's circle"),
        ([each["listing"] for each in results], PREDICTED, "s", 0.02, "the listing's circle"),
    )
    for column, (name, title) in zip(panels.T, titles.items(), strict=True):
        for axes, (kind, word) in zip(column, (("mean", "mean"), ("spread", "deviation")), strict=True):
            key = f"{name}_{kind}"
            for found, colour, marker, shift, label in series:
                values = np.array([each[key] for each in found])
                middle, at = values.mean(0), np.array((0.25, 0.5, 0.75)) + shift
                reach = np.abs([values.min(0) - middle, values.max(0) - middle])
                axes.errorbar(at, middle, reach, color=colour, marker=marker, markersize=4, linewidth=1, label=label)
            if key in DOCUMENT:
                how = {"color": REMOVED, "marker": "_", "s": 220, "linewidths": 2, "zorder": 3}
                axes.scatter((0.25, 0.5, 0.75), DOCUMENT[key], label="document", **how)
            axes.set_title(f"{title}: {word}", fontsize=8)
            axes.set_xticks((0.25, 0.5, 0.75))
    panels[0, 1].legend(frameon=False, fontsize=6)
    whole.supxlabel("probability p that a unit is on", fontsize=9)


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
        axes.set_xticks([-1, 0, 1])
        axes.set_yticks([])
    handles, labels = panels.flat[0].get_legend_handles_labels()
    whole.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    whole.supxlabel("gradient of the log loss by the unit's gate", fontsize=9)
    whole.supylabel("density", fontsize=9)


def flips(whole: Figure, results: Results) -> None:
    """Covariance along paths of flips, from the start and from the end, and networks beside their complements."""
    (heat, ends), (decay, pairs) = whole.subplots(2, 2)
    covariances = np.array([each["path_covariance"] for each in results])
    covariance, steps = covariances.mean(0), np.arange(covariances.shape[1])
    shown = heat.imshow(covariance, origin="lower", cmap="viridis")
    heat.set(xlabel="flips", ylabel="flips", title="Covariance of log loss, mean over seeds")
    whole.colorbar(shown, ax=heat, shrink=0.8)
    from_end = covariances[:, -1, ::-1]
    for values, colour, style, label in ((covariances[:, 0], KEPT, "-", "start"), (from_end, REMOVED, "--", "end")):
        ends.plot(steps, values.mean(0), color=colour, linestyle=style, label=f"with the {label}")
        ends.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
    ends.set(xlabel="flips between", ylabel="covariance of log loss", title="From start and end, range over seeds")
    for i, each in enumerate(results):
        decay.plot(steps, each["path_correlation"], color=KEPT, alpha=0.5, label="a seed" if i == 0 else None)
    last = [each["path_correlation"][-1] for each in results]
    decay.scatter([steps[-1]] * len(last), last, color=REMOVED, s=12, zorder=3, label="the complement")
    decay.axvspan(5, 6, color=REMOVED, alpha=0.25, linewidth=0, label='"5 or 6" (document)')
    decay.axhline(0.1, color=FAINT, linewidth=0.8, linestyle=":", label="0.1")
    decay.set(xlabel="flips from the start", ylabel="correlation of log loss", title="Correlation")
    pairs.scatter(*results[0]["complements"], s=4, color=KEPT, linewidths=0, label="a network, first seed")
    limits = np.quantile(results[0]["complements"][0], 0.25), np.median(results[0]["complements"][1])
    pairs.axvline(limits[0], color=FAINT, linewidth=0.8, linestyle="--", label="the best quarter is left of it")
    pairs.axhline(limits[1], color=FAINT, linewidth=0.8, linestyle=":", label="median")
    pairs.set(xlabel="log loss of a network", ylabel="log loss of its complement", title="Complements")
    for axes in (ends, decay, pairs):
        axes.axhline(0, color=FAINT, linewidth=0.5)
        axes.legend(frameon=False, fontsize=6)


def maps(whole: Figure, results: Results) -> None:
    """Output, loss, and each unit's gradient over [-2, 2]^2, of the first seed's network."""
    first = results[0]
    bias_like = set(first["bias_like"])
    inside, loss, gradients = (np.array(first[f"{name}_maps"]) / 100 for name in ("inside", "loss", "gradient"))
    many: list[tuple[str, Any, bool]] = [("p(inside)", inside[0], False), ("loss", loss[0], False)]
    many += [(f"unit {i}{' (bias-like)' if i in bias_like else ''}", each, True) for i, each in enumerate(gradients)]
    panels = whole.subplots(-(-len(many) // 6), 6, squeeze=False)
    limit = float(np.quantile(np.abs(gradients), 0.99)) or 1.0
    angle = np.linspace(0, 2 * np.pi, 100)
    for axes, (title, values, signed) in zip(panels.flat, many, strict=False):
        how: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} if signed else {"cmap": "viridis"}
        shown = axes.imshow(values, origin="lower", extent=(-2, 2, -2, 2), interpolation="bilinear", **how)
        axes.plot(first["radius"] * np.cos(angle), first["radius"] * np.sin(angle), color=INK, linewidth=0.6)
        axes.set_title(title, fontsize=7)
        axes.set_xticks([-2, 0, 2] if axes is panels.flat[0] else [])
        axes.set_yticks([-2, 0, 2] if axes is panels.flat[0] else [])
        axes.tick_params(labelsize=6)
    for axes in panels.flat[len(many) :]:
        axes.set_axis_off()
    bar = whole.colorbar(shown, ax=list(panels.flat), shrink=0.5)
    bar.set_label("gradient of the loss by the unit's gate (nats)", fontsize=7)
    bar.ax.tick_params(labelsize=6)


PICTURES = (
    Picture("losses", "Loss and log loss of random subnetworks, both circles, kernel 0.03.", (7, 4.8), losses),
    Picture("tables", "The essay's tables for both circles, means and ranges over seeds.", (8.5, 3.8), tables),
    Picture("gradients", "Gradients of loss and log loss, mean over seeds, kernel 0.03.", (8.5, 3), gradients),
    Picture("nodes", "Gradients of the log loss for each unit at p = 0.5, first seed, kernel 0.03.", (7, 4), nodes),
    Picture("flips", "Log loss along paths that flip every unit once, and of complements.", (7, 4.8), flips),
    Picture(
        "maps", "Output, loss and gradient for each unit, first seed; blue lowers the loss, the line is the circle.",
        (7.5, 5.2), maps,
    ),
)  # fmt: skip
