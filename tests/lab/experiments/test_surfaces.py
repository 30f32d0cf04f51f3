"""The experiment `surfaces`: curves against a plain loop over scaled weights, and what holds at quick size."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.support.lab import drawn_all, quick

from deadhead.lab.experiments.surfaces.claims import CLAIMS
from deadhead.lab.experiments.surfaces.experiment import (
    QUICK,
    Surfaces,
    _mean_replaced,
    _shown,
    _surface,
    at,
    convex,
    trained,
)
from deadhead.lab.measures.curves import Subject


@pytest.mark.parametrize(("layers", "place"), [("one", 2), ("two", 0)])
def test_a_surface_is_the_error_with_the_units_outgoing_weights_scaled(layers: str, place: int) -> None:
    task = trained(Surfaces(**{**QUICK, "most_epochs": 2}), layers, 0, None)
    subject, removed = Subject(task), [("0", 1), ("0", 2 if layers == "two" else 3)]
    gains = torch.tensor([0.0, 0.5, 1.0, 4.0])
    found = _surface(subject, task.data, ("0", place), removed, gains)
    for gain, error in zip(gains.tolist(), found.tolist(), strict=True):
        model = copy.deepcopy(task.model)
        with torch.no_grad():
            model[2].weight[:, [unit for _, unit in removed]] = 0
            model[2].weight[:, place] *= gain
            outputs = model(task.inputs)
        assert error == pytest.approx(((outputs - task.targets) ** 2).sum().item() / (2 * len(outputs)), rel=1e-5)


def test_mean_replacement_is_measured_with_the_units_mean_in_the_bias() -> None:
    task = trained(Surfaces(**{**QUICK, "most_epochs": 2}), "one", 0, None)
    model = copy.deepcopy(task.model)
    with torch.no_grad():
        before = (model(task.inputs) - task.targets).square().sum().item() / (2 * len(task.inputs))
        model[2].bias += model[2].weight[:, 5] * model[:2](task.inputs)[:, 5].mean()
        model[2].weight[:, 5] = 0
        after = (model(task.inputs) - task.targets).square().sum().item() / (2 * len(task.inputs))
    assert _mean_replaced(Subject(task), ("0", 5), []) == pytest.approx(after - before, abs=1e-6)


def test_a_curve_is_read_at_the_nearest_gain_and_convex_or_not_to_rounding() -> None:
    gains = torch.arange(10001, dtype=torch.float64) / 1000
    bowl = (gains - 1) ** 2 + 1
    assert at(bowl, gains, 4) == pytest.approx(10.0)
    noise = 1e-8 * torch.randn(10001, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert convex(bowl + noise, gains)
    assert not convex(3 - bowl, gains)
    assert not convex(torch.sigmoid(4 * (gains - 0.8)), gains)


def test_curves_are_kept_at_gains_that_include_off_on_and_double() -> None:
    gains = torch.arange(10001, dtype=torch.float64) / 1000
    kept = gains[_shown(gains)].tolist()
    assert kept == sorted(set(kept))
    assert {0.0, 1.0, 2.0, 10.0} <= set(kept)
    assert len(kept) == 81


def test_made_up_results_to_the_contrary_turn_every_verdict() -> None:
    for claim in CLAIMS:
        assert claim.made_up(holds=True).verdict == "holds"
        assert claim.made_up(holds=False).verdict == "does not hold"


def test_at_quick_size_brute_forces_curves_start_where_its_removals_end() -> None:
    found = quick("surfaces")
    assert all(
        abs(e - c) < 1e-6
        for e, c in zip(found["estimates"]["brute force"], found["changes"]["brute force"], strict=True)
    )
    curves = found["curves"]["one"]["brute force"]
    assert len(curves["error"]) == len(curves["removed"]) == 3
    assert found["linear_error"] > found["quadratic_error"]
    drawn_all("surfaces")
