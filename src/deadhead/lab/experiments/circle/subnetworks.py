"""Random subnetworks of the experiment `circle`: losses, how normal their logarithms are, gradients by the gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deadhead.lab.experiments.circle.network import Gated
from deadhead.lab.lazily import stats
from deadhead.lab.measures.distributions import Array, density, lilliefors, normal_distance
from deadhead.lab.measures.unimodal import dip_test, silverman

PROBABILITIES = (0.25, 0.5, 0.75)
SIZES = (20, 50, 100, 200, 500, 1000)
"""Numbers of networks at which the log loss is tested for normality."""


@dataclass(frozen=True)
class Drawn:
    """Random subnetworks.

    Args:
        gates: (networks, units), 0.0 or 1.0.
        losses: (networks,) in nats.
        gradients: (networks, units) of the loss by the gates.
    """

    gates: Array
    losses: Array
    gradients: Array

    @property
    def log_gradients(self) -> Array:
        """Of the log loss by the gates."""
        return np.asarray(self.gradients / self.losses[:, None])


def random_gates(count: int, net: Gated, p: float, draw: np.random.Generator) -> Array:
    """(count, units): each unit is on with that probability."""
    return (draw.random((count, len(net.vote))) < p).astype(float)


def drawn_from(count: int, net: Gated, x: Array, y: Array, draw: np.random.Generator) -> list[Drawn]:
    """Random subnetworks for each probability.

    Args:
        count: for each.
        net: the network.
        x: (points, 2) on which losses are measured.
        y: (points,) 1.0 outside.
        draw: of the gates.
    """
    gates = [random_gates(count, net, p, draw) for p in PROBABILITIES]
    return [Drawn(b, net.losses(x, y, b), net.gradients(x, y, b)) for b in gates]


def tables(drawn: Sequence[Drawn]) -> dict[str, Any]:
    """Means and standard deviations for each probability: the essay's tables, and the loss's own deviation."""
    found: dict[str, Any] = {}
    for name, values in (
        ("loss", [each.losses for each in drawn]),
        ("log_loss", [np.log(each.losses) for each in drawn]),
        ("gradient", [each.gradients for each in drawn]),
        ("log_gradient", [each.log_gradients for each in drawn]),
    ):
        found[f"{name}_mean"] = [float(v.mean()) for v in values]
        found[f"{name}_spread"] = [float(v.std()) for v in values]
    found["losses"] = [each.losses.round(4).tolist() for each in drawn]
    return found


def normality(count: int, net: Gated, x: Array, y: Array, draw: np.random.Generator) -> dict[str, Any]:
    """How near the log loss is to a normal distribution, and how many networks it takes to tell them apart.

    `ignorant` is how many times as many networks as the fitted normal would have lose, to 10 %, what the best constant
    answer loses: the entropy of y.
    """
    names = ("log_distance", "log_distance_gain", "log_skewness", "lilliefors_p", "normal_up_to", "ignorant")
    found: dict[str, Any] = {name: [] for name in names}
    constant = np.log(stats.bernoulli(y.mean()).entropy())
    for p in PROBABILITIES:
        losses = net.losses(x, y, random_gates(4 * count, net, p, draw))
        logs, first = np.log(losses), np.log(losses[:count])
        distance, passed = normal_distance(first), 0
        for size in (each for each in SIZES if each <= count):
            tried = [lilliefors(part) for part in np.split(logs[: len(logs) // size * size], len(logs) // size)[:20]]
            passed = size if np.mean(np.array(tried) > 0.05) >= 0.8 else passed
        found["log_distance"].append(distance)
        found["log_distance_gain"].append(normal_distance(losses[:count]) - distance)
        found["log_skewness"].append(float(stats.skew(logs)))
        found["lilliefors_p"].append(lilliefors(first))
        found["normal_up_to"].append(passed)
        low, high = stats.norm.cdf([constant - 0.1, constant + 0.1], logs.mean(), logs.std())
        found["ignorant"].append(float((np.abs(logs - constant) < 0.1).mean() / (high - low)))
    return found


def gradients(drawn: Sequence[Drawn]) -> dict[str, Any]:
    """Gradients of loss and log loss by the gates."""
    raw, logs = [each.gradients for each in drawn], [each.log_gradients for each in drawn]
    table, half, on = tables(drawn), logs[1], drawn[1].gates > 0.5
    means, log_spreads = table["gradient_mean"], table["log_gradient_spread"]
    by_node = half.std(0)
    live = by_node > 1e-9
    small = live & (by_node < np.median(by_node[live]) / 3)
    sides = [[half[side[:, i], i] for i in np.flatnonzero(live) if side[:, i].any()] for side in (on, ~on)]
    return {
        "gradient_kurtosis": [float(stats.kurtosis(g.ravel())) for g in raw],
        "kurtosis_of_a_unit": [float(np.median(stats.kurtosis(g[:, live]))) for g in raw],
        "gradient_mean_in_spreads": [abs(m) / v for m, v in zip(means, table["gradient_spread"], strict=True)],
        "gradient_steps": [means[1] - means[0], means[2] - means[1]],
        "predicted_to_measured": 10 * means[1] / (table["loss_mean"][2] - table["loss_mean"][0]),
        "log_gradient_spread_steps": [log_spreads[1] - log_spreads[0], log_spreads[2] - log_spreads[1]],
        "trough": [_trough(g[np.abs(g) > 0]) for g in logs],
        "trough_without_small_units": [_trough(g[:, live & ~small].ravel()) for g in logs],
        "small_units": int(small.sum()),
        "on_gradient": float(half[on].mean()),
        "off_gradient": float(half[~on].mean()),
        "node_spread_ratio": float(by_node[live].max() / by_node[live].min()),
        "one_peak_p": [dip_test(half[side]) for side in (on, ~on)],
        "silverman_p": [silverman(half[side & (half != 0)], 0) for side in (on, ~on)],
        "units_with_one_peak": [float(np.mean([dip_test(v) > 0.05 for v in side])) for side in sides],
    } | _gradient_curves(raw, logs, on)


def _gradient_curves(raw: Sequence[Array], logs: Sequence[Array], on: Any) -> dict[str, Any]:
    """Densities of gradients, kernel 0.03."""
    curve, half = np.linspace(-1.5, 1.5, 121), logs[1]

    def smooth(values: Array) -> list[float]:
        return [float(v) for v in density(values.ravel(), curve, 0.03).round(3)] if len(values) else [0.0] * len(curve)

    return {
        "gradient_axis": curve.round(3).tolist(),
        "gradient_density": [smooth(g) for g in raw],
        "log_gradient_density": [smooth(g[np.abs(g) > 0]) for g in logs],
        "on_off_density": [smooth(half[side & (half != 0)]) for side in (on, ~on)],
        "node_density": [[smooth(half[side[:, i], i]) for side in (on, ~on)] for i in range(half.shape[1])],
    }


def _trough(values: Array) -> float:
    """Density at zero over the lower of the peaks within 0.3 on each side."""
    near = np.linspace(-0.3, 0.3, 121)
    curve = density(values, near, 0.03)
    return float(curve[60] / min(curve[:60].max(), curve[61:].max()))
