"""The experiment `certificate`: bounds and measured changes against plain loops, and what holds at quick size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import deadhead as dh
from deadhead.lab.experiments.certificate.bounds import Case, _removals, bounds
from support.lab import drawn_all, quick


def made(width: int) -> nn.Sequential:
    torch.manual_seed(width)
    return nn.Sequential(
        nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
    ).double()


def ratio_by_hand(net: nn.Sequential, x: Tensor, y: Tensor, layer: int, unit: int) -> float:
    """Change over bound of one unit of a hidden layer: a plain forward pass and the norms of numpy."""
    with torch.no_grad():
        h = net[: layer + 2](x)
        held = h.clone()
        held[:, unit] = h[:, unit].mean()
        losses = [functional.cross_entropy(net[layer + 2 :](each), y, reduction="none") for each in (held, h)]
        change = float((losses[0] - losses[1]).abs().mean())
        deviation = float(h[:, unit].std(correction=0))
    column = np.linalg.norm(net[layer + 2].weight.detach().numpy()[:, unit])
    rest = np.prod([np.linalg.norm(net[i].weight.detach().numpy(), 2) for i in range(layer + 4, 5, 2)])
    bound = math.sqrt(2) * float(rest) * float(column) * deviation
    return change / bound if bound else 0.0


def test_ratios_are_those_of_plain_loops() -> None:
    net, other = made(5), made(5)
    x, y = torch.randn(40, 2, dtype=torch.float64), torch.arange(40) % 2
    case = Case(dh.trace(other, x[:2]), net, (x, y), sets=0)
    found = bounds({"net": case}, np.random.default_rng(0), None)
    ratios = [ratio_by_hand(net, x, y, layer, unit) for layer in (0, 2) for unit in range(5)]
    assert found["removals"] == 10
    assert found["worst_ratio"] == pytest.approx(max(ratios), rel=1e-9)
    assert found["bounds"]["net"]["median_ratio"] == pytest.approx(np.median([r for r in ratios if r > 0]), rel=1e-9)
    assert found["worst_ratio_at_hundredth"] == pytest.approx(100 * max(ratios))


def test_removals_are_every_unit_and_sets_of_all_sizes() -> None:
    found = _removals({"a": 3, "b": 7}, 200, np.random.default_rng(0))
    assert found[:10] == [{"a": [i]} for i in range(3)] + [{"b": [i]} for i in range(7)]
    sizes = [sum(len(set(units)) for units in each.values()) for each in found[10:]]
    assert (min(sizes), max(sizes)) == (2, 9)


def test_no_bound_is_violated_and_a_hundredth_of_it_is() -> None:
    found = quick("certificate")
    assert found["removals"] > 100
    assert found["worst_ratio_without_root_two"] < 1 < found["worst_ratio_at_hundredth"]
    assert all(0 < each["median_ratio"] < 0.2 for each in found["bounds"].values())


def test_least_squares_loses_less_than_means() -> None:
    losses = quick("certificate")["losses"]
    assert all(fitted[1] < mean[1] for fitted, mean in zip(losses["obs, least squares"], losses["mean"], strict=True))


def test_every_figure_is_drawn() -> None:
    drawn_all("certificate")
