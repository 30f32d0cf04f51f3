"""The spiral experiment: pruning by means against a plain loop, and what holds at quick size."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from deadhead.lab.experiments import EXPERIMENTS, run_experiment
from deadhead.lab.experiments.spiral import Spiral, _band, arms, pruned
from deadhead.lab.findings import drawn


def test_pruned_is_the_network_whose_removed_units_are_held_at_their_means() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    x = torch.randn(30, 2, dtype=torch.float64)
    keep = torch.tensor([0, 2, 5]), torch.tensor([1, 4])
    value = x
    for layer, kept in ((0, keep[0]), (2, keep[1])):
        value = torch.relu(net[layer](value))
        for unit in range(value.shape[1]):
            if unit not in kept.tolist():
                value[:, unit] = value[:, unit].mean()
    found = pruned(net, keep, x)
    torch.testing.assert_close(found(x), net[4](value), rtol=0, atol=1e-12)
    assert [len(found[i].bias) for i in (0, 2, 4)] == [3, 2, 2]
    assert (found(x) - pruned(net, keep, x, adjust=False)(x)).abs().max() > 1e-3
    assert net[0].out_features == 6


def test_a_band_away_from_zero_is_found_or_is_none() -> None:
    draw = np.random.default_rng(0)
    still, moved = np.abs(draw.normal(0, 0.05, 1000)), draw.normal(0.59, 0.05, 500)
    place, trough = _band(np.concatenate([still, moved]))
    assert abs(place - 0.59) < 0.03
    assert trough < 0.1
    assert _band(np.linspace(0, 0.1, 100)) == (0.0, 1.0)


def test_the_arms_are_half_a_turn_apart() -> None:
    x, y = arms(Spiral(noise=0.0), np.random.default_rng(0))
    radius, angle = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])
    phase = (angle - 2 * np.pi * 1.5 * radius / 0.95) % (2 * np.pi)
    torch.testing.assert_close(torch.cos(phase), 1.0 - 2.0 * y, rtol=0, atol=1e-3)


def test_a_quick_run_learns_repeats_and_draws_every_figure() -> None:
    found = run_experiment("spiral", quick=True, seed=1)
    assert found["accuracy"] > 0.9
    assert found["constant_unit_change"] < 1e-9 < found["bare_deletion_change"]
    assert found["over_train_prune"] > 0  # trained after pruning is better than pruned after training
    again = run_experiment("spiral", quick=True, seed=1)
    assert {name: again[name] for name in ("accuracies", "random_kernels")} == {
        name: found[name] for name in ("accuracies", "random_kernels")
    }
    for picture in EXPERIMENTS["spiral"].pictures:
        assert drawn(picture.size, lambda whole, draw=picture.draw: draw(whole, [found])).startswith(b"\x89PNG")
