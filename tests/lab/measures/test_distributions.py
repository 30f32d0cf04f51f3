"""Tests of distributions can come out either way."""

from __future__ import annotations

import numpy as np
from scipy import stats

from deadhead.lab.measures.distributions import density, lilliefors, normal_distance, partial_rank_correlation


def test_normal_samples_pass_and_skewed_ones_do_not() -> None:
    draw = np.random.default_rng(0)
    assert lilliefors(draw.normal(3, 2, 500)) > 0.05
    assert lilliefors(draw.exponential(size=500)) < 0.01


def test_the_distance_is_kolmogorovs() -> None:
    values = np.random.default_rng(1).normal(size=200)
    reference = stats.kstest(values, "norm", (values.mean(), values.std(ddof=1))).statistic
    assert abs(normal_distance(values) - reference) < 1e-12


def test_density_is_the_mean_of_kernels() -> None:
    values, at = np.array([0.0, 1.0, 4.0]), np.array([0.5, 2.0])
    plain = [np.mean([stats.norm.pdf(x, v, 0.3) for v in values]) for x in at]
    np.testing.assert_allclose(density(values, at, 0.3), plain, rtol=1e-12)


def test_a_correlation_through_a_third_quantity_is_taken_out() -> None:
    draw = np.random.default_rng(3)
    common = draw.normal(size=2000)
    x, y = common + 0.1 * draw.normal(size=2000), common + 0.1 * draw.normal(size=2000)
    assert stats.spearmanr(x, y).statistic > 0.9
    assert abs(partial_rank_correlation(x, y, common)) < 0.1
    assert partial_rank_correlation(x, y, draw.normal(size=2000)) > 0.9
