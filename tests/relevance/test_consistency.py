"""000's consistency rules for every pair of rules."""

from __future__ import annotations

from deadhead.relevance.consistency import MATRIX, MAXIMUM, NONLINEARITY, maximum_with_constants, scaling, table

SCALING = {
    ("gradient", "gradient"), ("gradient", "slope"), ("gradient", "repeat"), ("normalised", "ignore"),
}  # fmt: skip


def test_scaling_equivalence_is_the_documents_table() -> None:
    found = table()["scaling"]
    assert set(found) == {(m, n) for m in MATRIX for n in NONLINEARITY}
    assert {pair for pair, same in found.items() if same} == SCALING
    assert abs(scaling(MATRIX["gradient"], NONLINEARITY["gradient"], 3.0)[1] - 3) < 1e-12
    assert abs(scaling(MATRIX["normalised"], NONLINEARITY["ignore"], 3.0)[1] - 1) < 1e-12


def test_maximum_with_constants_matches_for_the_gradient_and_for_slopes_at_zero_only() -> None:
    found = table()
    assert {n for m, n in found["maximum with -0.5"] if m == "gradient" and found["maximum with -0.5"][m, n]} == {
        "gradient"
    }
    assert found["maximum with 0"]["gradient", "gradient"]
    assert found["maximum with 0"]["radial", "slope"]
    assert not found["maximum with -0.5"]["radial", "slope"]
    assert not any(found["maximum with -0.5"][m, n] for m in MAXIMUM for n in ("ignore", "repeat"))


def test_a_repeated_constant_ruins_splitting() -> None:
    """max(a, c) = max(a, c, c), which a share in proportion does not respect."""
    assert maximum_with_constants(MAXIMUM["gradient"], NONLINEARITY["gradient"], (-0.5, -0.5))
    assert not maximum_with_constants(MAXIMUM["radial"], NONLINEARITY["slope"], (-0.5, -0.5))
