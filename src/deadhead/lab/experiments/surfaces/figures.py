"""Figures of the experiment `surfaces`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import FAINT, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results
from deadhead.lab.panels import mark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"brute force": KEPT, "linear": REMOVED, "quadratic": PREDICTED}


def _surfaces(whole: Figure, results: Results, layers: str) -> None:
    import matplotlib
    from matplotlib.colors import Normalize

    found: dict[str, Any] = results[0]["curves"][layers]
    colours, norm = matplotlib.colormaps["viridis"], Normalize(0, max(found["brute force"]["removed"]) * 1.1)
    panels = whole.subplots(2, 3, sharex="col")
    top = max(max(row) for each in found.values() for row in each["error"])
    bottom = min(min(row) for each in found.values() for row in each["error"])
    for place, (way, each) in enumerate(found.items()):
        for axes, scale in zip(panels[:, place], ("log", "linear"), strict=True):
            for removed, row in zip(each["removed"], each["error"], strict=True):
                axes.plot(each["gains"], row, color=colours(norm(removed)), linewidth=1)
            axes.axvline(1, color=REMOVED, linewidth=0.8, linestyle="--")
            axes.set(yscale=scale, xlim=(0, max(each["gains"])))
            axes.set_ylim((bottom / 1.2, top * 1.2) if scale == "log" else (0, top * 1.05))
            axes.set_ylabel(f"error, {scale} scale" if place == 0 else "")
        panels[0, place].set_title(way)
    whole.supxlabel("gain of the unit (1: as trained, dashed line; 0: removed)", fontsize=9)
    shown = matplotlib.cm.ScalarMappable(norm, colours)
    whole.colorbar(shown, ax=panels, shrink=0.6).set_label("units removed before")


def one(whole: Figure, results: Results) -> None:
    """Error by gain, one hidden layer, first seed."""
    _surfaces(whole, results, "one")


def two(whole: Figure, results: Results) -> None:
    """Error by gain, two hidden layers, first seed."""
    _surfaces(whole, results, "two")


def steepness(whole: Figure, results: Results) -> None:
    """What removal and doubling do to the error, by the order of removal, on the images that decide and on others."""
    panels = whole.subplots(1, 2, sharey=True)
    for axes, layers in zip(panels, ("one", "two"), strict=True):
        found = [each["curves"][layers]["brute force"] for each in results]
        removed, gains = found[0]["removed"], np.array(found[0]["gains"])
        here, off, on = [int(np.abs(gains - gain).argmin()) for gain in (1, 0, 2)]
        for key, style in (("error", "-"), ("held_error", ":")):
            rows = np.array([each[key] for each in found])
            for place, colour, label in ((off, REMOVED, "removed (gain 0)"), (on, KEPT, "doubled (gain 2)")):
                ratio = np.log10(rows[:, :, place] / rows[:, :, here])
                data = "held out" if key == "held_error" else "deciding"
                axes.plot(removed, ratio.mean(0), style, color=colour, label=f"{label}, {data} data")
                if key == "error":
                    axes.fill_between(removed, ratio.min(0), ratio.max(0), color=colour, alpha=0.15, linewidth=0)
        axes.axhline(0, color=FAINT, linewidth=0.8)
        axes.set(title=f"{layers} hidden layer{'s' * (layers == 'two')}", xlabel="units removed before")
    mark(panels[0], 90, "paper")
    panels[0].set_ylabel("log10 of error, to gain 1")
    handles, labels = axes.get_legend_handles_labels()
    whole.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)


def estimates(whole: Figure, results: Results) -> None:
    """Estimated change of the error against the measured one, every tenth unit, two hidden layers, all seeds."""
    panels = whole.subplots(1, 2)
    for axes, way in zip(panels, ("linear", "quadratic"), strict=True):
        x = np.concatenate([each["changes"][way] for each in results])
        y = np.concatenate([each["estimates"][way] for each in results])
        end = float(np.abs([*x, *y]).max()) * 1.2
        axes.plot([-end, end], [-end, end], color=FAINT, linewidth=0.8, label="equal")
        axes.scatter(x, y, s=10, color=COLOURS[way], label="a unit", linewidths=0)
        axes.set_xscale("symlog", linthresh=1e-4)
        axes.set_yscale("symlog", linthresh=1e-4)
        axes.set(xlabel="measured change of the error", ylabel="estimated change", title=f"{way} criterion's choices")
        axes.tick_params(labelsize=6)
        axes.legend(frameon=False, fontsize=7)


PICTURES = (
    Picture(
        "one",
        "Error (mean of half the sum of squares) by the gain of every tenth removed unit, one layer, first seed.",
        (9, 5), one,
    ),
    Picture("two", "Error by the gain of every tenth removed unit, two layers, first seed.", (9, 5), two),
    Picture(
        "steepness",
        "Error without the unit and with it doubled, to the error with it, by brute force's order; mean and range over "
        "seeds.",
        (8, 3.6), steepness,
    ),
    Picture(
        "estimates", "Estimates of the units that were chosen, every tenth, two layers, all seeds.", (8, 3.4), estimates
    ),
)  # fmt: skip
