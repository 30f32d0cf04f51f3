"""The experiment `rules`: the essay's formulas against plain loops, and what holds at quick size."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import deadhead as dh
from deadhead.lab.experiments.rules.maxima import soft_shares
from deadhead.lab.experiments.rules.plain import layer_by_layer, off
from support.lab import drawn_all, quick


def test_both_forms_are_the_essays_sums_over_units() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        net[0].bias.zero_()
        net[2].bias.zero_()
    x = torch.randn(1, 3, dtype=torch.float64)
    w, v = net[0].weight.tolist(), net[2].weight.tolist()
    a = x[0].tolist()
    sums = [sum(w[j][i] * a[i] for i in range(3)) for j in range(4)]
    hidden = [math.tanh(each) for each in sums]
    output = sum(v[1][j] * hidden[j] for j in range(4))
    for blip in (0.0, 0.5):
        last = output + math.copysign(blip, output)
        r_hidden = [hidden[j] * v[1][j] / last * output for j in range(4)]
        below = [each + math.copysign(blip, each) for each in sums]
        expected = [sum(a[i] * w[j][i] / below[j] * r_hidden[j] for j in range(4)) for i in range(3)]
        _, r = layer_by_layer(net, x, 1, "R", blip)
        torch.testing.assert_close(r[0][0].tolist(), expected, rtol=0, atol=1e-13)
        assert blip > 0 or abs(sum(expected) - output) < 1e-13
    _, q = layer_by_layer(net, x, 1, "Q")
    by_q = [sum(w[j][i] * hidden[j] / sums[j] * v[1][j] for j in range(4)) for i in range(3)]
    torch.testing.assert_close(q[0][0].tolist(), by_q, rtol=0, atol=1e-13)


def test_off_is_relative_to_the_largest_entry_of_each_sample() -> None:
    found, expected = torch.tensor([[1.0, 3.0], [10.0, 0.0]]), torch.tensor([[1.0, 2.0], [10.0, 4.0]])
    assert off(found, expected) == 0.5
    assert off(found, expected, torch.tensor([[True, False], [True, True]])) == pytest.approx(0.4)


def test_a_soft_maximum_shares_as_the_rescale_rule_of_its_parts_does() -> None:
    class Soft(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0.5 * torch.log(torch.exp(x / 0.5).sum(1))

    torch.manual_seed(0)
    x, base = torch.randn(2, 20, 2, dtype=torch.float64)
    by_parts = dh.attribute(Soft(), x, None, "baseline", baseline=base)
    torch.testing.assert_close(soft_shares(x, base, 0.5), by_parts.inputs, rtol=0, atol=1e-12)


def test_what_is_exact_is_exact_and_each_control_breaks_it() -> None:
    found = quick("rules")
    exact = ("slope", "superposition", "conservation", "q_form", "q_sum", "ends", "ones", "swap")
    assert max(found[f"{name}_error"] for name in exact) < 1e-12
    broken = ("tanh_slope", "repeat_superposition", "gradient_sum", "gradient_form", "without_ones", "gradient_swap")
    assert min(found[f"{name}_error"] for name in broken) > 0.01


def test_the_quotient_loses_nothing_near_zero_but_at_zero_and_with_a_blip() -> None:
    found = quick("rules")
    assert found["r_over_q_error"] < 10
    assert found["blip_over_q_error"] > 1e4
    assert (found["blank_r_form_nan"], found["blank_q_form_nan"]) == (1.0, 0.0)


def test_large_biases_swell_the_rule_without_them_and_not_blame_the_bias() -> None:
    assert quick("rules")["lrp_over_blame"] > 3


def test_every_figure_is_drawn() -> None:
    drawn_all("rules")
