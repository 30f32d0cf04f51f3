"""The mnist20 experiment: its numbers from curves made by hand, its own judge, and what holds at quick size."""

from __future__ import annotations

import itertools

import pytest

from deadhead.lab.experiments import EXPERIMENTS
from deadhead.lab.experiments.mnist20.claims import NoneWins
from deadhead.lab.experiments.mnist20.numbers import from_last_layer, of_tasks, of_two_networks, of_widths
from deadhead.lab.measures.curves import Curve
from support.data import needs_data
from support.lab import drawn_all, quick

PAPER = ("brute force", "linear", "quadratic")


def _curve(free: int, error: float = 0.1) -> Curve:
    """Ten units, of which `free` can go; the error is constant after the first."""
    rights = [1.0] * (free + 1) + [0.5] * (9 - free)
    return Curve(
        10, 1.0, layers=[1] * 4 + [0] * 5, removed=list(range(10)), error=[0.05] + [error] * 9, accuracy=rights,
        held_accuracy=rights,
    )  # fmt: skip


def _ways(brute: int, linear: int, quadratic: int, errors: tuple[float, float, float] = (0.1, 0.2, 0.3)):  # type: ignore[no-untyped-def]
    return {way: _curve(free, e) for way, free, e in zip(PAPER, (brute, linear, quadratic), errors, strict=True)}


def test_gains_are_paired_within_network_and_criterion() -> None:
    single = {"one": _ways(3, 2, 1), "two": _ways(2, 2, 0)}
    ranked = {"one": _ways(6, 3, 5), "two": _ways(4, 1, 2)}
    found = of_two_networks(single, ranked, _ways(0, 0, 0, (0.3, 0.2, 0.1)))
    assert found["re_ranking_gain_one_brute"] == pytest.approx(0.3)
    assert found["re_ranking_gain_two_linear"] == pytest.approx(-0.1)
    assert found["two_less_one_single_quadratic"] == pytest.approx(-0.1)
    assert found["quadratic_less_linear_one"] > 0
    assert found["quadratic_lower_one"] == 0.0
    assert found["lowest_single_brute"] == [1.0, 0.0]
    assert found["lowest_single_quadratic"] == [0.0, 1.0]
    assert found["brute_last_layer"] == pytest.approx(0.8)  # four of the first five


def test_units_left_are_counted_by_width_and_costs_by_depth() -> None:
    ranked = {"one": _ways(6, 0, 0), "two": _ways(4, 0, 0)}
    found = of_widths({"three": _curve(1), "narrow": _curve(2), "wide": _curve(8)}, ranked)
    assert found["second_layer_costs"] == pytest.approx(-0.2)
    assert found["third_layer_costs"] == pytest.approx(-0.3)
    assert found["left_by_width"] == [8, 4, 2]
    assert found["left_wide_by_narrow"] == 0.25


def test_brute_force_leads_where_the_better_estimate_is_worse() -> None:
    other = {**_ways(1, 1, 1, (0.3, 0.2, 0.4)), "quadratic, mean threshold": _curve(1, 0.2)}
    for curve in other.values():
        curve.accuracy = []
    found = of_tasks({"one": _ways(6, 1, 2), "diamond": _ways(0, 0, 0), "cosine": other})
    assert [lead > 0 for lead in found["brute_leads"]] == [True, True, False]
    assert found["brute_free_by_task"] == [0.6]  # the cosine has no accuracy, and the diamond is no digit
    assert found["quadratic, mean threshold less quadratic, cosine"] < 0


def test_shares_from_the_last_layer_count_the_first_half() -> None:
    assert from_last_layer(Curve(4, 1.0, layers=[1, 1, 0])) == 1.0
    assert from_last_layer(Curve(6, 1.0, layers=[0, 1, 0, 1])) == pytest.approx(1 / 3)


def test_none_is_superior_unless_one_is_best_in_four_of_five_networks() -> None:
    judge = NoneWins(("a", "b"))
    mixed = [{"a": [1.0, 0.0], "b": [0.0, 1.0]}] * 5
    assert judge(mixed).verdict == "holds"
    assert judge([{"a": [1.0, 1.0], "b": [0.0, 0.0]}] * 5).verdict == "does not hold"
    assert judge(mixed[:4]).verdict == "too few seeds"


@needs_data
def test_a_quick_run_finds_the_recursion_exact_in_the_last_layer_alone() -> None:
    found = quick("mnist20")
    assert max(found["recursion_last"]) < 1e-12
    assert min(found["recursion_before"]) > 1e-3
    assert min(found["gauss_newton"]) > 1e-3


@needs_data
def test_two_workers_find_the_same_order_and_a_part_of_the_images_another() -> None:
    found = quick("mnist20")
    for name in ("one", "two"):
        assert found[f"parallel_differs_{name}"] == 0 < found[f"part_differs_{name}"]


@needs_data
def test_estimates_lie_nearer_with_the_second_derivative() -> None:
    found = quick("mnist20")
    measured, line, parabola = (found["estimates"]["one"][name] for name in ("measured", "linear", "quadratic"))
    errors = [sum(abs(x - y) for x, y in zip(each, measured, strict=True)) for each in (parabola, line)]
    assert errors[0] < errors[1]
    assert (found["log_error_one"] < 0) == (errors[0] < errors[1])


@needs_data
def test_curves_are_those_of_the_greedy_order() -> None:
    curves = quick("mnist20")["curves"]["one"]["re-ranked"]
    for way, other in itertools.product(["brute force"], ["linear", "quadratic"]):
        assert curves[way]["error"][1] <= curves[other]["error"][1]
    assert EXPERIMENTS["mnist20"].variants


@needs_data
def test_every_figure_is_drawn() -> None:
    drawn_all("mnist20")
