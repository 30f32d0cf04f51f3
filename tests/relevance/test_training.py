"""A training loss of relevance: its value, its derivatives by every parameter, and what training by it does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from support.networks import unit_gain


class Small(nn.Module):
    """(n, 1, 6, 6) to (n, 2), with an overlapping max-pool, a GELU and biases everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(27, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(nn.functional.gelu(torch.max_pool2d(self.norm(self.conv(x)), 2, 1)).flatten(1))


def mask(rows: int) -> Tensor:
    inside = torch.zeros(rows, 6, 6, dtype=torch.bool)
    inside[:, :, :3] = True
    return inside


@pytest.mark.parametrize("method", ["blame_bias", "gradient_x_input", "lrp_epsilon", "epsilon_plus", "baseline"])
def test_the_loss_is_the_share_outside(method: str) -> None:
    model = unit_gain(Small())
    x = torch.randn(4, 1, 6, 6, dtype=torch.float64)
    relevance = dh.attribute(model, x, 1, method).inputs.detach().abs()
    expected = [float(each[0, :, 3:].sum() / each.sum()) for each in relevance]
    found = dh.relevance_loss(model, x, 1, mask(4), method=method, reduction="none")
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert float(dh.relevance_loss(model, x, 1, mask(4)[:, None], method=method)) == pytest.approx(sum(expected) / 4)


def test_biases_count_as_outside_where_asked() -> None:
    model = unit_gain(Small())
    x = torch.randn(3, 1, 6, 6, dtype=torch.float64)
    found = dh.attribute(model, x, 0, "blame_bias")
    biases = torch.stack([each.abs().flatten(1).sum(1) for each in found.biases.values()]).sum(0)
    inside = found.inputs[:, 0, :, :3].abs().sum((1, 2))
    total = found.inputs.abs().sum((1, 2, 3)) + biases
    loss = dh.relevance_loss(model, x, 0, mask(3), biases=True, reduction="none")
    assert torch.allclose(loss, 1 - inside / total, rtol=1e-12)


@pytest.mark.parametrize("method", ["blame_bias", "lrp_epsilon", "baseline"])
def test_finite_differences_by_every_parameter(method: str) -> None:
    model = unit_gain(Small(), seed=2)
    x = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    network = dh.trace(model, x)

    def loss() -> Tensor:
        return dh.relevance_loss(network, x, 1, mask(2), method=method, biases=method != "baseline")

    parameters = dict(model.named_parameters())
    derived = torch.autograd.grad(loss(), list(parameters.values()), allow_unused=True)
    moved = 0
    for parameter, gradient in zip(parameters.values(), derived, strict=True):
        flat = parameter.data.view(-1)
        for place in range(0, len(flat), max(1, len(flat) // 7)):
            ends = []
            for step in (1e-6, -1e-6):
                flat[place] += step
                with torch.no_grad():
                    ends.append(float(loss()))
                flat[place] -= step
            numeric = (ends[0] - ends[1]) / 2e-6
            exact = 0.0 if gradient is None else float(gradient.flatten()[place])
            assert exact == pytest.approx(numeric, abs=2e-8, rel=2e-6)
            moved += abs(numeric) > 1e-6
    assert moved > 10


def test_training_moves_the_relevance_inside_without_a_new_trace() -> None:
    """The class stands in both halves of the input; the loss makes the network read the marked one."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (256,), generator=generator)
    halves = (2.0 * targets - 1)[:, None] * torch.ones(256, 8) + torch.randn(256, 8, generator=generator)
    region = torch.arange(8).expand(256, 8) < 4
    sign = 2.0 * targets - 1
    shares, swapped = {}, {}

    def margin(outputs: Tensor) -> Tensor:  # one logit alone leaves it to the other to look outside
        return sign * (outputs[:, 1] - outputs[:, 0])

    for weight in (0.0, 3.0):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        network = dh.trace(model, halves[:2])
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(60):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(halves), targets)
            if weight:
                loss = loss + weight * dh.relevance_loss(network, halves, margin, region, biases=True)
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            shares[weight] = float(dh.relevance_loss(network, halves, margin, region))
            other = torch.where(region, halves, -halves)  # the unmarked half says the opposite
            swapped[weight] = float((model(other).argmax(1) == targets).float().mean())
    assert shares[0.0] > 0.35
    assert shares[3.0] < 0.15
    assert swapped[3.0] > 0.9 > 0.75 > swapped[0.0]


def test_without_relevance_there_is_none_outside() -> None:
    model = nn.Linear(4, 1)
    nn.init.zeros_(model.weight)
    loss = dh.relevance_loss(model, torch.ones(2, 4), 0, torch.zeros(2, 4), reduction="none")
    assert loss.tolist() == [0.0, 0.0]
    loss.sum().backward()
    assert all(bool(each.grad.isfinite().all()) for each in model.parameters() if each.grad is not None)


@pytest.mark.parametrize(
    ("region", "says"),
    [
        (torch.zeros(2, 5), r"The region has shape \(2, 5\), the inputs \(2, 1, 6, 6\)"),
        (torch.zeros(2, 5, 6), r"needs that shape, or that without channels"),
        ((torch.zeros(2, 6, 6), torch.zeros(2, 6, 6)), "The region has 2 tensors, the inputs have 1"),
    ],
)
def test_a_region_of_another_shape_is_refused(region: Any, says: str) -> None:
    with pytest.raises(dh.RelevanceError, match=says):
        dh.relevance_loss(unit_gain(Small()), torch.randn(2, 1, 6, 6, dtype=torch.float64), 0, region)
    with pytest.raises(dh.RelevanceError, match="not a choice"):
        dh.relevance_loss(nn.Linear(2, 1), torch.ones(1, 2), 0, torch.ones(1, 2), reduction="sum")  # type: ignore[arg-type]
