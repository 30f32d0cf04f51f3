"""A plain training loop and its measure: cross-entropy on tensors that fit into memory.

What trained well on two cores, from `digits_cnn(seed=0)` and `small_cnn(seed=0)`, is in `DIGITS` and `MNIST`.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from deadhead.errors import DataError, DeadheadError, LossError
from deadhead.progress import Progress, track
from deadhead.text import counted
from deadhead.training.aside import in_mode

DIGITS: dict[str, Any] = {"epochs": 12, "batch_size": 64, "learning_rate": 2e-3, "optimizer": "adam", "seed": 0}
"""For `digits_cnn` on `digits`."""

MNIST: dict[str, Any] = {"epochs": 5, "batch_size": 128, "learning_rate": 2e-3, "optimizer": "adam", "seed": 0}
"""For `small_cnn` on `mnist`."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Args:
        epochs: Passes over the samples.
        batch_size: Samples of one step.
        learning_rate: Constant over the run.
        optimizer: "adam", or "sgd" without momentum or weight decay.
        seed: Fixes the order of the samples and what the model draws (dropout).
    """

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str = "adam"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise DeadheadError(f"batch_size is {self.batch_size}: give at least one sample to a batch.")
        if self.optimizer not in OPTIMIZERS:
            raise DeadheadError(
                f"There is no optimizer called {self.optimizer!r}: choose one of {', '.join(OPTIMIZERS)}."
            )


OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def fit(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    progress: Progress | None = None,
    after_step: Callable[[int], None] | None = None,
    **recipe: Any,
) -> list[float]:
    """Train a classifier in place by mean cross-entropy.

    Torch's own random generators and the mode of every module are as before when it returns.

    Args:
        model: What is trained, on its own device.
        inputs: (samples, ...).
        targets: (samples,) int64.
        progress: Called after each step.
        after_step: Called with the number of steps done after each step, so that the model can be measured, or pruned,
            in between; what it draws at random changes what the model draws.
        recipe: Of `Recipe`: epochs, batch_size, learning_rate, optimizer, seed.

    Returns:
        The mean loss over the samples of each epoch.

    Raises:
        DataError: No samples, or unequal lengths.
        DeadheadError: An unknown optimizer or an empty batch.
        LossError: The loss is not finite.

    Example:
        >>> import torch
        >>> inputs = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]])
        >>> targets = torch.tensor([0, 0, 1, 1])
        >>> model = torch.nn.Linear(1, 2)
        >>> losses = fit(model, inputs, targets, epochs=50, batch_size=2, learning_rate=0.1, seed=0)
        >>> len(losses), losses[-1] < 0.1, evaluate(model, inputs, targets)[1]
        (50, True, 1.0)
    """
    _check_samples(inputs, targets)
    how = Recipe(**recipe)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    stepper = OPTIMIZERS[how.optimizer](parameters, lr=how.learning_rate)  # type: ignore[call-arg]
    device = _device(model, inputs)
    order = torch.Generator().manual_seed(how.seed)
    losses, done = [], 0
    with _random_state(how.seed, device), in_mode(model, training=True):
        batches = (
            (epoch, rows) for epoch in range(how.epochs) for rows in _batches(len(inputs), how.batch_size, order)
        )
        total = how.epochs * len(_batches(len(inputs), how.batch_size, None))
        for epoch, group in itertools.groupby(track(progress, "training", batches, total), key=lambda pair: pair[0]):
            summed = torch.zeros((), dtype=torch.float64, device=device)
            for _, rows in group:
                # Indices lie where the data lies: the data may be too large for the model's device.
                rows = rows.to(inputs.device)
                loss = functional.cross_entropy(model(inputs[rows].to(device)), targets[rows].to(device))
                stepper.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                stepper.step()
                done += 1
                if after_step is not None:
                    after_step(done)
                summed += loss.detach().double() * len(rows)
            losses.append(summed.item() / len(inputs))
            if not math.isfinite(losses[-1]):
                raise LossError(
                    f"The mean loss of epoch {epoch + 1} is {losses[-1]}: lower learning_rate ({how.learning_rate:g}), "
                    "or look for values that are not finite in the inputs."
                )
    stepper.zero_grad(set_to_none=True)
    return losses


def evaluate(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """Measure the loss and the accuracy of a classifier in evaluation mode.

    Args:
        model: The classifier; the mode of every module is as before when it returns.
        inputs: (samples, ...).
        targets: (samples,) int64.

    Returns:
        The mean cross-entropy (nats) and the accuracy (a fraction).

    Raises:
        DataError: No samples, or unequal lengths.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 2)
        >>> _ = model.requires_grad_(False), model.weight.zero_(), model.bias.zero_()
        >>> loss, accuracy = evaluate(model, torch.ones(4, 1), torch.tensor([0, 0, 0, 1]))
        >>> round(loss, 4), accuracy
        (0.6931, 0.75)
    """
    _check_samples(inputs, targets)
    device = _device(model, inputs)
    loss = correct = 0.0
    with torch.no_grad(), in_mode(model, training=False):
        for batch, target in zip(torch.split(inputs, 1000), torch.split(targets, 1000), strict=True):
            logits, target = model(batch.to(device)), target.to(device)
            loss += functional.cross_entropy(logits.double(), target, reduction="sum").item()
            correct += (logits.argmax(1) == target).sum().item()
    return loss / len(inputs), correct / len(inputs)


def _batches(count: int, batch_size: int, order: torch.Generator | None) -> list[Tensor]:
    """Indices of samples in batches, shuffled by `order`."""
    rows = torch.arange(count) if order is None else torch.randperm(count, generator=order)
    batches = list(torch.split(rows, batch_size))
    # Batch norm cannot train on a single sample, so a last batch of one joins its neighbour.
    if len(batches) > 1 and len(batches[-1]) == 1 < batch_size:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _check_samples(inputs: Tensor, targets: Tensor) -> None:
    if len(inputs) == 0:
        raise DataError("The data has no samples: give inputs and targets with at least one.")
    if len(inputs) != len(targets):
        raise DataError(
            f"inputs has {counted(len(inputs), 'sample')} and targets has {len(targets):,}: give one target for each "
            "input."
        )


def _device(model: nn.Module, inputs: Tensor) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), inputs.device)


@contextlib.contextmanager
def _random_state(seed: int, device: torch.device) -> Iterator[None]:
    """The generators that a model on `device` draws from, seeded, and afterwards as they were."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        # torch.manual_seed would reseed every device, and only this one is put back.
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
