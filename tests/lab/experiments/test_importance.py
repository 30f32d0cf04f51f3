"""Importance of weights: what is removed against a plain loop, and what holds at quick size."""

from __future__ import annotations

import torch

from deadhead.lab.experiments.importance.experiment import QUICK, Settings, trained, without
from deadhead.lab.networks.mnist_cnn import network, parts
from support.data import needs_data
from support.lab import drawn_all, quick


def test_the_lowest_half_of_every_layer_is_removed_and_nothing_else() -> None:
    net = network(0)
    values = {name: torch.rand_like(each) for name, each in net.named_parameters() if each.dim() > 1}
    smaller = without(net, values, 0.5)
    for name, each in net.named_parameters():
        expected = each.detach().clone()
        if name in values:
            expected[values[name] < values[name].flatten().sort().values[each.numel() // 2]] = 0
        assert torch.equal(smaller.get_parameter(name), expected)
    alone = without(net, values, 0.5, "fc1.weight")
    assert torch.equal(alone.conv1.weight, net.conv1.weight)
    assert int((alone.fc1.weight == 0).sum()) == 64 * 128


@needs_data
def test_adjustments_are_the_sums_of_absolute_steps() -> None:
    settings = Settings(**{**QUICK, "epochs": 1, "images": 70})  # two steps
    net, scored = trained(settings, parts(1000, 70), seed=0)
    start = network(0)
    for name, moved in scored["moved"].items():
        torch.testing.assert_close(moved, (net.get_parameter(name) - start.get_parameter(name)).detach().abs())
        assert bool((scored["adjusted"][name] >= moved - 1e-7).all())
        assert scored["adjusted"][name].sum() > moved.sum()


@needs_data
def test_what_scores_lowest_costs_less_than_chance_at_quick_size() -> None:
    found = quick("importance")
    assert found["magnitude_less_random"] < 0
    assert found["adjusted_less_random"] < 0
    assert found["structure"]["obs, least squares"] < found["change"]["random"]
    drawn_all("importance")
