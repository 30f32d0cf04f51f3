"""A circle, learned by 20 hidden units: what a network loses where a random part of its units is closed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats  # type: ignore[import-untyped]
from torch import Tensor, nn

from deadhead.lab.distributions import Array, density, lilliefors, normal_distance, partial_rank_correlation
from deadhead.lab.unimodal import dip_test, silverman
from deadhead.lab.experiments.circle_claims import CLAIMS
from deadhead.lab.experiments.circle_figures import PICTURES
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.train import fit
from deadhead.progress import Progress, track

PROBABILITIES = (0.25, 0.5, 0.75)
LISTING_RADIUS = math.sqrt(math.sqrt(2 / math.pi))
"""The text has a circle of radius sqrt(2 / pi), half of the square; the listing compares the squared radius with it."""


@dataclass(frozen=True)
class Circle:
    """Settings.

    Args:
        units: hidden units.
        points: training points.
        test_points: fixed points on which every loss is measured (a choice: the essay's size of a batch).
        epochs: passes over the training points.
        learning_rate: Adam's.
        batch_size: of training (a choice: Keras' default).
        radius: of the circle: the text's; the listing's is 0.893.
        networks: random gate vectors for each probability.
        paths: random paths of flips (a choice: the essay has no number).
        flips: single flips whose effect on labels is measured (a choice).
        draws: repetitions of the essay's draw of 1,000 gate vectors, for what chance gives.
        grid: points along each side of a map.
    """

    units: int = 20
    points: int = 1000
    test_points: int = 1000
    epochs: int = 20
    learning_rate: float = 0.01
    batch_size: int = 32
    radius: float = math.sqrt(2 / math.pi)
    networks: int = 1000
    paths: int = 2000
    flips: int = 500
    draws: int = 200
    grid: int = 81


QUICK = {"points": 300, "epochs": 10, "networks": 60, "paths": 60, "flips": 30, "draws": 10, "grid": 21}


@dataclass(frozen=True)
class Gated:
    """Two logits behind gates on the hidden units: their difference z = c + sum_i b_i h_i v_i is positive outside.

    Args:
        weight: (units, 2) of the hidden layer.
        bias: (units,) of the hidden layer.
        vote: (units,) v, what a unit adds to "outside".
        constant: c.
    """

    weight: Array
    bias: Array
    vote: Array
    constant: float

    def votes(self, x: Array) -> Array:
        """h_i v_i: (points, units)."""
        return np.maximum(x @ self.weight.T + self.bias, 0) * self.vote

    def margins(self, x: Array, gates: Array) -> Array:
        """z: (gate vectors, points)."""
        return np.asarray(gates @ self.votes(x).T + self.constant)

    def losses(self, x: Array, y: Array, gates: Array) -> Array:
        """Mean cross-entropy in nats: (gate vectors,)."""
        parts = np.array_split(gates, max(1, len(gates) // 1000))
        return np.concatenate([_cross_entropy(self.margins(x, part), y).mean(1) for part in parts])

    def gradients(self, x: Array, y: Array, gates: Array) -> Array:
        """Of the mean loss with respect to the gates, which sit after the ReLU: (gate vectors, units)."""
        wrong = 1 / (1 + np.exp(-self.margins(x, gates))) - y
        return np.asarray(wrong @ self.votes(x) / len(x))


@experiment("circle", Circle, claims=CLAIMS, pictures=PICTURES, quick=QUICK)
def circle(settings: Circle, seed: int, progress: Progress | None) -> dict[str, Any]:
    """How the loss of a small network changes where a random part of its units is closed.

    A network of 2-20-2 units learns to tell the inside of a circle from its outside; the seed draws its start, its
    data and what is closed. Glorot's uniform start, as Keras has it.

    Args:
        settings: see `Circle`.
        seed: of everything drawn.
        progress: called for each part.

    Returns:
        Numbers that the claims are judged by, the network's loss under the listing's radius, and curves and maps.

    Source: "Exploring toy neural nets under node removal", AI Alignment Forum.
    """
    draw = np.random.default_rng(seed)
    net = trained(settings, settings.radius, seed)
    x, y = _points(settings.test_points, settings.radius, np.random.default_rng([seed, 23]))
    found: dict[str, Any] = {"radius": settings.radius}
    parts = (_distribution, _gradients, _flips, _paths, _maps)
    for part in track(progress, "circle", parts):
        found |= part(settings, net, x, y, draw)
    found |= _repeats(settings, draw)
    return found | _listing(settings, seed)


def trained(settings: Circle, radius: float, seed: int) -> Gated:
    """The trained network for a circle of that radius."""
    x, y = _points(settings.points, radius, np.random.default_rng([seed, 1]))
    hidden, last = nn.Linear(2, settings.units), nn.Linear(settings.units, 2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in (hidden, last):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            layer.bias.zero_()
    inputs, targets = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.int64)
    recipe: dict[str, Any] = {
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
    }
    fit(nn.Sequential(hidden, nn.ReLU(), last), inputs, targets, seed=seed, **recipe)

    def read(tensor: Tensor) -> Array:
        return np.asarray(tensor.detach().double().numpy())

    weight, bias = read(last.weight), read(last.bias)
    return Gated(read(hidden.weight), read(hidden.bias), weight[1] - weight[0], float(bias[1] - bias[0]))


def _points(count: int, radius: float, draw: np.random.Generator) -> tuple[Array, Array]:
    x = draw.uniform(-1, 1, (count, 2))
    return x, ((x**2).sum(1) > radius**2).astype(float)


def _cross_entropy(z: Array, y: Array) -> Array:
    return np.asarray(np.logaddexp(0, z) - y * z)


def _distribution(s: Circle, net: Gated, x: Array, y: Array, draw: np.random.Generator) -> dict[str, Any]:
    """Losses of random subnetworks."""
    intact = float(net.losses(x, y, np.ones((1, s.units)))[0])
    right = ((net.margins(x, np.ones((1, s.units)))[0] > 0) == (y > 0.5)).mean()
    losses = [net.losses(x, y, (draw.random((s.networks, s.units)) < p).astype(float)) for p in PROBABILITIES]
    logs = [np.log(each) for each in losses]
    ten = np.argsort(draw.random((s.networks, s.units)), 1) < s.units // 2
    low, high = np.percentile(net.losses(x, y, ten.astype(float)), [10, 90])
    means, log_means = [float(v.mean()) for v in losses], [float(v.mean()) for v in logs]
    spreads = [float(v.std(ddof=1)) for v in logs]
    distances = [normal_distance(v) for v in logs]
    return {
        "intact_loss": intact,
        "accuracy": float(right),
        "percentile_ratio": float(high / low),
        "mean_loss": means,
        "loss_steps": [means[0] - means[1], means[1] - means[2], means[2] - intact],
        "ratio_without_one": float(net.losses(x, y, 1 - np.eye(s.units)).min() / intact),
        "skewness": [float(stats.skew(v)) for v in losses],
        "log_distance": distances,
        "log_distance_gain": [normal_distance(v) - d for v, d in zip(losses, distances, strict=True)],
        "lilliefors_p": [lilliefors(v) for v in logs],
        "mean_log_loss": log_means,
        "log_loss_spread": spreads,
        "log_steps": [log_means[0] - log_means[1], log_means[1] - log_means[2]],
        "spread_steps": [spreads[1] - spreads[0], spreads[2] - spreads[1]],
        "losses": [v.round(5).tolist() for v in losses],
    }


def _gradients(s: Circle, net: Gated, x: Array, y: Array, draw: np.random.Generator) -> dict[str, Any]:
    """Gradients of loss and log loss by the gates."""
    gates = [(draw.random((s.networks, s.units)) < p).astype(float) for p in PROBABILITIES]
    losses = [net.losses(x, y, b) for b in gates]
    raw = [net.gradients(x, y, b) for b in gates]
    logs = [g / loss[:, None] for g, loss in zip(raw, losses, strict=True)]
    means, spreads = [float(g.mean()) for g in raw], [float(g.std()) for g in raw]
    log_means, log_spreads = [float(g.mean()) for g in logs], [float(g.std()) for g in logs]
    half, on = logs[1], gates[1] > 0.5
    by_node = half.std(0)
    live = by_node[by_node > 1e-9]
    predicted, measured = 10 * means[1], float(losses[2].mean() - losses[0].mean())
    curve = np.linspace(-1.5, 1.5, 301)

    def smooth(values: Array) -> list[float]:
        return [float(v) for v in density(values.ravel(), curve, 0.03).round(4)]

    return {
        "gradient_kurtosis": [float(stats.kurtosis(g.ravel())) for g in raw],
        "gradient_mean": means,
        "gradient_mean_in_spreads": [abs(m) / v for m, v in zip(means, spreads, strict=True)],
        "gradient_steps": [means[1] - means[0], means[2] - means[1]],
        "predicted_to_measured": predicted / measured,
        "log_gradient_mean": log_means,
        "log_gradient_spread": log_spreads,
        "log_gradient_spread_steps": [log_spreads[1] - log_spreads[0], log_spreads[2] - log_spreads[1]],
        "trough": [_trough(g[np.abs(g) > 0]) for g in logs],
        "on_gradient": float(half[on].mean()),
        "off_gradient": float(half[~on].mean()),
        "node_spread_ratio": float(live.max() / live.min()),
        "one_peak_p": [dip_test(half[side]) for side in (on, ~on)],
        "gradient_axis": curve.round(4).tolist(),
        "gradient_density": [smooth(g) for g in raw],
        "log_gradient_density": [smooth(g[np.abs(g) > 0]) for g in logs],
        "on_off_density": [smooth(half[side & (half != 0)]) for side in (on, ~on)],
        "node_density": [
            [smooth(half[side[:, i], i]) if side[:, i].any() else [0.0] * len(curve) for side in (on, ~on)]
            for i in range(s.units)
        ],
    }


def _trough(values: Array) -> float:
    """Density at zero over the lower of the peaks within 0.3 on each side."""
    near = np.linspace(-0.3, 0.3, 121)
    curve = density(values, near, 0.03)
    return float(curve[60] / min(curve[:60].max(), curve[61:].max()))


def _flips(s: Circle, net: Gated, x: Array, y: Array, draw: np.random.Generator) -> dict[str, Any]:
    """Labels that one flip changes on [-2, 2]^2."""
    square, _ = _square(2.0, s.grid)
    gates = (draw.random((s.flips, s.units)) < 0.5).astype(float)
    flipped = gates.copy()
    at = draw.integers(s.units, size=s.flips)
    flipped[np.arange(s.flips), at] = 1 - flipped[np.arange(s.flips), at]
    changed = ((net.margins(square, gates) > 0) != (net.margins(square, flipped) > 0)).mean(1)
    return {
        "changed_labels_median": float(np.median(changed)),
        "changed_labels_95th": float(np.percentile(changed, 95)),
    }


def _paths(s: Circle, net: Gated, x: Array, y: Array, draw: np.random.Generator) -> dict[str, Any]:
    """Log losses along paths that flip every unit once, in random order."""
    starts = draw.random((s.paths, s.units)) < 0.5
    ranks = np.argsort(np.argsort(draw.random((s.paths, s.units)), 1), 1)
    steps = [net.losses(x, y, (starts ^ (ranks < k)).astype(float)) for k in range(s.units + 1)]
    logs = np.log(np.stack(steps, 1))
    covariance, correlation = np.cov(logs.T), np.corrcoef(logs.T)[0]
    differences = []
    for _ in range(200):
        again = np.cov(logs[draw.integers(s.paths, size=s.paths)].T)
        differences.append(again[0] - again[-1, ::-1])
    low, high = np.percentile(differences, [2.5, 97.5], axis=0)
    r = float(correlation[-1])
    good = logs[:, 0] <= np.quantile(logs[:, 0], 0.25)
    imbalance = np.linalg.norm(starts.astype(float) @ (net.weight * net.vote[:, None]), axis=1)
    return {
        "first_step_below_0.1": int(np.argmax(correlation < 0.1)) if (correlation < 0.1).any() else s.units + 1,
        "symmetric_steps": int(((low <= 1e-12) & (high >= -1e-12)).sum()),
        "complement_correlation_low": math.tanh(math.atanh(r) - 1.96 / math.sqrt(s.paths - 3)),
        "good_complements": float((logs[good, -1] < np.median(logs[:, -1])).mean()),
        "imbalance_correlation": partial_rank_correlation(imbalance, logs[:, 0], starts.sum(1).astype(float)),
        "path_covariance": covariance.round(5).tolist(),
        "path_correlation": correlation.round(5).tolist(),
    }


def _square(half: float, grid: int) -> tuple[Array, Array]:
    side = np.linspace(-half, half, grid)
    x = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    return x, np.linalg.norm(x, axis=1)


def _maps(s: Circle, net: Gated, x: Array, y: Array, draw: np.random.Generator) -> dict[str, Any]:
    """Loss, and its gradient by each gate, over the square."""
    points, distance = _square(1.0, s.grid)
    outside = (distance > s.radius).astype(float)
    votes = net.votes(points)
    z = votes.sum(1) + net.constant
    loss = _cross_entropy(z, outside)
    gradients = (1 / (1 + np.exp(-z)) - outside)[:, None] * votes
    near = np.abs(distance - s.radius) < 0.1
    hidden = np.maximum(points @ net.weight.T + net.bias, 0)
    live = hidden.max(0) > 0
    everywhere = ((hidden > 0).mean(0) > 0.95) & (hidden.std(0) < 0.5 * hidden.mean(0)) & (net.vote < 0)
    others = live & ~everywhere
    wide, wide_distance = _square(2.0, s.grid)
    wide_votes = net.votes(wide)
    wide_z = wide_votes.sum(1) + net.constant
    wide_outside = (wide_distance > s.radius).astype(float)
    wide_gradients = (1 / (1 + np.exp(-wide_z)) - wide_outside)[:, None] * wide_votes
    return {
        "ring_to_elsewhere": float(np.abs(gradients[near]).mean() / np.abs(gradients[~near]).mean()),
        "bias_like_units": int(everywhere.sum()),
        "edge_units": float(((net.bias <= 0) & (net.vote > 0))[others].mean()) if others.any() else None,
        "loss_at_circle": float(loss[near].sum() / loss.sum()),
        "bias_like": np.flatnonzero(everywhere).tolist(),
        "gradient_maps": wide_gradients.T.reshape(s.units, s.grid, s.grid).round(3).tolist(),
        "loss_map": _cross_entropy(wide_z, wide_outside).reshape(s.grid, s.grid).round(3).tolist(),
        "inside_map": (1 / (1 + np.exp(wide_z))).reshape(s.grid, s.grid).round(3).tolist(),
    }


def _repeats(s: Circle, draw: np.random.Generator) -> dict[str, Any]:
    """How often 1,000 gate vectors are all on, and how many differ, by chance; the essay saw 5 and 952."""

    def outside(p: float) -> int:
        drawn = draw.random((s.draws, 1000, 20)) < p
        codes = drawn @ (1 << np.arange(20))
        on = np.percentile((codes == (1 << 20) - 1).sum(1), [2.5, 97.5])
        distinct = np.percentile([len(np.unique(each)) for each in codes], [2.5, 97.5])
        return int(not on[0] <= 5 <= on[1]) + int(not distinct[0] <= 952 <= distinct[1])

    return {"draws_outside": outside(0.75), "draws_outside_at_half": outside(0.5)}


def _listing(s: Circle, seed: int) -> dict[str, Any]:
    """Mean losses for the listing's radius."""
    net = trained(s, LISTING_RADIUS, seed)
    draw = np.random.default_rng([seed, 7])
    x, y = _points(s.test_points, LISTING_RADIUS, draw)
    gates = [(draw.random((s.networks, s.units)) < p).astype(float) for p in PROBABILITIES]
    return {
        "listing_intact_loss": float(net.losses(x, y, np.ones((1, s.units)))[0]),
        "listing_mean_loss": [float(net.losses(x, y, b).mean()) for b in gates],
    }
