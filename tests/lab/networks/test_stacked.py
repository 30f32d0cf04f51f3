"""Networks side by side are each what they are by themselves: outputs, training, batch-norm statistics."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deadhead.errors import DeadheadError
from deadhead.lab.models import cifar_cnn
from deadhead.lab.networks.stacked import Stack

KINDS = [("relu", "after"), ("relu", "after"), ("relu", "none"), ("tanh", "none"), ("tanh", "none")]


def networks(kinds: list[tuple[str, str]]) -> list[nn.Sequential]:
    return [cifar_cnn(activation, norm, seed=i).double() for i, (activation, norm) in enumerate(kinds)]


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    shape = (6, 3, 32, 32)
    return [
        (torch.randn(shape, generator=draw, dtype=torch.float64), torch.randint(10, (6,), generator=draw))
        for _ in range(count)
    ]


@pytest.mark.parametrize("channels_last", [False, True])
def test_stacked_networks_train_as_each_does_alone(channels_last: bool) -> None:
    together, alone = networks(KINDS), networks(KINDS)
    stack = Stack(together)
    if channels_last:
        stack = stack.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stepper = torch.optim.SGD(stack.parameters(), lr=0.05)
    steppers = [torch.optim.SGD(each.parameters(), lr=0.05) for each in alone]
    for inputs, targets in batches(3):
        found = stack(inputs)
        losses = torch.stack([functional.cross_entropy(each, targets) for each in found])
        stepper.zero_grad()
        losses.sum().backward()
        stepper.step()
        for network, own, outputs in zip(alone, steppers, found, strict=True):
            expected = network(inputs)
            torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-10)
            own.zero_grad()
            functional.cross_entropy(expected, targets).backward()
            own.step()
    stack.unstack(together)
    for network, expected_network in zip(together, alone, strict=True):
        for (name, tensor), expected in zip(
            network.state_dict().items(), expected_network.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-10, msg=name)


def test_a_network_whose_weights_are_no_numbers_leaves_its_neighbours_alone() -> None:
    kinds = [("relu", "after")] * 3
    sick, well = networks(kinds), networks(kinds)
    with torch.no_grad():
        sick[1].conv1.weight.fill_(torch.nan)  # type: ignore[union-attr, operator]
    inputs, targets = batches(1)[0]
    parts = []
    for each in (sick, well):
        stack = Stack(each).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        losses = functional.cross_entropy(stack(inputs).flatten(0, 1), targets.repeat(3), reduction="none")
        losses.sum().backward()
        parts.append([(p.grad if p.grad is not None else p).unflatten(0, (3, -1)) for p in stack.parameters()])
    for ours, expected in zip(*parts, strict=True):
        assert ours[1].isnan().any()
        torch.testing.assert_close(ours[[0, 2]], expected[[0, 2]], rtol=0, atol=1e-12)


def test_the_networks_that_are_stacked_stay_as_they_are() -> None:
    given = networks(KINDS[:2])
    before = copy.deepcopy([each.state_dict() for each in given])
    stack = Stack(given)
    stack(batches(1)[0][0]).sum().backward()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.zero_()
    for network, state in zip(given, before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    "module", [nn.Conv2d(4, 4, 3, groups=2), nn.LayerNorm(4), nn.Dropout(0.5)], ids=lambda each: type(each).__name__
)
def test_what_cannot_be_stacked_is_named(module: nn.Module) -> None:
    pair = [nn.Sequential(nn.Conv2d(3, 4, 3), copy.deepcopy(module)) for _ in range(2)]
    with pytest.raises(DeadheadError, match=rf"^1 \({type(module).__name__}.* cannot be stacked: give "):
        Stack(pair)


def test_the_first_layer_may_be_linear_and_is_shared() -> None:
    torch.manual_seed(0)
    given = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)) for _ in range(3)]
    inputs = torch.randn(5, 3)
    for outputs, network in itertools.zip_longest(Stack(given)(inputs), given):
        torch.testing.assert_close(outputs, network(inputs))
