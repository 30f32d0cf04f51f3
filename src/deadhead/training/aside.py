"""Measuring beside a training loop without a trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from deadhead.training.randomness import random_state_kept


@contextmanager
def aside() -> Iterator[None]:
    """Leave every global random generator as it was, and measure in full precision.

    Reading a shuffled loader, tracing and measuring may draw random numbers; inside this block they do, and the
    training loop behind it draws the numbers that it would have drawn without the block. Autocast is off inside.

    Example:
        >>> before = torch.get_rng_state()
        >>> with aside():
        ...     _ = torch.rand(3)
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    kinds = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    with ExitStack() as inside:
        inside.enter_context(random_state_kept())
        inside.enter_context(torch.inference_mode(False))
        for kind in kinds:
            inside.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """A context in which all of a module is in one mode; each module of it is as before at the end."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.train(training)
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training
