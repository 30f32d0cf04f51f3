"""From looks to what the figures of `attack` show: units through time, and histograms through time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deadhead.lab.experiments.attack.looks import PLACES, Look
from deadhead.lab.experiments.attack.outcomes import outcomes
from deadhead.lab.experiments.attack.runs import Run

SERIES = ("mrp", "mrs", "output_gradient", "incoming", "outgoing")
BINS = 24
STEPS = 7
"""So many looks have their histograms kept, evenly spread."""


def shown(looks: Mapping[Run, Sequence[Look]]) -> dict[str, Any]:
    """Series of every attacked unit with and without its attack, and histograms of those that the figures show."""
    found = outcomes(looks)
    curves, intact = [], {}
    for each in found:
        run = each.run
        key = f"{run.network} {run.layer} {run.unit}"
        whole = next(held for other, held in looks.items() if other.set == "intact" and other.network == run.network)
        intact[key] = _series(whole, run)
        series = _series(each.looks, run)
        series["loss"][0] = None  # its first interval is shorter than the intact network's
        named = {"set": run.set, "key": key, "start": run.start, "multiplier": run.multiplier, "q": _short(each.q)}
        curves.append(named | series)
    histograms = [
        {"set": each.run.set, "key": f"{each.run.network} {each.run.layer} {each.run.unit}", "start": each.run.start,
         "multiplier": each.run.multiplier, **_histograms(each.looks, each.intact, each.run)}
        for each in found if _is_shown(each.run)
    ]  # fmt: skip
    return {"curves": curves, "intact": intact, "histograms": histograms}


def _is_shown(run: Run) -> bool:
    shown = {
        ("early", "norm", "conv1"),
        ("late", "tanh", "conv1"),
        ("late", "relu", "conv2"),
        ("starts", "tanh", "fc1"),
    }
    return (run.set, run.network, run.layer) in shown


def _series(looks: Sequence[Look], run: Run) -> dict[str, Any]:
    units: dict[str, Any] = {
        name: [_short(float(getattr(each, name)[run.layer][run.unit])) for each in looks] for name in SERIES
    }
    losses = {"loss": [_short(each.training_loss) for each in looks]}
    return {"steps": [each.step for each in looks]} | units | losses


def _histograms(looks: Sequence[Look], intact: Sequence[Look], run: Run) -> dict[str, Any]:
    """Counts per thousand through time, attacked and intact, in the same bins: over all but the outer 1 % of values."""
    places = np.unique(np.linspace(0, len(looks) - 1, min(STEPS, len(looks))).round().astype(int))
    found: dict[str, Any] = {"steps": [looks[i].step for i in places]}
    for place in PLACES:
        held = {
            name: [each[i].values[run.layer][run.unit][place].double().numpy() for i in places]
            for name, each in (("attacked", looks), ("intact", intact))
        }
        every = np.concatenate([*held["attacked"], *held["intact"]])
        low, high = np.quantile(every, [0.005, 0.995])
        high = high if high > low else low + 1
        counts = {
            name: [
                np.round(1000 * np.histogram(np.clip(x, low, high), BINS, (low, high))[0] / len(x)).astype(int).tolist()
                for x in values
            ]
            for name, values in held.items()
        }
        found[place] = {"low": _short(float(low)), "high": _short(float(high)), **counts}
    return found


def _short(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
