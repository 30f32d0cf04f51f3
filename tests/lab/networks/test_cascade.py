"""Cascade correlation: what it maximises and trains, against plain loops and autograd, and that growth helps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deadhead.lab.networks.cascade import OFFSET, Recipe, candidate, correlation, grow, train_outputs


@pytest.fixture
def points() -> tuple[Tensor, Tensor]:
    """Inside or outside of a ring, which no straight line tells apart."""
    x = 2 * torch.rand(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    inside = ((x.norm(dim=1) - 0.7).abs() < 0.2).double()
    return x, torch.stack([inside, 1 - inside], 1)


def test_correlation_is_the_papers_sum_over_outputs_of_absolute_covariances() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 1.0], [2.0, 6.0]])
    error = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, 1.0]])
    found = [0.0, 0.0]
    for unit in range(2):
        for output in range(2):
            v, e = values[:, unit].tolist(), error[:, output].tolist()
            total = sum((v[n] - sum(v) / 3) * (e[n] - sum(e) / 3) for n in range(3))
            found[unit] += abs(total)
    assert correlation(values, error).tolist() == pytest.approx(found)


def test_trained_outputs_are_stationary_and_uncorrelated_with_what_they_read(points: tuple[Tensor, Tensor]) -> None:
    x, y = points
    read = torch.cat([torch.ones(200, 1, dtype=torch.float64), x, x[:, :1] * x[:, 1:]], 1)
    weights = train_outputs(read, y, torch.zeros(4, 2, dtype=torch.float64), 200).requires_grad_()
    o = torch.sigmoid(read @ weights)
    loss = ((o - y) ** 2).sum(1).mean() / 2 + OFFSET * functional.binary_cross_entropy(o, y, reduction="sum") / 200
    assert torch.autograd.grad(loss, weights)[0].abs().max() < 1e-6
    error = ((o - y) * (o * (1 - o) + OFFSET)).detach()
    assert (read.T @ error).abs().max() / 200 < 1e-6


def test_a_candidate_correlates_better_than_any_of_many_random_units(points: tuple[Tensor, Tensor]) -> None:
    x, y = points
    read = torch.cat([torch.ones(200, 1, dtype=torch.float64), x], 1)
    error = y - y.mean(0)
    draw = torch.Generator().manual_seed(0)
    best = candidate(read, error, Recipe(candidate_steps=100), draw)
    random = 3 * torch.randn(3, 200, generator=draw, dtype=torch.float64)
    found = correlation(torch.sigmoid(read @ best)[:, None], error)
    assert found.item() > correlation(torch.sigmoid(read @ random), error).max().item()


@pytest.mark.parametrize("shortcuts", [True, False])
def test_growth_lowers_the_error_and_its_records_are_those_of_the_network(
    points: tuple[Tensor, Tensor], shortcuts: bool
) -> None:
    x, y = points
    net = grow(x, y, Recipe(shortcuts=shortcuts), target=0.0, most=4, seed=0, other=(x[:50], y[:50]))
    assert len(net.units) == 4
    assert net.errors == sorted(net.errors, reverse=True)
    assert net.errors[-1] < 0.7 * net.errors[0]
    assert net.errors[-1] == pytest.approx(((net(x) - y) ** 2).sum().item() / 400, abs=1e-12)
    assert net.other_errors[-1] == pytest.approx(((net(x[:50]) - y[:50]) ** 2).sum().item() / 100, abs=1e-12)
    assert net.parameters[-1] == (3 + 4 + 5 + 6) + (7 if shortcuts else 5) * 2
    assert net.size(net.errors[2]) == 2
    assert net.size(0.0) is None


def test_each_unit_reads_the_inputs_and_the_units_before_it(points: tuple[Tensor, Tensor]) -> None:
    x, y = points
    net = grow(x, y, Recipe(candidates=2, candidate_steps=20), target=0.0, most=2, seed=0)
    sample = x[0].tolist()
    read = [1.0, *sample]
    for weights in net.units:
        total = sum(w * v for w, v in zip(weights.tolist(), read, strict=True))
        read.append(1 / (1 + math.exp(-total)))
    outputs = [
        1 / (1 + math.exp(-sum(w * v for w, v in zip(column, read, strict=True)))) for column in net.outputs.T.tolist()
    ]
    assert net(x[:1])[0].tolist() == pytest.approx(outputs)


def test_growth_ends_where_the_target_is_met(points: tuple[Tensor, Tensor]) -> None:
    x, y = points
    net = grow(x, y, Recipe(), target=0.15, most=10, seed=0)
    assert net.errors[-1] <= 0.15 < net.errors[-2]


def test_candidates_are_asked_for_what_the_units_that_are_there_do_not_explain(
    points: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = points
    asked = []

    def recording(features: Tensor, error: Tensor, recipe: Recipe, draw: torch.Generator) -> Tensor:
        asked.append((features.T @ error).abs().max().item() / len(features))
        return candidate(features, error, recipe, draw)

    monkeypatch.setattr("deadhead.lab.networks.cascade.candidate", recording)
    grow(x, y, Recipe(candidates=2, candidate_steps=20, output_steps=200), target=0.0, most=2, seed=0)
    assert max(asked) < 1e-5
