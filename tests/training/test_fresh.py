"""Fresh values are those of a layer's own initialisation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import deadhead as dh
from deadhead.training.fresh import fresh_values
from support.snapshot import Unharmed


def test_values_are_what_reset_parameters_draws(unharmed: Unharmed) -> None:
    layer = nn.Conv2d(3, 5, 3)
    model = nn.Sequential(nn.ReLU(), layer)
    with unharmed(model):
        weight, bias = (
            fresh_values(model, f"1.{name}", torch.Generator().manual_seed(3)) for name in ("weight", "bias")
        )
    assert weight.shape == layer.weight.shape
    assert not torch.equal(weight, layer.weight)
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(3)))
    torch.manual_seed(seed)
    layer.reset_parameters()
    assert torch.equal(weight, layer.weight)
    assert torch.equal(bias, layer.bias)


def test_each_draw_from_a_generator_is_another_and_without_one_the_same() -> None:
    model, generator = nn.Linear(3, 4), torch.Generator().manual_seed(0)
    first, second = (fresh_values(model, "weight", generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(fresh_values(model, "weight"), fresh_values(model, "weight"))


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4)])
def test_norms_come_out_as_ones_and_zeros(norm: nn.Module) -> None:
    with torch.no_grad():
        for value in norm.state_dict().values():
            value.add_(3)
    expected = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
    for name in norm.state_dict():
        assert (fresh_values(norm, name) == expected[name]).all(), name


def test_attention_initialises_its_projections_itself() -> None:
    attention = nn.MultiheadAttention(8, 2)
    found = fresh_values(attention, "in_proj_weight")
    assert found.abs().max() <= math.sqrt(6 / (8 + 24)), "Xavier's uniform range"
    assert found.std() > 0.1
    assert found.shape == (24, 8)


def test_a_parameter_without_an_initialisation_is_drawn_as_wide_as_its_open_entries() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(200, 50) * 0.3)

    model = Own()
    with torch.no_grad():
        model.table[:150] = 0
    found = fresh_values(model, "table")
    assert found.std().item() == pytest.approx(0.3, rel=0.03), "zeros do not count"
    mask = torch.zeros(200, 50, dtype=torch.bool)
    mask[:151] = True
    assert fresh_values(model, "table", open_entries=mask).std().item() < 0.1
    assert abs(found.mean().item()) < 0.01


def test_a_parametrized_weight_is_drawn_by_its_spread() -> None:
    model = parametrizations.weight_norm(nn.Linear(30, 40))
    name = next(name for name, each in model.named_parameters() if each.shape == (40, 30))
    assert fresh_values(model, name).shape == (40, 30)


def test_a_name_that_is_no_parameter_is_named() -> None:
    with pytest.raises(dh.DataError, match=r"Linear has no parameter or buffer 'wieght'.*named_parameters"):
        fresh_values(nn.Linear(2, 2), "wieght")
