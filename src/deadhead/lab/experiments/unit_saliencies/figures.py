"""Figures of the experiment `unit_saliencies`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOK = (("MRP", KEPT, "-"), ("MRS", PREDICTED, "-"), ("L1 norm", REMOVED, "-"), ("L2 norm", REMOVED, ":"),
        ("random", FAINT, "-"))  # fmt: skip
"""Name, colour and line of each criterion."""
FACTORS = (0.1, 0.2, 0.4, 0.5, 0.6, 0.8)


def _lines(axes: Any, results: Results, net: str, layer: str, factor: int, criteria: int = 5) -> None:
    """Rises through training, mean over seeds."""
    steps = np.array(results[0]["steps"][layer])
    for place, (name, colour, line) in enumerate(LOOK[:criteria]):
        values = np.mean([each["curves"][net][layer][factor][place] for each in results], 0)
        axes.plot(steps, values, color=colour, linestyle=line, linewidth=0.9, label=name)


def first(whole: Figure, results: Results) -> None:
    """Half of conv1 replaced, with chance and without."""
    panels = whole.subplots(1, 2)
    for axes, criteria, title in zip(panels, (5, 4), ("with random halves", "saliencies alone"), strict=True):
        _lines(axes, results, "relu", "conv1", 0, criteria)
        axes.set(xlabel="step", ylabel="rise of the training loss (nats)", title=title)
        axes.legend(frameon=False, fontsize=7)


def factors(net: str, layer: str, whole: Figure, results: Results) -> None:
    """Six fractions of a layer replaced."""
    panels = whole.subplots(2, 3, sharex=True)
    for place, (axes, factor) in enumerate(zip(panels.flat, FACTORS, strict=True)):
        _lines(axes, results, net, layer, place)
        axes.set_yscale("symlog", linthresh=0.01)
        axes.set_title(f"fraction {factor:g}")
        axes.tick_params(labelsize=7)
        axes.axhline(0, color=FAINT, linewidth=0.6)
    panels[0, 0].legend(frameon=False, fontsize=6)
    whole.supxlabel("step", fontsize=9)
    whole.supylabel("rise of the training loss (nats)", fontsize=9)


def constants(whole: Figure, results: Results) -> None:
    """What fc1's units of lowest penalty are replaced by."""
    looks = {
        "mean": (KEPT, "-"), "mean after": (KEPT, ":"), "zero": (INK, "-"), "median": (PREDICTED, "-"),
        "min": (REMOVED, "-"), "max": (REMOVED, ":"), "held out": (FAINT, "--"),
    }  # fmt: skip
    names = {"mean after": "mean after the nonlinearity", "held out": "mean, on test images", "min": "minimum",
             "max": "maximum"}  # fmt: skip
    panels = whole.subplots(1, 2, sharey=True)
    for axes, net in zip(panels, ("relu", "tanh"), strict=True):
        for name, (colour, line) in looks.items():
            values = np.mean([each[f"{net}_fc1"][name] for each in results], 0)
            axes.plot(FACTORS, values, color=colour, linestyle=line, marker=".", label=names.get(name, name))
        axes.set(xlabel="fraction of fc1 replaced", title={"relu": "ReLU", "tanh": "Tanh"}[net])
        axes.set_yscale("symlog", linthresh=0.01)
    panels[0].set_ylabel("rise of the loss (nats), mean over training")
    panels[0].legend(frameon=False, fontsize=7)


def compensated(whole: Figure, results: Results) -> None:
    """Half of fc1 cut at the end, by other choices and compensations."""
    panels = whole.subplots(1, 2, sharey=True)
    for axes, net in zip(panels, ("relu", "tanh"), strict=True):
        found = [each["compensated"][net] for each in results if each["compensated"]]
        names = list(found[0]) if found else []
        for i, name in enumerate(names):
            values = [max(each[name]["rise"], 1e-4) for each in found]
            axes.scatter(values, [i] * len(values), color=KEPT, s=12, alpha=0.6, label="a seed" if i == 0 else None)
            axes.scatter([np.mean(values)], [i], color=REMOVED, marker="|", s=110, label="mean" if i == 0 else None)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set(xlabel="rise of the test loss (nats)", title={"relu": "ReLU", "tanh": "Tanh"}[net], xscale="log")
    panels[0].invert_yaxis()
    if panels[0].get_legend_handles_labels()[0]:
        panels[0].legend(frameon=False, fontsize=7)


PICTURES = (
    Picture("conv1", "Half of conv1's units replaced by means, ReLU, mean over seeds.", (7.5, 2.8), first),
    Picture("fc1-relu", "Parts of fc1 replaced by means, ReLU.", (7.5, 4), partial(factors, "relu", "fc1")),
    Picture("conv2-relu", "Parts of conv2 replaced by means, ReLU.", (7.5, 4), partial(factors, "relu", "conv2")),
    Picture("fc1-tanh", "Parts of fc1 replaced by means, Tanh.", (7.5, 4), partial(factors, "tanh", "fc1")),
    Picture("conv2-tanh", "Parts of conv2 replaced by means, Tanh.", (7.5, 4), partial(factors, "tanh", "conv2")),
    Picture("constants", "fc1's units of lowest penalty replaced by other constants.", (7.5, 3.2), constants),
    Picture("compensated", "Half of fc1 cut at the end: choices and compensations.", (7.5, 3), compensated),
)
