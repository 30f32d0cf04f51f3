"""Figures of the experiment `rules`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deadhead.drawing import FAINT, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMS = {
    "q_form": ("form Q", KEPT, "o", "-"),
    "r_form": ("form R", REMOVED, "s", "--"),
    "r_form_blip": ("form R with blip", PREDICTED, "^", "-"),
}
METHODS = {
    "lrp": ("LRP, bias outside the denominator", REMOVED, "s"),
    "lrp_epsilon": ("LRP-epsilon, bias inside (blip)", PREDICTED, "^"),
    "blame_bias": ("blame the bias", KEPT, "o"),
}


def near_zero(whole: Figure, results: Results) -> None:
    """Error in float32 against the size of the planted sums, mean and range over seeds."""
    axes = whole.subplots()
    sums = results[0]["planted_sums"]
    for name, (label, color, marker, line) in FORMS.items():
        values = np.array([each["near_zero"][name] for each in results])
        axes.plot(sums, values.mean(0), color=color, marker=marker, linestyle=line, label=label, markersize=4)
        axes.fill_between(sums, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
    axes.set(xscale="log", yscale="log", xlabel="planted sums of the first layer", ylabel="relative error in float32")
    axes.axvline(1e-6, color=FAINT, linewidth=0.8, linestyle=":", label="judged here")
    axes.legend(frameon=False, fontsize=7)


def biases(whole: Figure, results: Results) -> None:
    """Relevance over output against the scale of the biases, mean and range over seeds."""
    axes = whole.subplots()
    scales = results[0]["bias_scales"]
    for name, (label, color, marker) in METHODS.items():
        values = np.array([each[f"{name}_blowup"] for each in results])
        axes.plot(scales, values.mean(0), color=color, marker=marker, label=label, markersize=4)
        axes.fill_between(scales, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
    axes.set(
        xscale="log", yscale="log", xlabel="biases multiplied by", ylabel="sum of |R| over output, 99th percentile"
    )
    axes.set_xticks(scales, [f"{each:g}" for each in scales])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=7)


def combinations(whole: Figure, results: Results) -> None:
    """Departure from superposition of each combination of rules, largest over seeds."""
    axes = whole.subplots()
    names = list(results[0]["superposition"])
    errors = [max(max(each["superposition"][name] for each in results), 1e-17) for name in names]
    for kind, color, marker in (("repeat", REMOVED, "s"), ("other", KEPT, "o")):
        chosen = [i for i, name in enumerate(names) if (", repeat," in name) == (kind == "repeat")]
        label = "with repeat" if kind == "repeat" else "without repeat"
        axes.scatter([errors[i] for i in chosen], chosen, color=color, marker=marker, s=16, label=label)
    axes.axvline(1e-12, color=FAINT, linewidth=0.8, linestyle=":", label="tolerance")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="relative departure from superposition")
    axes.set_title("rules for matrix, nonlinearity, maximum", loc="left")
    axes.legend(frameon=False, fontsize=7)


PICTURES = (
    Picture("near-zero", "Sums near zero, in float32: errors of the forms R and Q (no biases).", (5.5, 3.4), near_zero),
    Picture("biases", "Relevance under large biases, as a multiple of the output.", (5.5, 3.4), biases),
    Picture(
        "combinations", "Superposition for each combination of rules: only repeat breaks it.", (6, 4), combinations
    ),
)
