"""The experiment `one_digit`: pruning from the hidden units on is pruning the whole, and what its numbers mean."""

from __future__ import annotations

import pytest
import torch
from tests.support.lab import drawn_all, quick

from deadhead.lab.experiments.one_digit.claims import CLAIMS
from deadhead.lab.experiments.one_digit.experiment import (
    QUICK,
    OneDigit,
    after_failure,
    first_above,
    from_hidden,
    gain,
    trained,
)
from deadhead.lab.measures.curves import Curve, Subject


@pytest.mark.parametrize("criterion", ["oracle", "taylor1", "taylor2"])
def test_orders_and_errors_from_the_hidden_units_on_are_those_of_the_whole_network(criterion: str) -> None:
    task = trained(OneDigit(**{**QUICK, "hidden": 5, "images": 60}), 1, 0)  # type: ignore[arg-type]
    whole, behind = Subject(task), Subject(from_hidden(task, 60))
    order = whole.order(criterion)
    assert behind.order(criterion) == order
    one, other = whole.curve(order), behind.curve(order)
    assert other.error == pytest.approx(one.error, rel=1e-5)
    assert other.held_error == pytest.approx(one.held_error, rel=1e-5)


def test_quadratic_estimates_of_softmax_and_squared_error_are_those_derived_by_hand() -> None:
    task = from_hidden(trained(OneDigit(**{**QUICK, "hidden": 4, "images": 30}), 0, 0), 30)  # type: ignore[arg-type]
    found = Subject(task).scores("taylor2")["0"].tolist()
    weight = task.model[1].weight.tolist()
    o, expected = task.model(task.inputs).tolist(), [0.0] * 4
    for n, (a, t) in enumerate(zip(task.inputs.tolist(), task.targets.tolist(), strict=True)):
        p = o[n]
        e = [p[i] - t[i] for i in range(2)]
        mean = sum(e[j] * p[j] for j in range(2))
        for i in range(2):
            g, h = p[i] * (e[i] - mean), 0.0
            for j in range(2):
                same = float(i == j)
                h += p[j] ** 2 * (same - p[i]) ** 2 + e[j] * p[j] * ((same - p[i]) ** 2 - p[i] * (1 - p[i]))
            for k in range(4):
                expected[k] += (-a[k] * g * weight[i][k] + 0.5 * (a[k] * weight[i][k]) ** 2 * h) / 30
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_numbers_of_a_curve() -> None:
    curve = Curve(10, 5.0, removed=list(range(6)), error=[1.0, 0.8, 0.9, 1.05, 3.0, 0.9])
    assert gain(curve) == pytest.approx(0.2)
    assert first_above(curve) == 0.3
    assert after_failure(curve) == pytest.approx(0.9)
    flat = Curve(10, 5.0, removed=[0, 1], error=[1.0, 1.0])
    assert (first_above(flat), after_failure(flat)) == (1.0, None)


def test_made_up_results_to_the_contrary_turn_every_verdict() -> None:
    for claim in CLAIMS:
        assert claim.made_up(holds=True).verdict == "holds"
        assert claim.made_up(holds=False).verdict == "does not hold"


def test_a_quick_run_measures_all_ways_on_the_same_network_and_draws_every_figure() -> None:
    found = quick("one_digit")
    for curves in found["digits"].values():
        starts = {way: curve["error"][0] for way, curve in curves.items() if way != "twin"}
        assert max(starts.values()) - min(starts.values()) < 1e-6
        brute, refitted = curves["brute force"], curves["least squares"]
        assert refitted["error"][1] <= brute["error"][refitted["removed"][1]] * 1.05
    assert torch.tensor(found["gain"]).ge(0).all()
    drawn_all("one_digit")
