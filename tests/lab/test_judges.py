"""Each kind of judge comes out either way, against intervals and shares worked by hand."""

from __future__ import annotations

import math

import pytest

from deadhead.lab.experiments import EXPERIMENTS
from deadhead.lab.judges import FAILS, HOLDS, OPEN, PART, Difference, Every, Exact, InBand, Share

CLAIMS = [(name, claim) for name in sorted(EXPERIMENTS) for claim in EXPERIMENTS[name].claims]


@pytest.mark.parametrize(("name", "claim"), CLAIMS, ids=[claim.id for _, claim in CLAIMS])
def test_made_up_results_turn_the_verdict_of_every_claim(name: str, claim) -> None:  # type: ignore[no-untyped-def]
    assert claim.made_up(holds=True).verdict == HOLDS
    assert claim.made_up(holds=False).verdict == FAILS


@pytest.mark.parametrize(("met", "verdict"), [(10, HOLDS), (8, HOLDS), (7, PART), (4, PART), (3, FAILS), (0, FAILS)])
def test_a_condition_holds_at_80_percent_of_seeds_and_in_part_at_40(met: int, verdict: str) -> None:
    results = [{"x": 1.0}] * met + [{"x": -1.0}] * (10 - met)
    assert Share("x", low=0)(results).verdict == verdict
    assert Share("x", high=0)([{"x": -each["x"]} for each in results]).verdict == verdict


def test_seeds_without_a_case_are_left_out_and_a_list_must_meet_the_condition_throughout() -> None:
    assert Share("x", low=0)([{"x": None}] * 5 + [{"x": 1}] * 5).verdict == HOLDS
    assert Share("x", low=0)([{"x": None}] * 5 + [{"x": 1}] * 4).verdict == OPEN
    assert Share("x", low=0)([{"x": [1, 2, -1]}] * 5).verdict == FAILS


def test_the_interval_of_a_difference_is_students() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    half = 2.7764451 * math.sqrt(2.5 / 5)  # t for 4 degrees of freedom, from a table
    found = Difference("d", above=3 - half - 1e-6)([{"d": x} for x in values])
    assert found.verdict == HOLDS
    assert found.numbers[0].low == pytest.approx(3 - half, abs=1e-6)
    assert Difference("d", above=3 - half + 1e-6)([{"d": x} for x in values]).verdict == PART
    assert Difference("d", above=3.1)([{"d": x} for x in values]).verdict == FAILS
    assert Difference("d", below=3 + half + 1e-6)([{"d": x} for x in values]).verdict == HOLDS


def test_a_mean_in_its_band_or_only_on_its_side() -> None:
    judge = InBand("x", 1, 2, at=1, side=(0, 10))
    assert [judge([{"x": [0, x]}] * 5).verdict for x in (1.5, 3, -1)] == [HOLDS, PART, FAILS]
    assert judge([{"x": [0, 1.5]}] * 4).verdict == OPEN


def test_what_is_exact_needs_a_control_that_breaks() -> None:
    judge = Exact("error", 1e-6, "control")
    assert judge([{"error": [0, 1e-7], "control": 1.0}]).verdict == HOLDS
    assert judge([{"error": [0, 1e-5], "control": 1.0}]).verdict == FAILS
    assert judge([{"error": 0, "control": 0}]).verdict == FAILS


def test_several_conditions_hold_together_or_in_part() -> None:
    judge = Every(Share("a", low=0), Share("b", low=0))
    verdicts = [judge([{"a": a, "b": b}] * 5).verdict for a, b in ((1, 1), (1, -1), (-1, -1))]
    assert verdicts == [HOLDS, PART, FAILS]
    assert judge([{"a": 1, "b": None}] * 5).verdict == OPEN
