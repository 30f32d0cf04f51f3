"""Tests of whether samples come from a distribution with one peak: the dip, and Silverman's kernel widths."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]

Array = NDArray[np.float64]
SIZES = (500, 200, 100, 50, 20)
"""Numbers of uniform samples that are simulated; in between, the dip falls as the root of the number, to 3 %."""


def dip(values: Array) -> float:
    """The largest distance between the samples' distribution function and the nearest one with one peak.

    A distribution has one peak where its function is convex before and concave after it; a jump at the peak, as many
    equal samples make it, is one. The interval that may hold the peak starts as all samples and shrinks to where the
    greatest convex minorant and the least concave majorant are farthest apart, until they are nearer than what lies
    outside it already needs.

    Args:
        values: (samples,), in any order.

    Returns:
        Half of the largest distance between minorant and majorant: 1 / (2 samples) at least, 1/4 at most.

    Source: Hartigan and Hartigan (1985), section 2.

    >>> round(dip(np.repeat([0.0, 1.0], 50) + np.linspace(0, 1e-3, 100)), 3)
    0.25
    >>> round(dip(np.arange(100.0)), 6)
    0.005
    """
    x, counts = np.unique(values, return_counts=True)
    above = np.cumsum(counts) / len(values)
    below = above - counts / len(values)
    first, last, found = 0, len(x) - 1, 0.0
    while first < last:
        inside = slice(first, last + 1)
        minorant = _vertices(x[inside], below[inside]) + first
        majorant = _vertices(x[inside], -above[inside]) + first
        low = np.interp(x[inside], x[minorant], below[minorant])
        high = np.interp(x[inside], x[majorant], above[majorant])
        gaps, corners = high - low, np.union1d(minorant, majorant)
        widest = int(corners[np.argmax(gaps[corners - first])])
        if gaps[widest - first] <= found:
            break
        left = int(minorant[minorant <= widest][-1])
        right = int(majorant[majorant >= widest][0])
        # What is convex before the peak and concave after it has to pass these; the peak itself may be a jump.
        before = (above[first:left] - low[: left - first]).max(initial=0.0)
        after = (high[right + 1 - first :] - below[right + 1 : last + 1]).max(initial=0.0)
        found = max(found, float(before), float(after))
        first, last = left, right
    return found / 2


def _vertices(x: Array, y: Array) -> NDArray[np.int64]:
    """Indices of the corners of the greatest convex minorant of points in ascending order."""
    corners: list[int] = []
    horizontal, vertical = x.tolist(), y.tolist()
    for i, (a, b) in enumerate(zip(horizontal, vertical, strict=True)):
        while len(corners) > 1:
            j, k = corners[-2:]
            rise = (vertical[k] - vertical[j]) * (a - horizontal[j])
            if rise < (b - vertical[j]) * (horizontal[k] - horizontal[j]):
                break
            corners.pop()
        corners.append(i)
    return np.array(corners)


@lru_cache
def _uniform_dips(samples: int, draws: int) -> Array:
    drawn = np.random.default_rng(0)
    return np.sort([dip(drawn.random(samples)) for _ in range(draws)])


def dip_test(values: Array, draws: int = 500) -> float:
    """p-value of the dip test: how often samples of a uniform distribution have a dip as large.

    The uniform one is, for large samples, the hardest to tell from two peaks of all that have a single one, so that a
    small p speaks against one peak. Dips are compared times the root of the number of samples, with those of the
    largest number in `SIZES` that is no larger.

    Args:
        values: (samples,), in any order.
        draws: simulated samples (default: p is exact to 0.01 near 0.05).

    Source: Hartigan and Hartigan (1985), section 4.

    >>> two = np.concatenate([np.linspace(-3, -2, 200), np.linspace(2, 3, 200)])
    >>> dip_test(two, 100), dip_test(np.linspace(0, 1, 400) ** 3, 100)
    (0.0, 1.0)
    """
    samples = next((size for size in SIZES if size <= len(values)), len(values))
    scaled = dip(values) * np.sqrt(len(values) / samples)
    return float((_uniform_dips(samples, draws) >= scaled).mean())


def silverman(values: Array, seed: int, draws: int = 100, bins: int = 512) -> float:
    """p-value of Silverman's test that a density has one peak.

    The smallest kernel width that leaves one peak is the statistic; samples drawn from the density of that width and
    rescaled to the same variance say how often one peak would need as much.

    Args:
        values: (samples,).
        seed: of the draws.
        draws: how many (default: p is exact to 0.05 near 0.5).
        bins: of the grid on which densities are smoothed.

    Source: Silverman (1981), "Using kernel density estimates to investigate multimodality".

    >>> two = np.concatenate([np.linspace(-3, -2, 200), np.linspace(2, 3, 200)])
    >>> silverman(two, 0) < 0.05
    True
    """
    centre, spread = values.mean(), values.std()
    edges = np.linspace(values.min() - spread, values.max() + spread, bins + 1)
    step = edges[1] - edges[0]

    def peaks(samples: Array, width: float) -> int:
        counts = np.histogram(samples, edges)[0].astype(float)
        slope = np.diff(ndimage.gaussian_filter1d(counts, width / step, mode="constant", truncate=6))
        signs = np.sign(slope[np.abs(slope) > 1e-9 * counts.max()])
        return int(((signs[:-1] > 0) & (signs[1:] < 0)).sum())

    low, high = 0.0, 4 * spread
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if peaks(values, middle) <= 1 else (middle, high)
    draw = np.random.default_rng(seed)
    shrink = 1 / np.sqrt(1 + (high / spread) ** 2)
    more = 0
    for _ in range(draws):
        chosen = values[draw.integers(len(values), size=len(values))]
        noise = high * draw.standard_normal(len(values))
        more += peaks(centre + shrink * (chosen - centre + noise), high) > 1
    return more / draws
