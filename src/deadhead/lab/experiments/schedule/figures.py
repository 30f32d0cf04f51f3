"""Figures of the experiment `schedule`."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUNS = {"pruned": ("pruned while training", REMOVED), "twin": ("twin without pruning", KEPT)}


def training(whole: Figure, results: Results) -> None:
    """Loss, accuracy and fraction closed through training, all seeds (figure 2.8)."""
    left, middle, right = whole.subplots(1, 3)
    epochs = len(results[0]["closed"])
    for name, (label, colour) in RUNS.items():
        for i, each in enumerate(results):
            losses = each["losses"][name]
            at = epochs * (np.arange(len(losses)) + 1) / len(losses)
            shown = label if i == 0 else None
            left.plot(at, losses, color=colour, linewidth=0.8, alpha=0.6, label=shown)
            accuracies = 100 * np.array(each["accuracies"][name])
            middle.plot(np.arange(epochs) + 1, accuracies, color=colour, alpha=0.6, marker=".", label=shown)
    left.set(yscale="log", xlabel="epoch", ylabel="training loss (nats)", title="Loss")
    middle.set(xlabel="epoch", ylabel="test accuracy (%)", title="Held-out accuracy")
    low, high = middle.get_ylim()
    middle.set_ylim(bottom=max(low, high - 4))
    right.step(np.arange(epochs) + 1, results[0]["closed"], where="pre", color=REMOVED)
    right.set(xlabel="epoch", ylabel="fraction of weights closed", title="Schedule (table 2.2)", ylim=(-0.02, 1))
    for axes in (left, middle):
        axes.legend(frameon=False, fontsize=7)


def _layer(results: Results, run: str, name: str, shape: tuple[int, ...]) -> Any:
    packed = base64.b64decode(results[0]["magnitudes"][run][name])
    return np.frombuffer(packed, np.uint8).reshape(shape) / 255


def _tiled(filters: Any, gap: int = 1) -> Any:
    """Filters (rows, columns, height, width) as one picture, a gap of nothing between them."""
    rows, columns, height, width = filters.shape
    picture = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for i in range(rows):
        for j in range(columns):
            top, left = i * (height + gap), j * (width + gap)
            picture[top : top + height, left : left + width] = filters[i, j]
    return picture


def _map(axes: Any, picture: Any, title: str) -> Any:
    shown = axes.imshow(picture, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
    return shown


def convolutions(whole: Figure, results: Results) -> None:
    """Magnitudes of the filters with and without pruning, first seed (figure 2.9)."""
    panels = whole.subplots(2, 2, width_ratios=(1, 2.2))
    for row, (run, (label, _)) in zip(panels, RUNS.items(), strict=True):
        first = _layer(results, run, "conv1.weight", (8, 5, 5)).reshape(4, 2, 5, 5)
        _map(row[0], _tiled(first), f"conv1, {label}")
        row[0].set_xlabel("8 units", fontsize=7)
        second = _layer(results, run, "conv2.weight", (16, 8, 5, 5)).transpose(1, 0, 2, 3)
        shown = _map(row[1], _tiled(second), f"conv2, {label}")
        row[1].set_xlabel("16 units", fontsize=7)
        row[1].set_ylabel("8 input channels", fontsize=7)
    whole.colorbar(shown, ax=list(panels.flat), shrink=0.6).set_label("magnitude / largest of the layer", fontsize=7)


def connected(whole: Figure, results: Results) -> None:
    """Magnitudes of the linear layers with and without pruning, first seed (figure 2.10)."""
    panels = whole.subplots(2, 2, height_ratios=(93, 58))
    for column, (run, (label, _)) in zip(panels.T, RUNS.items(), strict=True):
        first = _layer(results, run, "fc1.weight", (64, 256))
        shown = _map(column[0], first, f"fc1, {label}")
        column[0].set_xticks(np.arange(0, 257, 32) - 0.5, range(0, 17, 2), fontsize=6)
        column[0].set_xlabel("conv2's unit (16 inputs each)", fontsize=7)
        column[0].set_ylabel("64 units", fontsize=7)
        _map(column[1], _layer(results, run, "fc2.weight", (10, 64)), f"fc2, {label}")
        column[1].set_xlabel("fc1's unit", fontsize=7)
        column[1].set_ylabel("10 classes", fontsize=7)
    whole.colorbar(shown, ax=list(panels.flat), shrink=0.6).set_label("magnitude / largest of the layer", fontsize=7)


KINDS = {
    "zero": ("nothing propagated (thesis)", REMOVED, "-"),
    "mean": ("means propagated", KEPT, "-"),
    "least_squares": ("least squares", PREDICTED, "-"),
    "obs": ("obs, least squares, equal size", INK, "--"),
}


def units(whole: Figure, results: Results) -> None:
    """Parameters and accuracy after units of few non-zero weights are removed, means over seeds (figure 2.11)."""
    left, right = whole.subplots(1, 2)
    fractions = results[0]["removal"]["fractions"]
    sizes = np.array([each["removal"]["parameters"] for each in results])
    left.plot(fractions, sizes.mean(0), color=FAINT, marker=".", label="parameters (left axis)")
    left.fill_between(fractions, sizes.min(0), sizes.max(0), color=FAINT, alpha=0.2, linewidth=0)
    left.axhline(20522, color=FAINT, linestyle="--", label="dense network: 20,522")
    left.axhline(10261, color=FAINT, linestyle=":", label="half of it")
    left.set(xlabel="largest non-zero fraction of a removed unit", ylabel="parameters", ylim=(0, 21500))
    other = left.twinx()
    other.spines.right.set_visible(True)
    other.set_ylabel("test accuracy (%)")
    places = [fractions.index(each) for each in results[0]["removal"]["compared"]]
    for kind, (label, colour, line) in KINDS.items():
        accuracies = 100 * np.array([each["removal"][kind] for each in results])
        at = sizes if accuracies.shape[1] == len(fractions) else sizes[:, places]
        if at is sizes:
            other.plot(fractions, accuracies.mean(0), color=colour, linestyle=line)
        right.plot(at.mean(0), accuracies.mean(0), color=colour, linestyle=line, marker=".", label=label)
        right.fill_between(at.mean(0), accuracies.min(0), accuracies.max(0), color=colour, alpha=0.12, linewidth=0)
    right.axvline(10261, color=FAINT, linestyle=":", label="half of 20,522")
    right.set(xlabel="parameters that remain", ylabel="test accuracy (%)", title="Equal sizes")
    left.set_title("By fraction (colours as on the right)")
    left.legend(frameon=False, fontsize=6, loc="center right")
    right.legend(frameon=False, fontsize=7, loc="lower right")


PICTURES = (
    Picture("training", "Loss, held-out accuracy and schedule, all seeds.", (9, 2.9), training),
    Picture("convolutions", "Weight magnitudes of the convolutions, first seed.", (7, 4.6), convolutions),
    Picture("connected", "Weight magnitudes of the linear layers, first seed.", (8.5, 2.9), connected),
    Picture(
        "units", "Units of few non-zero weights removed, mean and range over seeds; obs chooses units of its own.",
        (8.5, 3.3), units,
    ),
)  # fmt: skip
