"""Small networks for the experiments, built of named layers."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import nn

from deadhead.errors import DeadheadError

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def digits_cnn(*, seed: int | None = None) -> nn.Sequential:
    """A convolutional network with batch norm for 8x8 digits: (batch, 1, 8, 8) to (batch, 10) logits.

    Three convs of 16, 32 and 32 filters of 3x3, each with batch norm and ReLU, max pool after the second and the
    third, then 64 hidden units.

    Args:
        seed: Fixes the initial weights, without a change of torch's generator; None draws them from that generator.

    Example:
        >>> import torch
        >>> digits_cnn()(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    with _seeded(seed):
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 16, 3, padding=1),
                norm1=nn.BatchNorm2d(16),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(16, 32, 3, padding=1),
                norm2=nn.BatchNorm2d(32),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                conv3=nn.Conv2d(32, 32, 3, padding=1),
                norm3=nn.BatchNorm2d(32),
                relu3=nn.ReLU(),
                pool3=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(128, 64),
                relu4=nn.ReLU(),
                fc2=nn.Linear(64, 10),
            )
        )


def small_cnn(activation: str = "relu", *, width: int = 1, seed: int | None = None) -> nn.Sequential:
    """The small CNN for MNIST of Evci (2018): (batch, 1, 28, 28) to (batch, 10) logits.

    Convs of 8 and 16 filters of 5x5, each with max pool and nonlinearity, then 64 hidden units: 20,522 parameters.

    Args:
        activation: "relu", "tanh" or "sigmoid".
        width: So many times these units.
        seed: As in `digits_cnn`.

    Raises:
        DeadheadError: Another activation.

    Source:
        Evci (2018), section 2.2 and appendix C.1; the appendix prints 32 hidden units, but sections 2.2 and 4.2 have
        64, and the count of 20,522 parameters belongs to these.

    Example:
        >>> sum(parameter.numel() for parameter in small_cnn().parameters())
        20522
    """
    if activation not in ACTIVATIONS:
        raise DeadheadError(f"There is no activation called {activation!r}: choose one of {', '.join(ACTIVATIONS)}.")
    nonlinearity = ACTIVATIONS[activation]
    with _seeded(seed):
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 8 * width, 5),
                pool1=nn.MaxPool2d(2),
                act1=nonlinearity(),
                conv2=nn.Conv2d(8 * width, 16 * width, 5),
                pool2=nn.MaxPool2d(2),
                act2=nonlinearity(),
                flatten=nn.Flatten(),
                fc1=nn.Linear(256 * width, 64 * width),
                act3=nonlinearity(),
                fc2=nn.Linear(64 * width, 10),
            )
        )


def cifar_cnn(activation: str = "relu", norm: str = "none", *, seed: int | None = None) -> nn.Sequential:
    """The small CNN for CIFAR-10 of Evci (2018): (batch, 3, 32, 32) to (batch, 10) logits.

    Convs of 8 and 16 filters of 5x5, each with max pool and nonlinearity, then 64 hidden units: 30,138 parameters,
    without batch norm's.

    Args:
        activation: "relu", "tanh" or "sigmoid".
        norm: Batch norm of each hidden layer, "after" its nonlinearity, "before" it, or "none".
        seed: As in `digits_cnn`.

    Raises:
        DeadheadError: Another activation or place of batch norm.

    Source:
        Evci (2018), appendix C.2. Where pool and batch norm stand is not printed.

    Example:
        >>> sum(parameter.numel() for parameter in cifar_cnn().parameters())
        30138
    """
    if activation not in ACTIVATIONS:
        raise DeadheadError(f"There is no activation called {activation!r}: choose one of {', '.join(ACTIVATIONS)}.")
    if norm not in ("after", "before", "none"):
        raise DeadheadError(f"norm is {norm!r}: batch norm stands after the nonlinearity, before it, or none.")

    def behind(place: int, size: int) -> dict[str, nn.Module]:
        kinds = (nn.Identity(), nn.BatchNorm1d(size) if place == 3 else nn.BatchNorm2d(size))
        own = {f"act{place}": ACTIVATIONS[activation](), f"norm{place}": kinds[norm != "none"]}
        return dict(reversed(own.items())) if norm == "before" else own

    with _seeded(seed):
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 8, 5),
                pool1=nn.MaxPool2d(2),
                **behind(1, 8),
                conv2=nn.Conv2d(8, 16, 5),
                pool2=nn.MaxPool2d(2),
                **behind(2, 16),
                flatten=nn.Flatten(),
                fc1=nn.Linear(400, 64),
                **behind(3, 64),
                fc2=nn.Linear(64, 10),
            )
        )


@contextlib.contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
