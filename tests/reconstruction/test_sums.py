"""Streamed statistics against the whole data at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import read
from deadhead.data.losses import as_loss
from deadhead.gates.gates import Gates
from deadhead.gates.moments import moments
from deadhead.gates.state import PrunedState
from deadhead.reconstruction import sums
from deadhead.reconstruction.sums import patch_means, regressions
from support.networks import Flat, classes, conv_pair, unit_gain
from support.references import inputs_of, laid_out, unfolded


def gates_of(model: nn.Module, data: list[tuple[Tensor, Tensor]]) -> Gates:
    return Gates(dh.trace(model, data[0][0]), as_loss("mse"))


@pytest.mark.parametrize("batch", [4, 7, 20])
def test_moments_over_batches_are_those_of_all_rows_and_positions(batch: int) -> None:
    model = unit_gain(Flat())
    data = classes(20, 2, 6, 6, batch=batch)
    gates = gates_of(model, data)
    found = moments(gates, gates.network.groups, read(data))
    for name, module, axis in (("conv1", "conv2", 1), ("conv2", "fc1", -1), ("fc1", "fc2", -1)):
        columns = torch.cat([value.movedim(axis, -1).flatten(0, -2) for value in inputs_of(model, module, data)])
        (each,) = found[name]
        assert each.count == len(columns)
        torch.testing.assert_close(each.mean, columns.mean(0), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(each.std, columns.std(0, correction=0), rtol=1e-9, atol=1e-12)
        assert torch.equal(each.minimum, columns.amin(0))
        assert torch.equal(each.maximum, columns.amax(0))


def test_the_spread_of_activations_far_from_zero_is_not_lost() -> None:
    model = unit_gain(nn.Sequential(nn.Linear(3, 4), nn.Identity(), nn.Linear(4, 2)))
    with torch.no_grad():
        model[0].bias.add_(1e4)
    data = classes(50, 3, batch=10)
    gates = gates_of(model, data)
    (found,) = moments(gates, gates.network.groups, read(data))["0"]
    columns = torch.cat(inputs_of(model, "2", data))
    torch.testing.assert_close(found.std, columns.std(0, correction=0), rtol=1e-6, atol=0)


SETTINGS = [
    {}, {"padding": 1}, {"stride": 2}, {"stride": 2, "padding": 2}, {"dilation": 2, "padding": 2}, {"groups": 2},
    {"groups": 3, "padding": 1, "stride": 2}, {"kernel": 1}, {"padding": "same"}, {"padding": "same", "kernel": 2},
    {"padding": "valid"}, {"padding": "same", "dilation": 2}, {"rank": 1, "padding": 1, "groups": 2},
    {"rank": 3, "kernel": 2, "padding": 1},
]  # fmt: skip


@pytest.mark.parametrize("options", SETTINGS[:8], ids=str)
def test_the_mean_of_each_tap_counts_its_padding(options: dict[str, object]) -> None:
    model = conv_pair(**options)  # type: ignore[arg-type]
    data = classes(7, 2, 6, 5, batch=3)
    gates = gates_of(model, data)
    found = patch_means(gates, ["2.weight"], read(data))["2.weight"]
    read_there = torch.cat([unfolded(model[2], value) for value in inputs_of(model, "2", data)], 1)
    torch.testing.assert_close(found, read_there.mean(1), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", SETTINGS[:8], ids=str)
def test_regressions_sum_the_products_of_explicit_patches_and_outputs(options: dict[str, object]) -> None:
    model = conv_pair(**options)  # type: ignore[arg-type]
    groups = model[2].groups
    data = classes(7, 2, 6, 5, batch=3)
    gates = gates_of(model, data)
    closed = torch.ones(gates.network.groups[0].size)
    closed[1] = 0
    after = PrunedState.of(gates.network).closing({"0": closed}).gates()
    found = regressions(gates, after, {"2.weight": laid_out(model[2])}, read(data))["2.weight"][0]
    assert found is not None
    before = torch.cat([unfolded(model[2], value) for value in inputs_of(model, "2", data)], 1)
    gone = [g * 6 // groups + 1 for g in range(groups)]
    read_after = [value.index_fill(1, torch.tensor(gone), 0.0) for value in inputs_of(model, "2", data)]
    columns = torch.cat([unfolded(model[2], value) for value in read_after], 1)
    columns = torch.cat([columns, columns.new_ones(*columns.shape[:2], 1)], 2)
    wanted = before @ model[2].weight.detach().reshape(groups, 6 // groups, -1).transpose(1, 2)
    torch.testing.assert_close(found.gram, columns.transpose(1, 2) @ columns, rtol=1e-11, atol=1e-10)
    torch.testing.assert_close(found.cross, wanted.transpose(1, 2) @ columns, rtol=1e-11, atol=1e-10)
    assert found.energy == pytest.approx(float(wanted.square().sum()), rel=1e-12)
    assert found.count == columns.shape[1]


def test_products_of_half_precision_are_taken_in_float32() -> None:
    model = conv_pair().bfloat16()
    data = [(inputs.bfloat16(), targets) for inputs, targets in classes(32, 2, 6, 5)]
    gates = gates_of(model, data)
    found = regressions(gates, gates, {"2.weight": laid_out(model[2])}, read(data))["2.weight"][0]
    assert found is not None
    columns = torch.cat([unfolded(model[2], value) for value in inputs_of(model, "2", data)], 1).double()
    exact = columns.transpose(1, 2) @ columns
    assert (found.gram[:, :-1, :-1] - exact).abs().max() < 1e-5 * exact.abs().max()


def test_products_of_many_columns_are_those_of_the_whole_matrix() -> None:
    wide = torch.randn(2, 30, 2 * sums.PANEL + 5, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(sums.squares_of(wide), wide.transpose(1, 2) @ wide, rtol=1e-12, atol=1e-12)
