from __future__ import annotations

import pytest
import torch
from torch import nn

from deadhead.errors import DeadheadError
from deadhead.lab import cifar_cnn, digits_cnn, small_cnn


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_small_cnn_has_exactly_20522_parameters() -> None:
    model = small_cnn()
    assert count(model) == 20_522
    assert [model.conv1.out_channels, model.conv2.out_channels, model.fc1.out_features] == [8, 16, 64]  # type: ignore[union-attr]
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize(("name", "kind"), [("relu", nn.ReLU), ("tanh", nn.Tanh), ("sigmoid", nn.Sigmoid)])
def test_small_cnn_has_the_activation_asked_for_three_times(name: str, kind: type[nn.Module]) -> None:
    assert sum(isinstance(module, kind) for module in small_cnn(name).modules()) == 3


def test_unknown_activation_lists_the_valid_ones() -> None:
    with pytest.raises(DeadheadError, match="'gelu': choose one of relu, tanh, sigmoid"):
        small_cnn("gelu")


@pytest.mark.parametrize("norm", ["after", "before", "none"])
def test_cifar_cnn_normalises_where_asked(norm: str) -> None:
    model = cifar_cnn("tanh", norm)
    assert model(torch.zeros(3, 3, 32, 32)).shape == (3, 10)
    assert count(model) == 30_138 + (norm != "none") * 2 * (8 + 16 + 64)
    kinds = [type(module).__name__ for module in model]
    first = [kinds.index("Tanh"), *(kinds.index(kind) for kind in ("BatchNorm2d", "Identity") if kind in kinds)]
    assert (first[0] < first[1]) == (norm != "before")


def test_unknown_places_of_batch_norm_are_named() -> None:
    with pytest.raises(DeadheadError, match="norm is 'behind': batch norm stands after the nonlinearity"):
        cifar_cnn(norm="behind")


def test_digits_cnn_has_batch_norm_pool_and_flatten() -> None:
    model = digits_cnn()
    kinds = [type(module).__name__ for module in model]
    assert (kinds.count("Conv2d"), kinds.count("BatchNorm2d"), kinds.count("Linear")) == (3, 3, 2)
    assert {"MaxPool2d", "Flatten", "ReLU"} <= set(kinds)
    assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


@pytest.mark.parametrize("factory", [digits_cnn, small_cnn, cifar_cnn])
def test_seed_fixes_the_weights_and_nothing_else(factory: type[nn.Module]) -> None:
    state = torch.random.get_rng_state()
    first, second, other = factory(seed=1), factory(seed=1), factory(seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.conv1.weight, other.conv1.weight)  # type: ignore[arg-type, union-attr]
    factory()
    assert not torch.equal(torch.random.get_rng_state(), state)
