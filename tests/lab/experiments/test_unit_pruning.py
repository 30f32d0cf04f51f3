"""The experiment `unit_pruning`: what holds at quick size, and its own arithmetic against plain loops."""

from __future__ import annotations

import torch

from deadhead.lab.experiments.unit_pruning.experiment import UnitPruning, _curve, _nonzero, ways
from deadhead.lab.models import small_cnn
from deadhead.lab.networks.arms import UNITS
from support.data import needs_data
from support.lab import drawn_all, quick


def test_the_settings_ask_for_the_schedule_of_the_thesis() -> None:
    found = ways(UnitPruning())
    assert [found["mrs"].rounds[epoch]["fc1"] for epoch in (2, 3, 4, 5)] == [58, 52, 39, 26]
    assert found["mrs, less"].rounds[4] == {"conv1": 5, "conv2": 10, "fc1": 39}
    assert 5 not in found["mrs, less"].rounds
    assert [round(found["weights"].rounds[epoch], 9) for epoch in (2, 3, 4, 5)] == [0.8, 0.5, 0.2, 0.1]
    assert not found["twin"].rounds


def test_shares_of_non_zero_weights_are_those_of_a_plain_loop() -> None:
    model, draw = small_cnn(seed=0), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= torch.rand(parameter.shape, generator=draw) < 0.3
        model.fc1.weight[:, 16 * 3 : 16 * 4] = 0  # what fc1 reads of unit 3 of conv2
        model.fc2.weight[:, 7] = 0
    found = {name: _nonzero(model, name) for name in UNITS}
    for unit in range(16):
        into = [float(w) != 0 for w in model.conv2.weight[unit].flatten().detach()]
        out = [float(w) != 0 for w in model.fc1.weight[:, 16 * unit : 16 * (unit + 1)].flatten().detach()]
        assert abs(float(found["conv2"][unit]) - min(sum(into) / len(into), sum(out) / len(out))) < 1e-12
    assert found["conv2"][3] == 0
    assert found["fc1"][7] == 0
    assert found["fc1"][8] > 0


def test_curves_are_means_over_equal_stretches() -> None:
    losses = torch.tensor([[1.0, 10.0], [3.0, 20.0], [5.0, 30.0], [7.0, 40.0]])
    assert _curve(losses, points=2) == [[2.0, 6.0], [15.0, 35.0]]


@needs_data
def test_the_quick_run_ends_with_4019_parameters_and_cuts_what_it_masked() -> None:
    found = quick("unit_pruning")
    assert found["count_error"] == 0 < found["count_error_rounded"]
    assert found["mrs"]["parameters"] == 4019
    assert found["cut_difference"] < 1e-5 < found["twin_cut_difference"]
    assert found["bytes_ratio"] < 0.25
    assert found["constant_unit_change"] < 1e-9 < found["bare_deletion_change"]
    assert found["twin_accuracy"] > 60
    assert found["pruned_accuracy"] > 50
    assert found["jumps"]["mrs"][-1] > found["jumps"]["mrs"][0]
    assert min(found["survivor_correlations"]) > 0.8
    assert found["weights_sizes"][0] == 20522
    assert found["weights_sizes"] == sorted(found["weights_sizes"], reverse=True)


@needs_data
def test_its_figures_draw() -> None:
    drawn_all("unit_pruning")
