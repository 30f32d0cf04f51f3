"""The cosine experiment: what counts as flat, left and returned, and what holds at quick size."""

from __future__ import annotations

import pytest
import torch

from deadhead.lab.experiments.cosine.experiment import returns
from deadhead.lab.measures.curves import Curve
from deadhead.lab.networks.tasks import cosine
from support.lab import drawn_all, quick


def test_an_error_returns_after_it_has_risen_and_not_before() -> None:
    assert returns(Curve(5, 1.0, error=[0.1, 0.3, 0.11, 0.8]))
    assert not returns(Curve(5, 1.0, error=[0.1, 0.11, 0.3, 0.8]))
    assert not returns(Curve(5, 1.0, error=[0.1, 0.18, 0.1, 0.1]))  # it never passed 10 % of the range


def test_numbers_follow_from_the_curves() -> None:
    found = quick("cosine")
    for size, total in (("small", 8), ("large", 14)):
        errors = found["curves"][size]["brute force"]["error"]
        assert len(errors) == total - 1  # one unit of each layer remains
        assert found["start"][size] == pytest.approx(2 * errors[0], rel=1e-3)
    left = [round((1 - found[f"flat_{size}_brute"]) * total) for size, total in (("small", 8), ("large", 14))]
    assert found["units_left"] == left
    assert found["units_left_difference"] == abs(left[0] - left[1])
    gap = found["flat_large_linear"] - found["flat_large_brute"]
    assert found["flat_large_linear_less_brute"] == pytest.approx(gap)


def test_refitted_networks_start_where_the_others_do_and_lose_less() -> None:
    curves = quick("cosine")["curves"]["large"]
    surgeon, brute = curves["surgeon"], curves["brute force"]
    assert surgeon["error"][0] == brute["error"][0]
    place = surgeon["removed"][1]
    assert surgeon["error"][1] < brute["error"][place]


def test_the_interval_and_the_start_can_be_varied() -> None:
    task = cosine((3,), points=10, low=0.0, high=1.0, start="normal", most_epochs=1)
    assert (task.inputs.min(), task.inputs.max() < 1, task.held_inputs.max() < 1) == (0, True, True)
    drawn = torch.cat([parameter.flatten() for parameter in task.model.parameters()])
    assert drawn.abs().max() > 1  # torch's own start is within 1 / sqrt(inputs)


def test_every_figure_is_drawn() -> None:
    drawn_all("cosine")
