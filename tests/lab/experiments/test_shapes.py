"""The shapes experiment: gaps between ways, and decisions of networks without half of their units."""

from __future__ import annotations

import pytest

from deadhead.lab.experiments.shapes.experiment import _judged
from deadhead.lab.measures.curves import Curve
from support.lab import drawn_all, quick


def _curve(*errors: float) -> Curve:
    return Curve(4, bare=1.0, removed=[0, 1, 2], error=list(errors))


def test_gaps_are_parts_of_the_way_from_brute_force_to_linear_estimates() -> None:
    each = {
        "brute force": _curve(0.01, 0.01, 0.01),
        "linear": _curve(0.01, 0.1, 0.1),
        "quadratic": _curve(0.01, 0.01, 0.1),
        "exact quadratic": _curve(0.01, 0.01, 0.01),
    }
    found = _judged({"diamond": each})
    assert found["quadratic_gap"] == [pytest.approx(0.5)]
    assert found["exact_quadratic_gap"] == [pytest.approx(0.0)]
    assert found["linear_flat_by_brute"] == [0.0]


def test_a_quick_run_learns_something_and_says_where() -> None:
    found = quick("shapes")
    assert found["start_accuracy"]["diamond"] > 0.7
    for name in ("diamond", "random"):
        pictures = found["pictures"][name]
        assert set(pictures) == {"intact", "brute force", "linear", "quadratic"}
        assert {len(row) for row in pictures["intact"]} == {12}
        assert 0 < sum(map(sum, pictures["intact"])) < 144
        assert pictures["intact"][6][6] == 1  # the middle lies in both shapes


def test_brute_force_loses_no_more_than_the_estimates_at_first() -> None:
    for curves in quick("shapes")["curves"].values():
        first = {way: curves[way]["error"][1] for way in ("brute force", "linear", "quadratic", "exact quadratic")}
        assert first["brute force"] == min(first.values())


def test_every_figure_is_drawn() -> None:
    drawn_all("shapes")
