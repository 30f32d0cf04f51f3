"""The experiment on a circle: its formulas against autograd, and what holds at quick size."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from deadhead.lab.experiments import EXPERIMENTS, run_experiment
from deadhead.lab.experiments.circle import Circle, Gated
from deadhead.lab.findings import drawn


def test_losses_and_gradients_are_those_of_autograd() -> None:
    draw = np.random.default_rng(0)
    net = Gated(draw.normal(size=(5, 2)), draw.normal(size=5), draw.normal(size=5), 0.3)
    x, y = draw.uniform(-1, 1, (40, 2)), (draw.random(40) < 0.5).astype(float)
    gates = (draw.random((6, 5)) < 0.5).astype(float)
    for b, loss, gradient in zip(gates, net.losses(x, y, gates), net.gradients(x, y, gates), strict=True):
        gate = torch.tensor(b, requires_grad=True)
        hidden = functional.relu(torch.tensor(x) @ torch.tensor(net.weight.T) + torch.tensor(net.bias)) * gate
        outside = hidden @ torch.tensor(net.vote) + net.constant
        logits = torch.stack([torch.zeros(40, dtype=torch.float64), outside], 1)
        reference = functional.cross_entropy(logits, torch.tensor(y, dtype=torch.int64))
        reference.backward()
        assert abs(loss - reference.item()) < 1e-12
        np.testing.assert_allclose(gradient, gate.grad.numpy(), atol=1e-12)


def test_a_quick_run_learns_repeats_and_draws_every_figure() -> None:
    found = run_experiment("circle", quick=True, seed=1)
    assert found == run_experiment("circle", quick=True, seed=1)
    assert found["accuracy"] > 0.8
    assert min(found["loss_steps"][:2]) > 0  # more units, lower loss
    assert found["symmetric_steps"] >= 15
    assert found["losses"] != run_experiment("circle", quick=True, seed=2)["losses"]
    for picture in EXPERIMENTS["circle"].pictures:
        assert drawn(picture.size, lambda whole, draw=picture.draw: draw(whole, [found])).startswith(b"\x89PNG")


def test_the_radius_halves_the_square_by_default() -> None:
    assert abs(np.pi * Circle().radius ** 2 - 2) < 1e-12
