"""Tasks of Wolfe et al. (2016): targets by hand, and networks that learn them."""

from __future__ import annotations

import math

import pytest
import torch

from deadhead.errors import DataError
from deadhead.lab.networks.tasks import cosine, mnist20, one_digit, shape, sigmoid_network
from support.data import needs_data


def test_the_cosine_is_scaled_to_what_a_sigmoid_can_give() -> None:
    task = cosine((5,), points=50, most_epochs=600)
    assert task.inputs[0].item() == -math.pi
    torch.testing.assert_close(2 * task.targets - 1, task.inputs.cos())
    assert 0 < (task.held_inputs[0] - task.inputs[0]).item() < 2 * math.pi / 50
    assert task.steps == 600
    with torch.no_grad():
        assert (task.model(task.held_inputs) - task.held_targets).square().mean() < 5e-3
    assert not task.has_classes


def test_a_diamond_is_where_coordinates_sum_to_one_and_half_of_the_square() -> None:
    task = shape("diamond", hidden=(8, 8), points=400, held=100, seed=0, most_epochs=60)
    inside = task.targets[:, 1].bool()
    assert torch.equal(inside, task.inputs.abs().sum(1) <= 1)
    assert 0.4 < inside.double().mean() < 0.6
    with torch.no_grad():
        found = task.model(task.held_inputs).argmax(1)
    assert (found == task.held_targets.argmax(1)).double().mean() > 0.75


def test_a_random_shape_is_another_one_for_each_seed_and_the_same_for_the_same() -> None:
    one, other, again = (shape("random shape", hidden=(3,), points=300, seed=s, most_epochs=1) for s in (0, 1, 0))
    assert torch.equal(one.targets, again.targets)
    assert torch.equal(one.model[0].weight, again.model[0].weight)
    for task in (one, other):
        assert 0.15 < task.targets[:, 1].mean() < 0.6
        near = task.inputs.norm(dim=1) < 0.2
        assert task.targets[near, 1].all()
    with pytest.raises(DataError, match="no shape called 'star'"):
        shape("star")


@needs_data
def test_training_stops_where_the_accuracy_is_reached() -> None:
    task = mnist20((12,), 0.8, images=200, held=100, learning_rate=0.01, seed=0)
    assert (task.inputs.shape, task.held_inputs.shape) == ((200, 400), (100, 400))
    with torch.no_grad():
        right = (task.model(task.inputs).argmax(1) == task.targets.argmax(1)).double().mean()
    assert 0.8 <= right < 0.95
    assert task.steps < 200 * 4


@needs_data
def test_one_digit_has_raw_pixels_and_outputs_that_sum_to_one() -> None:
    task = one_digit(1, hidden=10, images=500, held=100, most_epochs=1)
    assert task.inputs.max() == 255
    with torch.no_grad():
        torch.testing.assert_close(task.model(task.inputs).sum(1), torch.ones(500))
    assert 0.05 < task.targets[:, 1].mean() < 0.2


def test_a_normal_start_draws_weights_and_biases_from_the_standard_normal_distribution() -> None:
    drawn = torch.cat([each.flatten() for each in sigmoid_network((60, 80, 40), start="normal").parameters()])
    ordered = drawn.detach().sort().values
    at = (ordered[:, None] <= torch.tensor([-1.96, 0.0, 1.96])).double().mean(0)
    torch.testing.assert_close(at, torch.tensor([0.025, 0.5, 0.975], dtype=torch.float64), atol=0.02, rtol=0)
    named = sigmoid_network((60, 80, 40), start="normal").named_parameters()
    biases = torch.cat([each for name, each in named if "bias" in name])
    assert biases.abs().max() > 1.5  # torch's own are below 1 / 7
