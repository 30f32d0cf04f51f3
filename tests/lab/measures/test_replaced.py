"""Losses with sets of units replaced, against plain loops over the layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import deadhead as dh
from deadhead.gates.batched import Parts
from deadhead.graph.network import Network, trace
from deadhead.lab.measures.replaced import Replaced
from deadhead.lab.models import small_cnn

INPUTS, TARGETS = torch.rand(24, 1, 28, 28, generator=torch.Generator().manual_seed(1)), torch.arange(24) % 10
CONSTANTS = {
    "zero": lambda values: torch.zeros(()),
    "mean": torch.mean,
    "median": lambda values: values.flatten().quantile(0.5),
    "min": torch.min,
    "max": torch.max,
}


@pytest.fixture(scope="module")
def network() -> Network:
    model = small_cnn("tanh", seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2  # so that units matter
    return trace(model, INPUTS)


def plainly(network: Network, layer: str, units: Tensor, constant: str) -> Tensor:
    """Losses of each sample with units of a layer at a constant, layer by layer."""
    value = INPUTS
    for name, module in network.module.named_children():
        value = module(value)
        if name == layer:
            value = value.clone()
            for unit in units.tolist():
                value[:, unit] = CONSTANTS[constant](value[:, unit])
    return functional.cross_entropy(value, TARGETS, reduction="none")


@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc1"])
@pytest.mark.parametrize("constant", CONSTANTS)
def test_the_rise_is_that_of_a_plain_loop(network: Network, layer: str, constant: str) -> None:
    replaced = Replaced(network, INPUTS, TARGETS, parts=Parts(network), reference=constant, layers=[layer])
    sets = [torch.tensor([0, 3, 5]), torch.tensor([], dtype=torch.int64), torch.tensor([7])]
    with torch.no_grad():
        intact = plainly(network, layer, sets[1], constant)
        expected = torch.stack([plainly(network, layer, units, constant).mean() - intact.mean() for units in sets])
        single = [(plainly(network, layer, torch.tensor([unit]), constant) - intact).abs().sum() for unit in range(8)]
    torch.testing.assert_close(replaced.rise(layer, sets), expected.double(), rtol=0, atol=2e-6)
    torch.testing.assert_close(replaced.penalties(layer)[:8], torch.stack(single).double(), rtol=1e-3, atol=2e-5)
    assert abs(replaced.intact - float(intact.mean())) < 1e-6
    assert expected[0].abs() > 1e-4


def test_penalties_are_the_mean_replacement_penalty_of_the_library(network: Network) -> None:
    replaced = Replaced(network, INPUTS, TARGETS, parts=Parts(network))
    scores = dh.score(network, [(INPUTS, TARGETS)], loss="cross_entropy", criterion="mrp", site="producer")
    for layer in ("conv1", "conv2", "fc1"):
        torch.testing.assert_close(replaced.penalties(layer), scores[layer], rtol=1e-6, atol=1e-9)
