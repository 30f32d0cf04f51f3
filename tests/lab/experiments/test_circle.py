"""The experiment on a circle: its formulas against autograd and the library, and what holds at quick size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import deadhead
from deadhead.lab.experiments import run_experiment
from deadhead.lab.experiments.circle.experiment import Circle, _balance, _repeats
from deadhead.lab.experiments.circle.network import LISTING_RADIUS, Gated, sample
from support.lab import drawn_all, quick


@pytest.fixture
def net() -> Gated:
    draw = np.random.default_rng(0)
    return Gated(draw.normal(size=(5, 2)), draw.normal(size=5), draw.normal(size=5), 0.3)


def module(net: Gated) -> nn.Sequential:
    """The network with a logit of zero for "inside" and z for "outside"."""
    found = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    last = np.stack([np.zeros(5), net.vote]), np.array([0.0, net.constant])
    with torch.no_grad():
        for layer, (weight, bias) in ((found[0], (net.weight, net.bias)), (found[2], last)):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
    return found


def test_losses_and_gradients_are_those_of_autograd(net: Gated) -> None:
    draw, whole = np.random.default_rng(0), module(net)
    x, y = draw.uniform(-1, 1, (40, 2)), (draw.random(40) < 0.5).astype(float)
    gates = (draw.random((6, 5)) < 0.5).astype(float)
    for b, loss, gradient in zip(gates, net.losses(x, y, gates), net.gradients(x, y, gates), strict=True):
        gate = torch.tensor(b, requires_grad=True)
        outputs = whole[2](whole[:2](torch.tensor(x)) * gate)
        reference = functional.cross_entropy(outputs, torch.tensor(y, dtype=torch.int64))
        reference.backward()
        assert abs(loss - reference.item()) < 1e-12
        np.testing.assert_allclose(gradient, gate.grad.numpy(), atol=1e-12)


def test_closing_a_unit_costs_what_the_library_says(net: Gated) -> None:
    x, y = sample(200, 0.8, np.random.default_rng(1))
    data, on = [(torch.tensor(x), torch.tensor(y, dtype=torch.int64))], np.ones((1, 5))
    scores = {
        name: next(iter(deadhead.score(module(net), data, loss="cross_entropy", criterion=name).values())).numpy()
        for name in ("oracle", "taylor1")
    }
    np.testing.assert_allclose(net.losses(x, y, 1 - np.eye(5)) - net.losses(x, y, on), scores["oracle"], atol=1e-12)
    np.testing.assert_allclose(-net.gradients(x, y, on)[0], scores["taylor1"], atol=1e-12)


def test_the_radius_halves_the_square_and_the_listings_does_not() -> None:
    assert abs(np.pi * Circle().radius ** 2 - 2) < 1e-12
    y = sample(100_000, LISTING_RADIUS, np.random.default_rng(0))[1]
    assert abs(1 - y.mean() - 0.627) < 0.01


def test_the_essays_draw_is_drawn_again_to_the_last_network() -> None:
    found = _repeats(Circle(draws=200), np.random.default_rng(0))
    assert (found["essay_all_on"], found["essay_distinct"], found["essay_without_14"]) == (5, 952, 3)
    # Chance gives 1000 draws of p = 0.75 about 499,500 (0.75^2 + 0.25^2)^20 = 41 pairs of equal ones.
    assert 960 < found["distinct_by_chance"] < 972
    assert found["share_as_few"] < 0.05


def test_a_parabola_in_the_votes_is_found_again() -> None:
    votes = np.random.default_rng(0).normal(size=500)
    scaled = (votes - votes.mean()) / votes.std()
    found = _balance(3 * votes + 1, -0.4 * scaled + 0.2 * scaled**2)
    assert found["vote_slope"] == pytest.approx(-0.4)
    assert found["vote_curvature"] == pytest.approx(0.2)
    assert found["vote_share"] == pytest.approx(1)


def test_a_quick_run_learns_and_repeats() -> None:
    found = quick("circle")
    assert found == run_experiment("circle", quick=True)
    assert found["losses"] != quick("circle", 1)["losses"]
    assert found["accuracy"] > 0.8
    assert min(found["loss_steps"][:2]) > 0  # more units, lower loss
    assert found["symmetric_steps"] >= 15
    assert found["listing"]["loss_mean"] != found["loss_mean"]


def test_every_figure_is_drawn() -> None:
    drawn_all("circle")
