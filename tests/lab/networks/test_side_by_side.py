"""Networks that train side by side: each becomes what it becomes alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deadhead.errors import DeadheadError, LossError
from deadhead.lab.models import digits_cnn, small_cnn
from deadhead.lab.networks.side_by_side import SideBySide
from deadhead.lab.train import fit

RATE = 0.1


def samples(count: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 28, 28, generator=draw), torch.randint(10, (count,), generator=draw)


def close(one: nn.Module, other: nn.Module) -> None:
    for mine, alone in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kinds", [("relu",), ("relu", "relu", "relu"), ("relu", "tanh")])
def test_each_becomes_what_fit_gives_alone(kinds: tuple[str, ...]) -> None:
    inputs, targets = samples()
    together = [small_cnn(kind, seed=seed) for seed, kind in enumerate(kinds)]
    stack, draw = SideBySide(together, RATE), torch.Generator().manual_seed(3)
    losses = [stack.epoch(inputs, targets, 16, draw) for _ in range(2)]
    assert losses[0].shape == (4, len(kinds))
    for seed, kind in enumerate(kinds):
        alone = small_cnn(kind, seed=seed)
        start = alone.conv1.weight.detach().clone()
        means = fit(alone, inputs, targets, epochs=2, batch_size=16, learning_rate=RATE, optimizer="sgd", seed=3)
        close(together[seed], alone)
        assert (alone.conv1.weight - start).abs().max() > 1e-3
        counts = torch.tensor([16.0, 16.0, 16.0, 2.0])
        assert abs(float((losses[1][:, seed] * counts).sum() / 50) - means[1]) < 1e-4


def test_held_entries_stay_zero_and_the_others_train_as_a_network_with_masked_gradients() -> None:
    inputs, targets = samples(32)
    together = [small_cnn(seed=0), small_cnn(seed=1)]
    stack = SideBySide(together, RATE)
    keep = {"conv2.weight": torch.ones(16, 8, 5, 5, dtype=torch.bool), "fc1.bias": torch.ones(64, dtype=torch.bool)}
    keep["conv2.weight"][3] = False
    keep["fc1.bias"][5:] = False
    stack.hold(1, keep)
    alone = small_cnn(seed=1)
    for _ in range(3):
        stack.step(inputs, targets)
        with torch.no_grad():
            alone.conv2.weight[3], alone.fc1.bias[5:] = 0.0, 0.0
        alone.zero_grad()
        nn.functional.cross_entropy(alone(inputs), targets).backward()
        with torch.no_grad():
            for parameter in alone.parameters():
                parameter -= RATE * parameter.grad
            alone.conv2.weight[3], alone.fc1.bias[5:] = 0.0, 0.0
    close(together[1], alone)
    assert together[0].conv2.weight[3].abs().min() > 0  # the other network is not held
    stack.hold(1, {})
    stack.step(inputs, targets)
    assert together[1].conv2.weight[3].abs().max() > 0


def test_another_network_and_a_loss_that_is_not_finite_are_named() -> None:
    with pytest.raises(DeadheadError, match=r"other layers than small_cnn: train it with deadhead\.lab\.fit"):
        SideBySide([digits_cnn(seed=0)], RATE)
    inputs, targets = samples(8)
    stack = SideBySide([small_cnn(seed=0)], RATE)
    with pytest.raises(LossError, match="lower learning_rate"):
        stack.epoch(inputs * torch.nan, targets, 8, torch.Generator())
