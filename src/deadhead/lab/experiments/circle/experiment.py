"""A circle, learned by 20 hidden units: what a network loses where a random part of its units is closed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deadhead.lab.experiments.circle.claims import CLAIMS, TAKEAWAY
from deadhead.lab.experiments.circle.figures import PICTURES
from deadhead.lab.experiments.circle.network import (
    LISTING_RADIUS,
    TEXT_RADIUS,
    Gated,
    cross_entropy,
    sample,
    square,
    trained,
)
from deadhead.lab.experiments.circle.subnetworks import PROBABILITIES, Drawn, drawn_from, gradients, normality, tables
from deadhead.lab.experiments.registry import experiment
from deadhead.lab.lazily import stats
from deadhead.lab.measures.distributions import Array, partial_rank_correlation
from deadhead.progress import Progress, track


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
    radius: float = TEXT_RADIUS
    networks: int = 1000
    paths: int = 2000
    flips: int = 500
    draws: int = 200
    grid: int = 81


QUICK = {"points": 300, "epochs": 10, "networks": 60, "paths": 60, "flips": 30, "draws": 10, "grid": 21}
VARIANTS: dict[str, dict[str, Any]] = {
    "listing": {"radius": LISTING_RADIUS},
    "longer": {"epochs": 60},
    "wider": {"units": 40},
}


@experiment("circle", Circle, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY, variants=VARIANTS)
def circle(settings: Circle, seed: int, progress: Progress | None) -> dict[str, Any]:
    """How the loss of a small network changes where a random part of its units is closed.

    A network of 2-20-2 units learns to tell the inside of a circle from its outside; the seed draws its start, its
    data and what is closed. Glorot's uniform start, as Keras has it. The text's circle halves the square, the listing's
    is larger: the first by default, and the tables for both.

    Args:
        settings: see `Circle`.
        seed: of everything drawn.
        progress: called for each part.

    Returns:
        Numbers that the claims are judged by, the essay's tables for both radii, and curves and maps.

    Source: "Exploring toy neural nets under node removal", AI Alignment Forum.
    """
    draw = np.random.default_rng(seed)
    net, x, y = _learned(settings, settings.radius, seed)
    drawn = drawn_from(settings.networks, net, x, y, draw)
    parts: tuple[Callable[[], dict[str, Any]], ...] = (
        lambda: tables(drawn) | _losses(settings, net, x, y, drawn, draw),
        lambda: normality(settings.networks, net, x, y, draw),
        lambda: gradients(drawn),
        lambda: _flips(settings, net, draw),
        lambda: _paths(settings, net, x, y, draw),
        lambda: _maps(settings, net),
        lambda: _repeats(settings, draw),
        lambda: _listing(settings, seed),
    )
    found: dict[str, Any] = {"radius": settings.radius}
    for part in track(progress, "circle", parts):
        found |= part()
    return found


def _learned(s: Circle, radius: float, seed: int) -> tuple[Gated, Array, Array]:
    """The trained network, and the points on which losses are measured."""
    recipe: dict[str, Any] = {"epochs": s.epochs, "batch_size": s.batch_size, "learning_rate": s.learning_rate}
    net = trained(s.units, s.points, radius, seed, **recipe)
    return net, *sample(s.test_points, radius, np.random.default_rng([seed, 23]))


def _losses(
    s: Circle, net: Gated, x: Array, y: Array, drawn: Sequence[Drawn], draw: np.random.Generator
) -> dict[str, Any]:
    """The intact network, and how the losses of random subnetworks differ."""
    intact = float(net.losses(x, y, np.ones((1, s.units)))[0])
    right = ((net.margins(x, np.ones((1, s.units)))[0] > 0) == (y > 0.5)).mean()
    ten = np.argsort(draw.random((s.networks, s.units)), 1) < s.units // 2
    low, high = np.percentile(net.losses(x, y, ten.astype(float)), [10, 90])
    table = tables(drawn)
    means, log_means, spreads = table["loss_mean"], table["log_loss_mean"], table["log_loss_spread"]
    return {
        "intact_loss": intact,
        "accuracy": float(right),
        "percentile_ratio": float(high / low),
        "loss_steps": [means[0] - means[1], means[1] - means[2], means[2] - intact],
        "ratio_without_one": float(net.losses(x, y, 1 - np.eye(s.units)).min() / intact),
        "dead_units": int((net.votes(x) == 0).all(0).sum()),
        "skewness": [float(stats.skew(each.losses)) for each in drawn],
        "log_steps": [log_means[0] - log_means[1], log_means[1] - log_means[2]],
        "spread_steps": [spreads[1] - spreads[0], spreads[2] - spreads[1]],
    }


def _flips(s: Circle, net: Gated, draw: np.random.Generator) -> dict[str, Any]:
    """Labels that one flip changes on [-2, 2]^2."""
    points, _ = square(2.0, s.grid)
    gates = (draw.random((s.flips, s.units)) < 0.5).astype(float)
    flipped = gates.copy()
    at = draw.integers(s.units, size=s.flips)
    flipped[np.arange(s.flips), at] = 1 - flipped[np.arange(s.flips), at]
    changed = ((net.margins(points, gates) > 0) != (net.margins(points, flipped) > 0)).mean(1)
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
        "complement_correlation": r,
        "complement_correlation_low": math.tanh(math.atanh(r) - 1.96 / math.sqrt(s.paths - 3)),
        "good_complements": float((logs[good, -1] < np.median(logs[:, -1])).mean()),
        "imbalance_correlation": partial_rank_correlation(imbalance, logs[:, 0], starts.sum(1).astype(float)),
        "path_covariance": covariance.round(5).tolist(),
        "path_correlation": correlation.round(5).tolist(),
        "complements": logs[:400, [0, -1]].T.round(3).tolist(),
    } | _balance(starts @ net.votes(x).mean(0), logs[:, 0])


def _balance(votes: Array, logs: Array) -> dict[str, Any]:
    """The log loss as a parabola in the sum of a network's votes, in standard deviations, and what it explains.

    A network and its complement share the votes of the intact one, so that a slope makes one good where the other is
    bad, and a curvature makes them alike.
    """
    scaled = (votes - votes.mean()) / votes.std()
    curvature, slope, _ = np.polyfit(scaled, logs, 2)
    rest = logs - np.polyval(np.polyfit(scaled, logs, 2), scaled)
    return {
        "vote_slope": float(slope),
        "vote_curvature": float(curvature),
        "vote_share": float(1 - rest.var() / logs.var()),
    }


def _maps(s: Circle, net: Gated) -> dict[str, Any]:
    """Loss, and its gradient by each gate, over the square."""

    def over(half: float) -> tuple[Array, Array, Array, Array, Array]:
        points, distance = square(half, s.grid)
        votes, outside = net.votes(points), (distance > s.radius).astype(float)
        z = votes.sum(1) + net.constant
        return points, distance, z, cross_entropy(z, outside), (1 / (1 + np.exp(-z)) - outside)[:, None] * votes

    points, distance, _, loss, gradients = over(1.0)
    near = np.abs(distance - s.radius) < 0.1
    hidden = np.maximum(points @ net.weight.T + net.bias, 0)
    everywhere = ((hidden > 0).mean(0) > 0.95) & (hidden.std(0) < 0.5 * hidden.mean(0)) & (net.vote < 0)
    others = (hidden.max(0) > 0) & ~everywhere
    _, _, wide, wide_loss, wide_gradients = over(2.0)
    return {
        "ring_to_elsewhere": float(np.abs(gradients[near]).mean() / np.abs(gradients[~near]).mean()),
        "bias_like_units": int(everywhere.sum()),
        "edge_units": float(((net.bias <= 0) & (net.vote > 0))[others].mean()) if others.any() else None,
        "loss_at_circle": float(loss[near].sum() / loss.sum()),
        "bias_like": np.flatnonzero(everywhere).tolist(),
        "gradient_maps": _hundredths(wide_gradients.T.reshape(s.units, s.grid, s.grid)),
        "loss_maps": _hundredths(wide_loss.reshape(1, s.grid, s.grid)),
        "inside_maps": _hundredths((1 / (1 + np.exp(wide))).reshape(1, s.grid, s.grid)),
    }


def _hundredths(maps: Array) -> Any:
    """Every second value along both sides, as whole hundredths: short, and enough for a figure."""
    return (100 * maps[..., ::2, ::2]).round().astype(int).tolist()


def _repeats(s: Circle, draw: np.random.Generator) -> dict[str, Any]:
    """How often 1,000 gate vectors are all on, and how many differ, by chance and in the essay's own draw.

    The listing draws with NumPy's first generator and the seed 17, one probability after the other, so that its gate
    vectors can be drawn again to the last one.
    """
    on, powers = (1 << 20) - 1, 1 << np.arange(20)

    def band(p: float) -> tuple[Array, Array]:
        codes = (draw.random((s.draws, 1000, 20)) < p) @ powers
        return (codes == on).sum(1), np.array([len(np.unique(each)) for each in codes])

    def outside(all_on: Array, distinct: Array) -> int:
        (a, b), (c, d) = np.percentile(all_on, [2.5, 97.5]), np.percentile(distinct, [2.5, 97.5])
        return int(not a <= 5 <= b) + int(not c <= 952 <= d)

    first = np.random.RandomState(17)
    essay = [(first.rand(1000, 20) < p) @ powers for p in PROBABILITIES][-1]
    chance, half = band(0.75), band(0.5)
    return {
        "draws_outside": outside(*chance),
        "draws_outside_at_half": outside(*half),
        "distinct_by_chance": float(chance[1].mean()),
        "share_as_few": float((chance[1] <= 952).mean()),
        "essay_all_on": int((essay == on).sum()),
        "essay_distinct": len(np.unique(essay)),
        "essay_without_14": int((essay == on - (1 << 14)).sum()),
    }


def _listing(s: Circle, seed: int) -> dict[str, Any]:
    """The essay's tables for the listing's radius."""
    net, x, y = _learned(s, LISTING_RADIUS, seed)
    drawn = drawn_from(s.networks, net, x, y, np.random.default_rng([seed, 7]))
    return {"listing": {"intact_loss": float(net.losses(x, y, np.ones((1, s.units)))[0])} | tables(drawn)}
