"""Figures of the experiment `unit_pruning`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOK = {
    "twin": (INK, "-"), "mrs": (REMOVED, "-"), "mrs, zeros": (REMOVED, ":"), "mrs, less": (REMOVED, "--"),
    "obs, least squares": (KEPT, "-"), "random": (FAINT, "-"), "weights": (PREDICTED, "-"),
}  # fmt: skip
"""Colour and line of each copy."""


def losses(whole: Figure, results: Results) -> None:
    """Training loss through training, mean over seeds, on a logarithmic axis."""
    axes = whole.subplots()
    for index, name in enumerate(results[0]["names"]):
        curve = np.mean([each["losses"][index] for each in results], 0)
        at = np.linspace(0, 1, len(curve))
        colour, line = LOOK[name]
        axes.plot(at, curve, color=colour, linestyle=line, linewidth=1, label=name)
    axes.set(xlabel="share of training done", ylabel="training loss (nats)", yscale="log")
    axes.legend(frameon=False, fontsize=7, ncols=2)


def jumps(whole: Figure, results: Results) -> None:
    """Rise of the loss by each round."""
    axes = whole.subplots()
    for name in (each for each in ("mrs, zeros", "mrs", "obs, least squares", "random") if each in results[0]["jumps"]):
        values = np.array([each["jumps"][name] for each in results])
        colour, line = LOOK[name]
        axes.plot(values.mean(0), color=colour, linestyle=line, marker="o", markersize=3, label=name)
        axes.plot(np.tile(np.arange(values.shape[1]), (len(values), 1)).T, values.T, ".", color=colour, alpha=0.4)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set_xticks(range(values.shape[1]), [f"round {i + 1}" for i in range(values.shape[1])])
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_ylim(bottom=-0.003)
    axes.set_ylabel("rise of the training loss (nats)")
    axes.legend(frameon=False, fontsize=7)


def accuracies(whole: Figure, results: Results) -> None:
    """Test accuracy of every copy and seed, with the thesis's value."""
    axes = whole.subplots()
    names = [f"{each}\n{results[0][each]['parameters']:,} parameters" for each in results[0]["names"]]
    for i, name in enumerate(results[0]["names"]):
        values = [100 * each[name]["accuracy"] for each in results]
        axes.scatter(values, [i] * len(values), color=KEPT, s=14, alpha=0.6, label="a seed" if i == 0 else None)
        axes.scatter([np.mean(values)], [i], color=REMOVED, marker="|", s=120, label="mean" if i == 0 else None)
    for i, key in enumerate(("twin_longer", "accuracy_longer"), len(names)):
        longer = [each[key] for each in results]
        axes.scatter(longer, [i] * len(longer), color=KEPT, s=14, alpha=0.6)
        axes.scatter([np.mean(longer)], [i], color=REMOVED, marker="|", s=120)
    axes.axvline(98.42, color=FAINT, linewidth=0.8, label="Evci (2018), twin and pruned")
    axes.set_yticks(range(len(names) + 2), [*names, "twin, next epochs", "mrs, next epochs"], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("accuracy on the test images (%)")
    axes.legend(frameon=False, fontsize=7)


def sizes(whole: Figure, results: Results) -> None:
    """Accuracy against dense parameters: units removed while training, and after weights were pruned."""
    axes = whole.subplots()
    for seed, each in enumerate(results):
        order = np.argsort(each["weights_sizes"])
        x, y = np.array(each["weights_sizes"])[order], np.array(each["weights_accuracies"])[order]
        label = "90 % of weights pruned, then units with few" if seed == 0 else None
        axes.plot(x, y, color=PREDICTED, linewidth=0.8, marker=".", alpha=0.7, label=label)
    for name, marker in (("mrs", "o"), ("mrs, less", "s"), ("obs, least squares", "^"), ("random", "x")):
        if name not in results[0]:
            continue
        x, y = (np.array([each[name][key] for each in results]) for key in ("parameters", "accuracy"))
        axes.scatter(x, 100 * y, color=LOOK[name][0], marker=marker, s=18, label=f"units: {name}")
    axes.axvline(4019, color=FAINT, linewidth=0.8, label="Evci (2018): 4,019")
    shown = [100 * each[name]["accuracy"] for each in results for name in results[0]["names"] if name != "weights"]
    axes.set(xlabel="parameters of the dense network", ylabel="accuracy on the test images (%)", xscale="log")
    axes.set_ylim(min(shown) - 1, max(shown) + 0.2)
    axes.legend(frameon=False, fontsize=7)


def maps(whole: Figure, results: Results) -> None:
    """Magnitudes of the weights of every layer with pruning and without, first seed."""
    shown: dict[str, Any] = next((each["maps"] for each in results if "maps" in each), {})
    panels = whole.subplots(2, 4, squeeze=False, width_ratios=(1, 2.2, 3, 1.4))
    for column, (name, pair) in enumerate(shown.items()):
        for row, (title, values) in enumerate(zip(("twin", "pruned"), pair, strict=True)):
            axes = panels[row, column]
            image = axes.imshow(np.array(values) / 99, aspect="auto", cmap="cividis", vmin=0, vmax=1)
            axes.set_title(f"{name}, {title}", fontsize=8)
            axes.set(xlabel="weight" if row else "", ylabel="unit" if column == 0 else "")
            axes.tick_params(labelsize=6)
    if shown:
        whole.colorbar(image, ax=list(panels.flat), shrink=0.8).set_label("magnitude (of the layer's largest)")


PICTURES = (
    Picture("losses", "Training loss, mean over seeds.", (7, 3.2), losses),
    Picture("jumps", "What each round costs at once: 0.1, 0.2, 0.4 and 0.6 of the units are removed.", (6, 3), jumps),
    Picture("accuracies", "Test accuracy of every copy, all seeds.", (6.5, 4.2), accuracies),
    Picture("sizes", "Accuracy against the size of the dense network.", (6.5, 3.4), sizes),
    Picture("maps", "Magnitudes of weights, first seed.", (9, 4), maps),
)
