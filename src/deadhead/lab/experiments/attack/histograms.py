"""Figures of the experiment `attack`: histograms of units' values through time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import INK, REMOVED
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = "CIFAR-10 from JPEG copies: not comparable with published figures"


def squeezed(whole: Figure, results: Results) -> None:
    """With batch norm: raw outputs and what the next layer reads, of the unit most and least harmed; first seed."""
    held = _held(results, "early", "norm conv1")
    q = {each["key"]: each["q"] for each in results[0]["curves"] if each["set"] == "early"}
    ordered = sorted(held, key=lambda each: float(q[each["key"]] or 0))
    panels = whole.subplots(2, 4, squeeze=False)
    for row, each in zip(panels, (ordered[0], ordered[-1]) if ordered else (), strict=False):
        for axes, (place, name) in zip(row, _pairs(("producer", "consumer")), strict=True):
            _draw(axes, each, place, name)
            axes.set_title(f"{'raw output' if place == 'producer' else 'after ReLU, batch norm'}, {name}", fontsize=8)
        row[0].set_ylabel(f"unit {each['key'].split()[2]}, q = {q[each['key']]:.2f}\nvalue", fontsize=8)
    whole.supxlabel(f"steps; darker: more of the values. {NOTE}", fontsize=8)


def tanh(whole: Figure, results: Results) -> None:
    """With Tanh: activations of the attacked units of conv1, intact and attacked; first seed."""
    _units(whole, results, "late", "tanh conv1", "consumer", "activation")


def relu(whole: Figure, results: Results) -> None:
    """With ReLU: raw outputs of the attacked units of conv2, intact and attacked; first seed."""
    _units(whole, results, "late", "relu conv2", "producer", "raw output")


def tanh_starts(whole: Figure, results: Results) -> None:
    """With Tanh: penalty and activations of a unit of fc1, attacked from different steps on; first seed."""
    held = sorted(_held(results, "starts", "tanh fc1"), key=lambda each: int(each["start"]))
    panels = whole.subplots(2, max(2, len(held)), squeeze=False)
    every = (each for each in results[0]["curves"] if each["set"] == "starts" and each["key"].startswith("tanh fc1"))
    curves = sorted(every, key=lambda each: int(each["start"]))
    for axes, name, title in zip(panels[0], ("mrp", "incoming"), ("penalty (MRP)", "weights (L1)"), strict=False):
        for curve, colour in zip(curves, ("#0072b2", "#d55e00", "#009e73"), strict=False):
            axes.plot(curve["steps"], curve[name], color=colour, marker=".", label=f"from step {curve['start']} on")
        if curves:
            beside = results[0]["intact"][curves[0]["key"]]
            count = sum(step <= max(curve["steps"][-1] for curve in curves) for step in beside["steps"])
            axes.plot(beside["steps"][:count], beside[name][:count], color=INK, linestyle="--", label="intact")
        axes.set_title(title, fontsize=8)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=7)
        axes.locator_params(nbins=4)
    for axes in panels[0, 2:]:
        axes.set_axis_off()
        axes.legend(*panels[0, 0].get_legend_handles_labels(), frameon=False, fontsize=7, loc="center")
    for axes, each in zip(panels[1], held, strict=False):
        _draw(axes, each, "consumer", "attacked")
        axes.set_title(f"attacked from step {each['start']} on", fontsize=8)
    panels[1, 0].set_ylabel("activation", fontsize=8)
    whole.supxlabel(f"steps; darker: more of the values. {NOTE}", fontsize=8)


def _units(whole: Figure, results: Results, name: str, key: str, place: str, what: str) -> None:
    held = _held(results, name, key)[:4]
    q = {each["key"]: each["q"] for each in results[0]["curves"] if each["set"] == name}
    panels = whole.subplots(2, max(1, len(held)), squeeze=False)
    for column, each in zip(panels.T, held, strict=False):
        for axes, kind in zip(column, ("intact", "attacked"), strict=True):
            _draw(axes, each, place, kind)
            ratio = f", q = {q[each['key']]:.2f}" if kind == "attacked" else ""
            axes.set_title(f"unit {each['key'].split()[2]}, {kind}{ratio}", fontsize=8)
    for axes in panels[:, 0]:
        axes.set_ylabel(what, fontsize=8)
    whole.supxlabel(f"steps; darker: more of the values. {NOTE}", fontsize=8)


def _held(results: Results, name: str, key: str) -> list[Mapping[str, Any]]:
    return [each for each in results[0]["histograms"] if each["set"] == name and each["key"].startswith(f"{key} ")]


def _pairs(places: Sequence[str]) -> list[tuple[str, str]]:
    return [(place, name) for place in places for name in ("intact", "attacked")]


def _draw(axes: Any, each: Mapping[str, Any], place: str, name: str) -> None:
    """One histogram through time, a column for each look, darker where more of the values lie."""
    shares = np.array(each[place][name], dtype=float)
    shares = (shares / shares.max(1, keepdims=True).clip(1)) ** 0.5
    edges = np.linspace(each[place]["low"], each[place]["high"], shares.shape[1] + 1)
    axes.pcolormesh(np.arange(len(shares) + 1), edges, shares.T, cmap="Greys", vmin=0, vmax=1, rasterized=True)
    every = -(-len(shares) // 4)
    axes.set_xticks(np.arange(len(shares))[::every] + 0.5, [str(step) for step in each["steps"][::every]], fontsize=6)
    axes.locator_params(axis="y", nbins=4)
    axes.tick_params(labelsize=6)
    if name == "attacked":
        for side in axes.spines.values():
            side.set(color=REMOVED, visible=True)
