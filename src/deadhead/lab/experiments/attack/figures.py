"""Figures of the experiment `attack`: units through time, and what attacks did to them over all seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.experiments.attack.histograms import relu, squeezed, tanh, tanh_starts
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {"norm": "ReLU + batch norm", "tanh": "Tanh", "relu": "ReLU"}
ACCURACIES = {"norm": 67.0, "tanh": 64.0, "relu": 61.0}
"""The document's, in percent."""
LAYERS = {"conv1": KEPT, "conv2": REMOVED, "fc1": PREDICTED}
MARKERS = dict(zip(LAYERS, "osD", strict=True))
FIVE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
COLUMNS = {
    "mrp": "penalty (MRP)", "mrs": "saliency (MRS)", "output_gradient": "output gradient (L1)",
    "incoming": "weights (L1)", "outgoing": "outgoing weights (L1)", "loss": "training loss (nats)",
}  # fmt: skip
NOTE = "CIFAR-10 from JPEG copies: not comparable with published figures"


def intact(whole: Figure, results: Results) -> None:
    """Penalty and norm of conv1's units with batch norm through time, and the accuracies of all networks."""
    left, middle, right = whole.subplots(1, 3)
    for axes, name in ((left, "mrp"), (middle, "incoming")):
        for i, each in enumerate(results):
            units = [value for key, value in each["intact"].items() if key.startswith("norm conv1")]
            mean = np.mean([_numbers(unit[name]) for unit in units], 0) if units else []
            if units:
                axes.plot(units[0]["steps"], mean, color=KEPT, alpha=0.6, label=None if i else "a seed")
        axes.axvline(2000, color=REMOVED, linestyle=":", label="settled by (document)")
        axes.set(xlabel="steps", ylabel=f"{COLUMNS[name]}, mean of units")
        axes.legend(frameon=False, fontsize=7)
    left.set_title("conv1, ReLU + batch norm")
    middle.set_title("conv1, ReLU + batch norm")
    held = [name for name in NAMES if f"accuracies_{name}" in results[0]]
    for place, name in enumerate(held):
        values = [100 * each[f"accuracies_{name}"] for each in results]
        right.scatter([place] * len(values), values, color=KEPT, s=16, label=None if place else "a seed")
        right.plot(
            [place - 0.3, place + 0.3], [ACCURACIES[name]] * 2, color=REMOVED, label=None if place else "document"
        )
    right.set_xticks(range(len(held)), [NAMES[name].replace(" + ", " +\n") for name in held], fontsize=8)
    right.set(ylabel="test accuracy (%)", title="Accuracy")
    right.legend(frameon=False, fontsize=7)
    _say(whole)


def early(whole: Figure, results: Results) -> None:
    """Six quantities of attacked units through time, with batch norm, first seed."""
    every = [each for each in _curves(results[0], "early") if " conv1 " in each["key"]]
    rows = sorted(every, key=lambda each: float(each["q"] or 0))[:: max(1, len(every) - 1)]
    panels = whole.subplots(len(rows), len(COLUMNS), squeeze=False, sharex=True)
    for place, (row, curve) in enumerate(zip(panels, rows, strict=True)):
        beside = _until(results[0]["intact"][curve["key"]], curve["steps"][-1])
        for axes, (name, title) in zip(row, COLUMNS.items(), strict=True):
            axes.plot(beside["steps"], _numbers(beside[name]), color=INK, linestyle="--", label="intact")
            axes.plot(curve["steps"], _numbers(curve[name]), color=REMOVED, label="attacked")
            axes.set_ylim(bottom=0)
            axes.tick_params(labelsize=7)
            axes.locator_params(nbins=3)
            axes.set_title("" if place else title, fontsize=8)
        row[0].set_ylabel(f"unit {curve['key'].split()[2]} of conv1\nq = {curve['q']:.2f}", fontsize=8)
    panels[0, 0].legend(frameon=False, fontsize=7)
    whole.supxlabel(
        f"steps; ten attacks from step {rows[0]['start']} on, learning rate x{rows[0]['multiplier']:g}. {NOTE}",
        fontsize=8,
    )


def ratios(whole: Figure, results: Results) -> None:
    """The ratio q of every attack, by set, layer and network, all seeds."""
    sets = (
        ("early", "norm", "ReLU + batch norm,\nx100 from step 50"),
        ("late", "norm", "ReLU + batch norm,\nx1,000 from step 2,000"),
        ("late", "tanh", "Tanh,\nx1,000 from step 2,000"), ("late", "relu", "ReLU,\nx1,000 from step 2,000"),
        ("mild", "relu", "ReLU,\nx100 from step 2,000"),
    )  # fmt: skip
    axes = whole.subplots()
    draw = np.random.default_rng(0)
    for place, (name, network, _) in enumerate(sets):
        for shift, (layer, colour) in zip((-0.22, 0, 0.22), LAYERS.items(), strict=True):
            q = [c["q"] for each in results for c in _curves(each, name) if c["key"].startswith(f"{network} {layer} ")]
            jitter = draw.uniform(-0.06, 0.06, len(q))
            axes.scatter(
                np.maximum(_numbers(q), 1e-3), place + shift + jitter, color=colour, marker=MARKERS[layer], s=12,
                alpha=0.7, linewidths=0, label=None if place else layer,
            )  # fmt: skip
    axes.axvline(1, color=INK, linewidth=0.8, label="as intact")
    axes.axvline(0.5, color=FAINT, linestyle=":", label="killed: below 0.5")
    axes.set(xscale="log", xlabel="q: penalty over that of the intact unit, at least 0.001")
    axes.set_yticks(range(len(sets)), [title for _, _, title in sets], fontsize=8)
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=7, loc="upper left")
    _say(whole)


def losses(whole: Figure, results: Results) -> None:
    """How much attacks changed the training loss in the end, all seeds."""
    axes = whole.subplots()
    every = {
        "early_norm": "ReLU + batch norm, x100 early", "late_norm": "ReLU + batch norm, x1,000 late",
        "late_tanh": "Tanh, x1,000 late", "late_relu": "ReLU, x1,000 late", "mild_relu": "ReLU, x100 late",
    }  # fmt: skip
    sets = [(name, title) for name, title in every.items() if f"{name}_loss_change" in results[0]]
    for place, (name, _) in enumerate(sets):
        values = _numbers([each[f"{name}_loss_change"] for each in results])
        axes.scatter(100 * values, [place] * len(values), color=KEPT, s=16, label=None if place else "a seed")
    axes.axvline(2, color=REMOVED, linestyle=":", label="limit of the judge")
    axes.set_yticks(range(len(sets)), [title for _, title in sets], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("mean absolute change of the training loss (%)")
    axes.legend(frameon=False, fontsize=7)
    _say(whole)


def starts(whole: Figure, results: Results) -> None:
    """Attacks from different steps on: penalty, weights and output gradient of two units, first seed."""
    _compared(whole, results[0], "starts", "start", "from step {:g} on", ("mrp", "incoming", "output_gradient"))


def multipliers(whole: Figure, results: Results) -> None:
    """Attacks of different multipliers: penalty, weights and output gradient of two units, first seed."""
    _compared(whole, results[0], "multipliers", "multiplier", "x{:g}", ("mrp", "incoming"))


def _compared(
    whole: Figure, first: Mapping[str, Any], name: str, what: str, label: str, columns: Sequence[str]
) -> None:
    panels = whole.subplots(2, len(columns), squeeze=False)
    for place, (row, layer) in enumerate(zip(panels, ("conv1", "conv2"), strict=True)):
        curves = [each for each in _curves(first, name) if each["key"] == f"norm {layer} 0"]
        for axes, column in zip(row, columns, strict=True):
            if curves:
                beside = _until(first["intact"][curves[0]["key"]], curves[0]["steps"][-1])
                axes.plot(beside["steps"], _numbers(beside[column]), color=INK, linestyle="--", label="intact")
            for curve, colour in zip(sorted(curves, key=lambda c: float(c[what])), FIVE, strict=False):
                axes.plot(
                    curve["steps"], _numbers(curve[column]), color=colour, marker=".", markersize=4, linewidth=1.2,
                    label=label.format(curve[what]),
                )  # fmt: skip
            axes.set_ylim(bottom=0)
            axes.set_title("" if place else COLUMNS[column], fontsize=9)
            axes.tick_params(labelsize=7)
            axes.locator_params(nbins=3)
        row[0].set_ylabel(f"unit 0 of {layer}")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    if handles:
        whole.legend(handles, labels, loc="outside right center", frameon=False, fontsize=7)
    whole.supxlabel(f"steps. {NOTE}", fontsize=8)


def ranks(whole: Figure, results: Results) -> None:
    """How well each measure ranks the units of a layer as the penalty does."""
    left, right = whole.subplots(1, 2, width_ratios=(2, 1))
    names = results[0]["mrs_rho_of"]
    for i, each in enumerate(results):
        left.scatter(
            _numbers(each["mrs_rho"]), range(len(names)), color=KEPT, s=14, alpha=0.7, label=None if i else "a seed"
        )
    left.axvline(0.8, color=REMOVED, linestyle=":", label="limit of the judge")
    left.set_yticks(range(len(names)), names, fontsize=8)
    left.invert_yaxis()
    left.set(xlabel="Spearman's rho of saliency and penalty", title="Saliency (MRS), by network and layer")
    left.legend(frameon=False, fontsize=7)
    measures = {"mrs": "saliency", "output_gradient": "output\ngradient", "incoming": "weights (L1)"}
    for place, name in enumerate(measures):
        values = [each["mean_rho"][name] for each in results]
        right.scatter([place] * len(values), _numbers(values), color=KEPT, s=14)
    right.set_xticks(range(3), list(measures.values()), fontsize=8)
    right.set(ylabel="Spearman's rho with the penalty", title="Mean over layers")
    right.axhline(0, color=FAINT, linewidth=0.8)
    _say(whole)


def norms(whole: Figure, results: Results) -> None:
    """Penalty against norm of weights of attacked units, over the intact ones', all seeds."""
    panels = whole.subplots(1, 3, sharex=True, sharey=True)
    for axes, (network, title) in zip(panels, NAMES.items(), strict=True):
        for layer, colour in LAYERS.items():
            pairs = [
                (curve["incoming"][-1] / each["intact"][curve["key"]]["incoming"][at], max(curve["q"], 1e-3))
                for each in results for curve in each["curves"] if curve["key"].startswith(f"{network} {layer} ")
                for at in [each["intact"][curve["key"]]["steps"].index(curve["steps"][-1])]
            ]  # fmt: skip
            if pairs:
                axes.scatter(
                    *np.array(pairs).T, color=colour, marker=MARKERS[layer], s=10, alpha=0.6, linewidths=0, label=layer
                )
        axes.axhline(1, color=FAINT, linewidth=0.8)
        axes.axvline(1, color=FAINT, linewidth=0.8)
        axes.set(xscale="log", yscale="log", title=title, xlabel="weights (L1), over intact")
    panels[0].set_ylabel("penalty, over intact (q)")
    panels[0].legend(frameon=False, fontsize=7)
    _say(whole)


def states(whole: Figure, results: Results) -> None:
    """What becomes of frozen and dead units, and of the neighbours of a ReLU unit whose penalty was raised."""
    left, right, last = whole.subplots(1, 3, width_ratios=(4, 4, 1.6))
    shares = {"frozen_stay": "frozen at half:\nfrozen at the end", "dead_stay": "dead at half:\ndead at the end",
              "dead_frozen": "dead at the end:\nfrozen, too"}  # fmt: skip
    for place, name in enumerate(shares):
        values = _numbers([100 * each[name] for each in results if each[name] is not None])
        left.scatter([place] * len(values), values, color=KEPT, s=16, label=None if place else "a seed")
    left.set_xticks(range(3), list(shares.values()), fontsize=8)
    left.set(ylabel="units (%)", ylim=(-3, 103), title="Of all networks' units")
    counts = {"dead_at_end": "dead", "frozen_not_dead": "frozen,\nnot dead", "attacked": "attacked\nunits",
              "diverged": "attacks that\nended training"}  # fmt: skip
    for place, name in enumerate(counts):
        right.scatter([place] * len(results), [each[name] for each in results], color=KEPT, s=16)
    right.set_xticks(range(4), list(counts.values()), fontsize=8)
    right.set(ylabel="count", title="At the end")
    last.scatter([0] * len(results), _numbers([each["others_log_ratio"] for each in results]), color=KEPT, s=16)
    last.axhline(0, color=FAINT, linewidth=0.8)
    last.set_xticks([])
    last.set(ylabel="log ratio of the summed penalty", title="Other ReLU\nunits")
    left.legend(frameon=False, fontsize=7)
    _say(whole)


def _curves(result: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    yield from (each for each in result["curves"] if each["set"] == name)


def _until(series: Mapping[str, Any], last: float) -> dict[str, list[float]]:
    count = sum(step <= last for step in series["steps"])
    return {name: values[:count] for name, values in series.items()}


def _numbers(values: Sequence[Any]) -> Any:
    return np.array([np.nan if each is None else each for each in values], dtype=float)


def _say(whole: Figure) -> None:
    whole.supxlabel(NOTE, fontsize=8, color=FAINT)


FIRST = "first seed."
PICTURES = (
    Picture("intact", "The intact networks.", (7.5, 2.3), intact),
    Picture("early", f"Attacked units of conv1 with batch norm, and the same units intact; {FIRST}", (8.5, 2.6), early),
    Picture("ratios", "Penalty of every attacked unit over the intact one's, all seeds.", (6.5, 3.6), ratios),
    Picture("losses", "Attacks and the training loss, all seeds.", (5.5, 2.4), losses),
    Picture("histograms", f"Values of two attacked units of conv1 with batch norm; {FIRST}", (7, 3), squeezed),
    Picture("starts", f"Attacks from different steps on, with batch norm; {FIRST}", (7, 3), starts),
    Picture("multipliers", f"Attacks of different strengths, with batch norm; {FIRST}", (5.5, 3), multipliers),
    Picture("tanh", f"Activations of units of conv1 with Tanh; {FIRST}", (6.5, 3.2), tanh),
    Picture(
        "tanh_starts", f"Unit 16 of fc1 with Tanh, attacked from different steps on; {FIRST}", (7.5, 3.2), tanh_starts
    ),
    Picture("relu", f"Raw outputs of units of conv2 with ReLU, attacked with x1,000; {FIRST}", (6.5, 3.2), relu),
    Picture("ranks", "Measures against the penalty, at the end of every run.", (6.5, 2.5), ranks),
    Picture("norms", "Penalty and norm of attacked units, all seeds and sets.", (6.5, 2.4), norms),
    Picture("states", "Dead and frozen units; neighbours of ReLU units that gained.", (7.5, 2.6), states),
)
