"""Figures of the experiment `parameter_saliencies`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"loss_change": INK, "taylor1": KEPT, "taylor2": REMOVED, "hessian_row": PREDICTED}
NAMES = {
    "loss_change": "loss change", "taylor1": "Taylor 1", "taylor2": "Taylor 2", "hessian_row": "Hessian row",
    "magnitude": "magnitude", "random": "random", "surgeon": "optimal brain surgeon",
}  # fmt: skip
BLUE, GOLD = "#2166ac", "#c9a227"


def _named(name: str) -> str:
    first, _, rest = name.partition(", ")
    return NAMES[first] + (f", {rest}" if rest else "")


def _smooth(values: Any, window: int = 7) -> Any:
    wide = np.pad(np.asarray(values, float), window // 2, mode="edge")
    return np.convolve(wide, np.full(window, 1 / window), "valid")


def _line(axes: Any, results: Results, activation: str, values: list[Any], **how: Any) -> None:
    """Mean over seeds of smoothed curves, with the range over seeds."""
    steps = results[0][activation]["steps"]
    each = np.array([_smooth(value) for value in values])
    axes.plot(steps, each.mean(0), linewidth=1.2, **how)
    axes.fill_between(steps, each.min(0), each.max(0), color=how["color"], alpha=0.12, linewidth=0)


def negative(whole: Figure, results: Results) -> None:
    """Fraction of negative saliencies through training (figure 2.1)."""
    panels = whole.subplots(1, 2, sharey=True)
    for axes, activation in zip(panels, ("relu", "tanh"), strict=True):
        for name, colour in COLOURS.items():
            values = [100 * np.array(each[activation]["negative"][name]) for each in results]
            _line(axes, results, activation, values, color=colour, label=NAMES[name])
        axes.axhline(35, color=FAINT, linestyle=":", label="thesis: about 35 %")
        axes.set(xlabel="training step", title={"relu": "ReLU", "tanh": "Tanh"}[activation], ylim=(0, 100))
    panels[0].set_ylabel("negative saliencies of conv1 (%)")
    panels[0].legend(frameon=False, fontsize=7)


def groups(whole: Figure, results: Results) -> None:
    """Few weights removed together through training, tanh (figures 2.2 and 2.3), and what they add to their own."""
    panels = whole.subplots(1, 3)
    for axes, fraction in zip(panels, sorted(results[0]["tanh"]["changes"])[:2], strict=False):
        for name, values in results[0]["tanh"]["changes"][fraction].items():
            if name in COLOURS or name == "random":
                values = [each["tanh"]["changes"][fraction][name] for each in results]
                _line(axes, results, "tanh", values, color=COLOURS.get(name, FAINT), label=_named(name))
        held = [each["tanh"]["held_out"][fraction] for each in results]
        _line(axes, results, "tanh", held, color=BLUE, linestyle="--", label="loss change, held-out images")
        count = round(float(fraction) * 200)
        axes.axhline(0, color=FAINT, linewidth=0.8)
        axes.set(xlabel="training step", title=f"{count} of 200 weights, tanh")
    panels[1].set_yscale("symlog", linthresh=0.01)
    panels[0].set_ylabel("change of the loss (nats)")
    whole.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False, fontsize=7)
    for activation, line in (("relu", "-"), ("tanh", "--")):
        for name, colour in (("loss_change", INK), ("loss_change, absolute", KEPT)):
            values = [each[activation]["interactions"][name] for each in results]
            label = f"{'lowest' if name in COLOURS else 'smallest absolute'}, {activation}"
            _line(panels[2], results, activation, values, color=colour, linestyle=line, label=label)
    panels[2].axhline(0, color=FAINT, linewidth=0.8)
    panels[2].set(xlabel="training step", ylabel="change together less sum alone (nats)", title="10 by loss change")
    panels[2].set_yscale("symlog", linthresh=0.001)
    panels[2].legend(frameon=False, fontsize=6)


def most(whole: Figure, results: Results) -> None:
    """Most weights removed together through training (figure 2.5)."""
    panels = whole.subplots(1, 2, sharey=True)
    for axes, activation in zip(panels, ("relu", "tanh"), strict=True):
        changes = [each[activation]["changes"][max(each[activation]["changes"])] for each in results]
        for name in changes[0]:
            if "1/2" not in name:
                colour = {"magnitude": BLUE, "random": FAINT, "surgeon": GOLD}.get(name) or COLOURS[
                    name.partition(",")[0]
                ]
                line = ":" if name in COLOURS else "-"
                values = [each[name] for each in changes]
                _line(axes, results, activation, values, color=colour, linestyle=line, label=_named(name))
        axes.set(xlabel="training step", title={"relu": "ReLU", "tanh": "Tanh"}[activation])
    panels[0].set_ylabel("change of the loss, 160 of 200 weights (nats)")
    panels[0].set_yscale("symlog", linthresh=0.1)
    whole.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=7)


def ranks(whole: Figure, results: Results) -> None:
    """Rank maps of conv1 at the end, first seed (figures 2.4 and 2.6), with rank correlations over seeds."""
    found = results[0]["ranks"]
    shown = [*COLOURS, "random", *(f"{name}, absolute" for name in COLOURS), "magnitude"]
    panels = whole.subplots(2, 5)
    for axes, name in zip(panels.flat, shown, strict=True):
        picture = np.full((4 * 6 - 1, 2 * 6 - 1), np.nan)
        for unit, values in enumerate(np.array(found[name]).reshape(8, 5, 5)):
            top, left = 6 * (unit // 2), 6 * (unit % 2)
            picture[top : top + 5, left : left + 5] = values
        image = axes.imshow(picture, cmap="cividis", vmin=0, vmax=199)
        axes.set_title(_named(name).replace(", absolute", ",\nabsolute"), fontsize=8)
        axes.set_axis_off()
    whole.colorbar(image, ax=list(panels.flat), shrink=0.6).set_label("rank among conv1's 200 weights", fontsize=7)


def greedy(whole: Figure, results: Results) -> None:
    """Two by two, scored anew each time, at the end of training: the images that chose, and held-out ones."""
    axes = whole.subplots()
    for key, label, colour in (
        ("one_ranking", "one ranking, images that chose", FAINT), ("scored", "scored anew, images that chose", KEPT),
        ("held_out", "scored anew, test images", REMOVED),
    ):  # fmt: skip
        values = np.array([np.array(each["greedy"][key]) - each["greedy"][key][0] for each in results])
        at = 2 * np.arange(values.shape[1])
        axes.plot(at, values.mean(0), color=colour, marker=".", label=label)
        axes.fill_between(at, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.set(
        xlabel="weights of conv1 removed", ylabel="change of the loss (nats)", title="By loss change, ReLU, at the end"
    )
    axes.legend(frameon=False, fontsize=7)


def times(whole: Figure, results: Results) -> None:
    """Run times of scoring all parameters (table 2.1)."""
    axes = whole.subplots()
    thesis = {"taylor1": 0.088, "taylor2": 0.564, "hessian_row": 0.483, "magnitude": 0.00006}
    widths = [int(key.removeprefix("seconds_x")) for key in results[0] if key.startswith("seconds_x")]
    for i, name in enumerate(thesis):
        for width, colour in zip(widths, (KEPT, REMOVED), strict=False):
            values = [each[f"seconds_x{width}"][name] for each in results]
            label = f"{width} x 8-16-64 units" if i == 0 else None
            axes.scatter(values, [i + 0.12 * (width > 1)] * len(values), color=colour, s=14, label=label)
        axes.scatter([thesis[name]], [i - 0.15], color=INK, marker="|", s=80, label="thesis" if i == 0 else None)
    axes.set_yticks(range(4), [NAMES[name] for name in thesis])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="seconds for all parameters, 1,000 images, one core")
    axes.legend(frameon=False, fontsize=7)


PICTURES = (
    Picture("negative", "Fraction of negative saliencies, smoothed, mean and range over seeds.", (7.5, 2.9), negative),
    Picture("groups", "Few weights removed together, smoothed, mean and range over seeds.", (9.5, 3.4), groups),
    Picture("most", "Four fifths of the weights removed, smoothed, mean and range over seeds.", (8.5, 3.6), most),
    Picture("ranks", "Ranks at the end of training, ReLU, first seed; a square is a unit.", (7.5, 4.6), ranks),
    Picture("greedy", "Weights removed two by two, mean and range over seeds.", (5.2, 3), greedy),
    Picture("times", "Run times, medians of each seed.", (6, 2.4), times),
)
