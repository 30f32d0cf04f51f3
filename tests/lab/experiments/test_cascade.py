"""The experiment `cascade`: sizes at equal error, and what holds at quick size."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.lab import drawn_all, quick

from deadhead.lab.experiments.cascade.claims import CLAIMS
from deadhead.lab.experiments.cascade.experiment import _last, _numbers, _weights


def test_bisection_finds_the_last_number_that_meets_a_condition() -> None:
    for end in range(3, 12):
        assert _last(lambda n, end=end: n <= end, 3, 11) == end  # type: ignore[misc]


def test_weights_of_a_layered_network_are_counted_with_biases() -> None:
    assert _weights([400, 50, 50, 10]) == 400 * 50 + 50 + 50 * 50 + 50 + 50 * 10 + 10


def sizes(pruned: int, cascade: int | None, most: int = 30) -> dict[str, Any]:
    units = {"pruned": pruned, "cascade": cascade, "refitted": 1, "surgeon": 1, "scratch": 1, "layered": 1}
    weights = {"pruned": 100, "cascade": None if cascade is None else 50}
    return {"units": units, "units_small_error": units, "weights": weights, "most": {"cascade": most}}


def test_sizes_are_compared_by_ratio_with_one_unit_at_least() -> None:
    assert _numbers(sizes(8, 8))["log_ratio"] == 0
    assert _numbers(sizes(8, 4))["log_ratio"] == pytest.approx(_numbers(sizes(4, 8))["log_ratio"])
    assert _numbers(sizes(8, 0))["log_ratio"] == _numbers(sizes(8, 1))["log_ratio"]
    assert _numbers(sizes(3, None))["log_ratio"] == _numbers(sizes(3, 30))["log_ratio"]
    assert _numbers(sizes(8, 4))["weights_ratio"] == 0.5


def test_made_up_sizes_to_the_contrary_turn_the_verdict() -> None:
    for claim in CLAIMS:
        assert claim.made_up(holds=True).verdict == "holds"
        assert claim.made_up(holds=False).verdict == "does not hold"


def test_at_quick_size_growth_needs_fewer_units_than_pruning_leaves() -> None:
    found = quick("cascade")["tasks"]["diamond"]
    assert found["units"]["cascade"] < found["units"]["pruned"] <= found["intact"]
    assert found["units"]["refitted"] <= found["units"]["pruned"]
    units, errors, _ = found["curves"]["pruned"]
    at = units.index(found["units"]["pruned"])
    assert errors[at] <= found["limit"] * 1.001 < errors[at + 1] * 1.002


def test_tasks_that_were_not_run_are_no_case_and_figures_can_be_drawn() -> None:
    assert quick("cascade")["digits100_log_ratio"] is None
    drawn_all("cascade")
