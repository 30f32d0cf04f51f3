"""Densities, tests of normality and rank correlations of samples."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deadhead.lab.lazily import stats

Array = NDArray[np.float64]


def density(values: Array, at: Array, width: float) -> Array:
    """Density of samples at points `at`, smoothed by a Gaussian kernel.

    Args:
        values: (samples,).
        at: (points,).
        width: standard deviation of the kernel.

    >>> float(density(np.zeros(3), np.zeros(1), 1.0)[0].round(4))
    0.3989
    """
    found = np.zeros(len(at))
    for part in np.array_split(values, max(1, len(values) // 2000)):
        found += np.exp(-0.5 * ((at[:, None] - part) / width) ** 2).sum(1)
    return np.asarray(found / (len(values) * width * np.sqrt(2 * np.pi)))


def normal_distance(values: Array) -> float:
    """Kolmogorov's distance between samples and the normal distribution of their mean and standard deviation.

    Args:
        values: (samples,).

    >>> normal_distance(np.repeat([0.0, 1.0], 500)) > 0.3
    True
    """
    ordered = np.sort(values)
    fitted = stats.norm.cdf(ordered, ordered.mean(), ordered.std(ddof=1))
    steps = np.arange(len(values) + 1) / len(values)
    return float(max((steps[1:] - fitted).max(), (fitted - steps[:-1]).max()))


@lru_cache
def _distances(samples: int, draws: int) -> Array:
    drawn = np.random.default_rng(0).standard_normal((draws, samples))
    return np.array([normal_distance(each) for each in drawn])


def lilliefors(values: Array, draws: int = 1000) -> float:
    """p-value of Lilliefors' test: normal samples have a distance as large as this, mean and deviation being fitted.

    Args:
        values: (samples,).
        draws: simulated samples of the same size (default: p is exact to 0.007 near 0.05).

    >>> lilliefors(np.repeat([0.0, 1.0], 500)) < 0.01
    True
    """
    return float((_distances(len(values), draws) >= normal_distance(values)).mean())


def partial_rank_correlation(x: Array, y: Array, given: Array) -> float:
    """Spearman's correlation of x and y with that of a third sample taken out.

    Args:
        x: (samples,).
        y: (samples,).
        given: (samples,).

    >>> x = np.arange(10.0); partial_rank_correlation(x, -x, np.array([1.0, 0] * 5)) < -0.99
    True
    """
    ranks: list[Any] = [stats.rankdata(each) for each in (x, y, given)]
    c = np.corrcoef(ranks)
    return float((c[0, 1] - c[0, 2] * c[1, 2]) / np.sqrt((1 - c[0, 2] ** 2) * (1 - c[1, 2] ** 2)))
