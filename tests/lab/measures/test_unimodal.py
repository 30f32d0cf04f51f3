"""The dip is what its definition says, and tests of one peak can come out either way."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linprog

from deadhead.lab.measures.unimodal import dip, dip_test, silverman

Array = NDArray[np.float64]


def nearest_with_one_peak(values: Array) -> float:
    """The definition as linear programs, one for each place of the peak.

    A distribution function with its peak at x_k has values g_0 ... g_k before a jump and g'_k ... after it, and its
    slopes rise before and fall after x_k; the largest of its distances to the samples' function, on both sides of each
    of the samples' steps, is minimised.
    """
    x, counts = np.unique(values, return_counts=True)
    n, above = len(x), np.cumsum(counts) / len(values)
    below = above - counts / len(values)

    def row(*entries: tuple[int, float]) -> Array:
        found = np.zeros(n + 2)
        for variable, factor in entries:
            found[variable] = factor
        return found

    def program(k: int) -> float:
        enter, leave, distance = [i + (i > k) for i in range(n)], [i + (i >= k) for i in range(n)], row((n + 1, 1))
        slopes = [row((enter[i + 1], 1), (leave[i], -1)) / (x[i + 1] - x[i]) for i in range(n - 1)]
        steps = [*zip(enter, below, strict=True), *zip(leave, above, strict=True)]
        rules = [(sign * row((v, 1)) - distance, sign * y) for v, y in steps for sign in (1, -1)]
        rules += [(row((enter[k], 1), (leave[k], -1)), 0.0)]
        rules += [(-slope, 0.0) for slope in slopes]
        rules += [(slopes[i - 1] - slopes[i], 0.0) for i in range(1, k)]
        rules += [(slopes[i] - slopes[i - 1], 0.0) for i in range(k + 1, n - 1)]
        left, right = zip(*rules, strict=True)
        bounds = [(0, 1)] * (n + 1) + [(0, None)]
        return float(linprog(distance, A_ub=np.array(left), b_ub=right, bounds=bounds).fun)

    return min(program(k) for k in range(n))


@pytest.mark.parametrize("kind", ["normal", "two", "ties", "skewed", "atom"])
def test_the_dip_is_the_distance_to_the_nearest_distribution_with_one_peak(kind: str) -> None:
    draw = np.random.default_rng(0)
    for size in (3, 6, 9, 12):
        values = {
            "normal": draw.normal(size=size),
            "two": np.concatenate([draw.normal(size=size // 2), draw.normal(5, 1, size - size // 2)]),
            "ties": draw.integers(0, 5, size).astype(float),
            "skewed": draw.random(size) ** 3,
            "atom": np.concatenate([np.zeros(size // 2), draw.normal(size=size - size // 2)]),
        }[kind]
        assert dip(values) == pytest.approx(nearest_with_one_peak(values), abs=1e-9)


def test_the_dip_forgives_many_equal_samples_at_the_peak_only() -> None:
    draw = np.random.default_rng(1)
    around = draw.normal(size=400)
    assert dip_test(np.concatenate([around, np.zeros(200)])) > 0.05
    assert dip_test(np.concatenate([around, np.full(200, 3.0)])) < 0.01
    assert dip(np.ones(5)) == 0


@pytest.mark.parametrize("one_peak", [dip_test, lambda values: silverman(values, 0)])
def test_two_peaks_are_told_from_one(one_peak) -> None:  # type: ignore[no-untyped-def]
    draw = np.random.default_rng(2)
    assert one_peak(draw.normal(size=500)) > 0.05
    assert one_peak(np.concatenate([draw.normal(-2, 0.5, 250), draw.normal(2, 0.5, 250)])) < 0.05


def test_one_in_twenty_uniform_samples_has_a_p_value_below_a_twentieth() -> None:
    draw = np.random.default_rng(3)
    found = [dip_test(draw.random(200)) for _ in range(200)]
    assert 0.01 < np.mean(np.array(found) < 0.05) < 0.12
