"""The small CNN on MNIST as several experiments train it: three parts of the data, and steps of plain SGD."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from deadhead.lab.data import load
from deadhead.lab.models import small_cnn

Pairs = list[tuple[Tensor, Tensor]]
"""Batches of inputs and targets."""
READ = 250
"""Samples of a batch where nothing is trained: activations of more do not fit into a core's cache."""


@dataclass(frozen=True)
class Parts:
    """MNIST in three parts that share no sample, each as (inputs, targets).

    Args:
        train: what is trained on.
        validation: the last training images, which choose and score.
        test: the test images, which no decision sees.
    """

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def parts(validation: int, images: int = 0) -> Parts:
    """Load MNIST and hold some of its training images out.

    Args:
        validation: how many of them.
        images: how many of each part are used at most; 0 is all.
    """
    data = load("mnist")
    held = len(data.train_targets) - validation
    stop = images or None
    return Parts(
        (data.train_inputs[:held][:stop], data.train_targets[:held][:stop]),
        (data.train_inputs[held:][:stop], data.train_targets[held:][:stop]),
        (data.test_inputs[:stop], data.test_targets[:stop]),
    )


def batches(part: tuple[Tensor, Tensor], samples: int = 0) -> Pairs:
    """Some samples of a part, the first ones, in batches.

    Args:
        part: inputs and targets.
        samples: how many; 0 is all.
    """
    stop = samples or None
    return list(zip(*(torch.split(each[:stop], READ) for each in part), strict=True))


def network(seed: int, activation: str = "relu", width: int = 1) -> Any:
    """The small CNN with its weights in the memory format in which convolutions of few channels are fastest."""
    return small_cnn(activation, width=width, seed=seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    part: tuple[Tensor, Tensor],
    batch_size: int,
    order: torch.Generator,
    after_step: Callable[[], None] | None = None,
) -> Iterator[float]:
    """Train for an epoch, step by step.

    Args:
        model: what is trained.
        optimizer: what trains it.
        part: inputs and targets.
        batch_size: samples of a step; a last batch of fewer is left out.
        order: draws the order of the samples.
        after_step: called after each step.

    Yields:
        The mean cross-entropy of each step's batch, before the step.
    """
    inputs, targets = part
    for rows in torch.split(torch.randperm(len(targets), generator=order), batch_size):
        if len(rows) < batch_size:
            return
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs[rows]), targets[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if after_step is not None:
            after_step()
        yield float(loss.detach())
