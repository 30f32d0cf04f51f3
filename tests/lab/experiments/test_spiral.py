"""The spiral experiment: pruning by means against the library, how Adam moves weights, and what holds at quick size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import deadhead
from deadhead.data.calibration import as_batch, calibrate
from deadhead.lab.experiments import run_experiment
from deadhead.lab.experiments.spiral.moves import band, one_gradient_move, unit_correlations
from deadhead.lab.experiments.spiral.networks import arms, pruned, start
from deadhead.lab.experiments.spiral.trial import Spiral, Trial
from deadhead.select.plan import plan_of
from support.lab import drawn_all, quick

KEEP = torch.tensor([0, 2, 5]), torch.tensor([1, 4])


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).double()


def test_pruned_is_the_network_whose_removed_units_are_held_at_their_means(net: nn.Sequential) -> None:
    x = torch.randn(30, 2, dtype=torch.float64)
    value = intact = x
    for layer, kept in ((0, KEEP[0]), (2, KEEP[1])):
        value, intact = torch.relu(net[layer](value)), torch.relu(net[layer](intact))
        for unit in range(value.shape[1]):
            if unit not in kept.tolist():
                value[:, unit] = intact[:, unit].mean()
    found = pruned(net, KEEP, x)
    torch.testing.assert_close(found(x), net[4](value), rtol=0, atol=1e-12)
    assert [len(found[i].bias) for i in (0, 2, 4)] == [3, 2, 2]
    assert (found(x) - pruned(net, KEEP, x, adjust=False)(x)).abs().max() > 1e-3
    assert net[0].out_features == 6


def test_pruned_is_what_the_library_gives_for_the_same_units(net: nn.Sequential) -> None:
    x, y = torch.randn(50, 2, dtype=torch.float64), torch.randint(2, (50,))
    gone = [("0", i) for i in (1, 3, 4)] + [("2", i) for i in (0, 2, 3)]
    found = deadhead.prune(net, [(x, y)], loss="cross_entropy", plan=plan_of(gone), compensate="mean", curve=0)
    seen = torch.cat([batch.inputs for batch in calibrate([as_batch((x, y))]).fit])
    torch.testing.assert_close(found.model(x), pruned(net, KEEP, seen)(x), rtol=0, atol=1e-12)


def test_a_band_away_from_zero_is_found_or_is_none() -> None:
    draw = np.random.default_rng(0)
    still, moved = np.abs(draw.normal(0, 0.05, 1000)), draw.normal(0.59, 0.05, 500)
    place, trough = band(np.concatenate([still, moved]))
    assert abs(place - 0.59) < 0.03
    assert trough < 0.1
    assert band(np.linspace(0, 0.1, 100)) == (0.0, 1.0)


@pytest.mark.parametrize("learning_rate", [0.01, 0.1])
def test_one_gradient_moves_a_weight_by_six_learning_rates(learning_rate: float) -> None:
    first, second = 0.0, 0.0
    moved = 0.0
    for step in range(1, 3000):
        gradient = 1e-3 if step == 1 else 0.0
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        root = np.sqrt(second / (1 - 0.999**step))
        moved += learning_rate * first / (1 - 0.9**step) / root
    assert one_gradient_move(learning_rate) == pytest.approx(moved, rel=1e-3)
    assert moved == pytest.approx(6 * learning_rate, rel=0.01)


def test_units_are_as_similar_as_their_activations_correlate() -> None:
    one, other, x = start(8, 0), start(8, 1), torch.randn(100, 2)
    with torch.no_grad():
        one[0].bias[3] = -100.0  # a constant unit
    assert unit_correlations(one, one, x)[3] is None
    assert min(each for each in unit_correlations(one, one, x) if each is not None) > 0.999
    for unit, found in enumerate(unit_correlations(one, other, x)[:8]):
        pair = [torch.relu(net[0](x))[:, unit].detach().numpy() for net in (one, other)]
        assert found is None if unit == 3 else found == pytest.approx(np.corrcoef(pair)[0, 1], abs=1e-5)


def test_the_arms_are_half_a_turn_apart() -> None:
    x, y = arms(500, 1.5, 0.0, np.random.default_rng(0))
    radius, angle = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])
    phase = (angle - 2 * np.pi * 1.5 * radius / 0.95) % (2 * np.pi)
    torch.testing.assert_close(torch.cos(phase), 1.0 - 2.0 * y, rtol=0, atol=1e-3)


def test_networks_that_train_together_become_what_each_becomes_alone() -> None:
    trial = Trial.of(Spiral(points=40, epochs=3, turns=0.5), 7, None)
    nets = {"one": start(6, 0), "other": start(6, 1)}
    curves: dict[str, list[float]] = {}
    found = trial.together(nets, curves)
    for name, net in nets.items():
        alone = trial.fitted(net, 7)
        for ours, reference in zip(found[name].parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours, reference, rtol=0, atol=1e-5)
        assert (alone[0].weight - net[0].weight).abs().max() > 1e-2
        assert len(curves[name]) == 2  # after the first epoch and the second


def test_a_quick_run_learns_and_repeats() -> None:
    found = quick("spiral")
    assert found["accuracy"] > 0.9
    assert found["constant_unit_change"] < 1e-9 < found["bare_deletion_change"]
    assert found["over_train_prune"] > 0  # trained after pruning is better than pruned after training
    assert found["ways"]["obs, least squares"][0] > found["ways"]["inactive, means"][0]
    again = run_experiment("spiral", quick=True)
    assert {name: again[name] for name in ("accuracies", "random_kernels")} == {
        name: found[name] for name in ("accuracies", "random_kernels")
    }


def test_every_figure_is_drawn() -> None:
    drawn_all("spiral")
