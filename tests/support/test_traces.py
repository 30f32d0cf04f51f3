"""Tests share the export of an architecture: another instance gets what it would get by an export of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from support.networks import Flat, Residual, TwoReaders, mlp, unit_gain
from support.traces import EXPORTS, exported_once

pytestmark = pytest.mark.traced_anew


class Scaled(nn.Module):
    """A forward that reads a number, a tensor that is no buffer, and a function."""

    def __init__(
        self, number: float = 2.0, constant: float = 1.0, function: Callable[..., Tensor] = torch.tanh
    ) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 2)
        self.number, self.function = number, function
        self.constant = torch.tensor([constant], dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.number * self.function(self.first(x)) + self.constant)


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    return model


MADE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "flat": (Flat, (2, 6, 6)),
    "residual": (Residual, (2, 5, 5)),
    "two readers": (TwoReaders, (3,)),
    "scaled": (Scaled, (3,)),
}
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "another number": lambda: Scaled(number=3.0),
    "another constant": lambda: Scaled(constant=0.5),
    "another function": lambda: Scaled(function=torch.sigmoid),
    "other sizes": lambda: mlp(3, 5, 4),
    "another activation": lambda: mlp(3, 5, 2, activation=nn.ReLU),
    "no bias": lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2, bias=False)),
    "tied weights": tied,
}


def facts(network: dh.Network, x: Tensor) -> Any:
    found = [network.static, network.traced([x])]
    return [
        [
            (
                group.name,
                group.kind,
                group.size,
                [(part.parameter, part.axis, part.units.tolist()) for part in group.slices],
            )
            for group in traced.units.groups
        ]
        for traced in found
    ], network.fixed


@pytest.mark.parametrize("name", MADE)
def test_an_instance_with_other_weights_has_the_graph_that_its_own_export_gives(name: str) -> None:
    make, shape = MADE[name]
    first, second = unit_gain(make(), seed=1), unit_gain(make(), seed=2)
    x = torch.randn(4, *shape, dtype=torch.float64)
    with exported_once():
        dh.trace(first, x).replay(x)
        before = EXPORTS.made
        shared = dh.trace(second, x)
        replayed = shared.replay(x)
        assert EXPORTS.made == before
    own = dh.trace(second, x)
    assert facts(shared, x) == facts(own, x)
    assert torch.equal(replayed, own.replay(x))
    assert shared.difference == own.difference < 1e-14


@pytest.mark.parametrize("what", OTHERS)
def test_another_architecture_is_exported_anew(what: str) -> None:
    x = torch.randn(4, 3, dtype=torch.float64)
    with exported_once():
        for model in (Scaled(), mlp(3, 5, 2), nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))):
            dh.trace(model.double().eval(), x).replay(x)
        before = EXPORTS.made
        other = OTHERS[what]().double().eval()
        found = dh.trace(other, x).replay(x)
        assert EXPORTS.made > before
    torch.testing.assert_close(found, other(x), rtol=1e-12, atol=1e-12)
