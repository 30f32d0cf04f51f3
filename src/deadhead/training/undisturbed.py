"""Measuring while training: whatever is done to model and optimizer, training goes on to the bit as without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from deadhead.errors import DataError
from deadhead.training.randomness import random_state_kept

Restore = Callable[[], None]
MARK = "UNDISTURBED"
"""The attribute of classes of deadhead's own, such as masks, whose objects are held with all that they hold."""


@contextmanager
def undisturbed(model: nn.Module, *trainers: Any) -> Iterator[None]:
    """Within this context anything may be done to a model and its optimizers; at its end training is as it was, to the
    bit.

    Score, set weights to zero, run forward in train mode, step the optimizer: parameters, buffers (batch-norm
    statistics among them), gradients, the optimizer's state and settings, the mode of every module, `requires_grad`,
    hooks and attributes, and the random state of python, numpy and torch on every initialised device are restored, also
    where an error leaves the block. Parameters, buffers and gradients stay the same objects. What was created inside
    (momentum, gradients, modules, hooks) is dropped.

    Takes the memory of a copy of model, gradients and optimizer state. Enter it between steps: a backward pass after
    it, through a forward pass before it, is refused by torch where weights were changed inside.

    Args:
        model: The network that is trained.
        trainers: What trains it and is used inside: optimizers, learning-rate schedulers, gradient scalers, masks,
            a gradual prune, and generators of your own (`torch.Generator`, `numpy.random.Generator`), of a data loader
            say.

    Raises:
        DataError: `model` is no module, or one of `trainers` holds nothing that can be restored.

    Source:
        Evci (2018), section 4.2: units are scored every so many steps of the training.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> optimizer = torch.optim.AdamW(layer.parameters())
        >>> before = layer.weight.clone()
        >>> with undisturbed(layer, optimizer):
        ...     layer(torch.ones(1, 2)).sum().backward()
        ...     optimizer.step()
        ...     torch.equal(layer.weight, before)
        False
        >>> torch.equal(layer.weight, before), layer.weight.grad, len(optimizer.state)
        (True, None, 0)
    """
    held = Held(model, *trainers)
    with random_state_kept():
        try:
            yield
        finally:
            held.restore()


class Held:
    """A copy of all that training changes in a model and its optimizers; `restore` puts it back.

    Args:
        model: The network.
        trainers: Optimizers, schedulers, scalers, generators.

    Raises:
        DataError: One of them holds nothing that can be restored.
    """

    def __init__(self, model: nn.Module, *trainers: Any) -> None:
        if not isinstance(model, nn.Module):
            raise DataError(
                f"undisturbed needs a torch module, and this is a {type(model).__name__}; give the network."
            )
        self._seen: dict[int, Any] = {}
        self._restores: list[Restore] = []
        for each in (model, *trainers):
            if not self._hold(each) and not self._hold_object(each):
                raise DataError(
                    f"A {type(each).__name__} holds nothing that can be restored; give optimizers, schedulers, scalers "
                    "or generators."
                )

    def restore(self) -> None:
        """Put everything back: the tables first, then what they hold."""
        with torch.no_grad():
            for restore in self._restores:
                restore()

    def _hold(self, value: Any) -> bool:
        """Hold a value and what is within it; False for a kind that is kept as it is."""
        if id(value) in self._seen:
            return True
        if isinstance(value, Tensor):
            hold: Callable[[Any], None] = self._hold_tensor
        elif isinstance(value, (dict, list, set)):
            hold = self._hold_container
        elif isinstance(value, tuple):
            hold = self._hold_items
        elif isinstance(value, (torch.Generator, np.random.Generator)):
            hold = self._hold_generator
        elif isinstance(value, (nn.Module, Optimizer, LRScheduler)) or hasattr(value, MARK):
            return self._hold_object(value)
        else:
            return False
        self._seen[id(value)] = value  # kept alive, so that no other object takes its id
        hold(value)
        return True

    def _hold_object(self, value: Any) -> bool:
        """Hold the attributes of an object: a module's tables and mode, an optimizer's state and groups."""
        if not hasattr(value, "__dict__"):
            return False
        self._seen[id(value)] = value
        return self._hold(vars(value))

    def _hold_items(self, value: tuple[Any, ...]) -> None:
        for each in value:
            self._hold(each)

    def _hold_container(self, value: Any) -> None:
        content = value.copy()

        def restore() -> None:
            if isinstance(value, list):
                value[:] = content
            else:
                value.clear()
                value.update(content)

        self._restores.append(restore)
        for each in list(content.values()) if isinstance(content, dict) else content:
            self._hold(each)

    def _hold_tensor(self, value: Tensor) -> None:
        if isinstance(value, (nn.UninitializedParameter, nn.UninitializedBuffer)):
            return
        # A tensor's storage may be exchanged as well as written to; writing through `data` leaves its version alone.
        data, content = value.data, value.detach().clone()
        needs_gradient = value.requires_grad
        gradient = value.grad if value.is_leaf else None
        if gradient is not None:
            self._hold(gradient)

        def restore() -> None:
            value.data = data
            data.copy_(content)
            if value.is_leaf:
                value.requires_grad_(needs_gradient)
                value.grad = gradient

        self._restores.append(restore)

    def _hold_generator(self, value: Any) -> None:
        if isinstance(value, torch.Generator):
            state = value.get_state()
            self._restores.append(lambda: value.set_state(state))  # type: ignore[arg-type]
        else:
            bits = value.bit_generator
            numbers = bits.state
            self._restores.append(lambda: setattr(bits, "state", numbers))
