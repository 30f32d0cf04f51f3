"""The schedule of weights: what is counted against plain loops, and what holds at quick size."""

from __future__ import annotations

import pytest
import torch

from deadhead.lab.experiments.schedule.experiment import QUICK, WEIGHTS, Settings, gathered, trained
from deadhead.lab.networks.mnist_cnn import network, parts
from support.data import needs_data
from support.lab import drawn_all, quick


def masks(share: float) -> dict[str, torch.Tensor]:
    """Open weights drawn one by one."""
    torch.manual_seed(0)
    net = network(0)
    return {name: torch.rand_like(net.get_parameter(name)) < share for name in WEIGHTS}


def test_weights_that_are_closed_anywhere_do_not_gather() -> None:
    net = network(0)
    found = gathered(net, net, masks(0.1), seed=0)
    assert all(0.001 < each < 0.999 for each in found["spread_percentile"])
    assert found["empty_filters"][1] == 0
    assert 0.5 < found["stripe_density_ratio"] < 1.5


def test_weights_that_are_closed_by_unit_gather_there() -> None:
    net, keep = network(0), masks(0.5)
    keep["conv1.weight"][[1, 4]] = False
    keep["conv2.weight"][3] = False
    keep["conv2.weight"][:, 2] = False
    keep["fc1.weight"].reshape(64, 16, 16)[:, 3] = False
    found = gathered(net, net, keep, seed=0)
    assert found["spread_percentile"][0] > 0.99
    assert found["empty_filters"] == [2, 1]
    missing = sum(int(keep["conv2.weight"][i, j].sum()) <= 1 for i in range(16) for j in range(8)) / 16
    assert found["channels_missing"] == missing > 1
    second = min((int(keep["conv2.weight"][i].sum()), i) for i in range(16) if i != 3)[1]
    by_unit = [float(keep["fc1.weight"][:, 16 * i : 16 * i + 16].double().mean()) for i in range(16)]
    others = [by_unit[i] for i in range(16) if i not in (3, second)]
    expected = (by_unit[3] + by_unit[second]) / 2 / (sum(others) / 14)
    assert found["stripe_density_ratio"] == pytest.approx(expected)
    largest = [net.get_parameter(name).detach().abs().flatten().topk(keep[name].numel() // 20)[1] for name in WEIGHTS]
    kept = torch.cat([keep[name].flatten()[index] for name, index in zip(WEIGHTS, largest, strict=True)])
    assert found["largest_kept"] == pytest.approx(float(kept.double().mean()))


@needs_data
def test_both_runs_are_one_until_weights_are_closed_which_then_stay_zero() -> None:
    settings = Settings(**{**QUICK, "images": 300})
    pruned, twin = trained(settings, parts(settings.validation, 300), seed=1)
    shared = settings.after[0] * (300 // settings.batch_size)
    assert pruned.losses[:shared] == twin.losses[:shared]
    assert pruned.losses[shared + 1 :] != twin.losses[shared + 1 :]
    open_ = sum(int((pruned.net.get_parameter(name) != 0).sum()) for name in WEIGHTS)
    assert open_ == round(0.1 * 20424)
    for name, keep in pruned.keep.items():
        assert not pruned.net.get_parameter(name)[~keep].any()
    assert pruned.closed == pytest.approx([0.0, 0.5, 0.9], abs=1e-3)


@needs_data
def test_a_quick_run_closes_what_the_schedule_says_and_draws_every_figure() -> None:
    found = quick("schedule")
    assert found["closed"] == pytest.approx([0.0, 0.5, 0.9], abs=1e-3)
    assert found["output_change_with_means"] == [] or max(found["output_change_with_means"]) < 1e-5
    assert found["removal"]["parameters"][0] <= 20522
    drawn_all("schedule")
