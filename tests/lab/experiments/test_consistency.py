"""Consistency of relevance rules, for every pair of rules, against the table that was published."""

from __future__ import annotations

import pytest

from deadhead.lab.experiments.consistency.experiment import (
    MATRIX,
    MAXIMUM,
    NONLINEARITY,
    maxima,
    maximum_with_constants,
    scaling,
    scalings,
)

SCALING = {
    ("gradient", "gradient"), ("gradient", "rescale"), ("gradient", "deconvnet"), ("lrp_0", "pass"),
}  # fmt: skip


def test_scaling_equivalence_is_the_published_table() -> None:
    found = scalings()
    assert {(each.first, each.second) for each in found} == {(m, n) for m in MATRIX for n in NONLINEARITY}
    assert {(each.first, each.second) for each in found if each.agree} == SCALING
    assert all(each.essay == ("yes" if each.agree else "no") for each in found)
    scales = {each.first: each.scale for each in found if each.agree}
    assert scales == pytest.approx({"gradient": 3.0, "lrp_0": 1.0})
    assert scaling(MATRIX["gradient"], NONLINEARITY["rescale"], 5.0) == (True, pytest.approx(5.0))


def test_maximum_with_constants_matches_for_the_gradient_and_for_slopes_at_zero_only() -> None:
    found = {(each.first, each.second, each.constants): each for each in maxima()}
    assert set(found) == {(m, n, c) for m in MAXIMUM for n in NONLINEARITY for c in ((0.0,), (-0.5,), (-0.5, -0.5))}
    agree = {key for key, each in found.items() if each.agree}
    assert {n for m, n, c in agree if m == "gradient" and c == (-0.5,)} == {"gradient"}
    assert {key for key in found if key[:2] == ("gradient", "gradient")} <= agree
    assert ("radial", "rescale", (0.0,)) in agree
    assert ("radial", "rescale", (-0.5,)) not in agree
    assert not any(n in ("pass", "deconvnet") for m, n, c in agree if c != (0.0,))


def test_a_repeated_constant_ruins_splitting() -> None:
    """max(a, c) = max(a, c, c), which a share in proportion does not respect."""
    assert maximum_with_constants(MAXIMUM["gradient"], NONLINEARITY["gradient"], (-0.5, -0.5))
    assert not maximum_with_constants(MAXIMUM["radial"], NONLINEARITY["rescale"], (-0.5, -0.5))
