"""The user's own module inside what wraps it to train it: `torch.compile`, `DistributedDataParallel`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deadhead.errors import MaskError

WRAPPERS = (nn.DataParallel, DistributedDataParallel)


def layers_of(model: nn.Module) -> Iterator[nn.Module]:
    """A module, what it wraps, what that wraps, and so on to the user's own."""
    while True:
        yield model
        inner = model.module if isinstance(model, WRAPPERS) else getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return
        model = inner


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own module inside `torch.compile` and wrappers for several devices.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> import torch
        >>> unwrapped(torch.compile(model)) is model
        True
    """
    *_, own = layers_of(model)
    return own


def distributed_wrapper(model: Any) -> DistributedDataParallel | None:
    """The `DistributedDataParallel` in which a module is given; None where it is given without."""
    layers = layers_of(model) if isinstance(model, nn.Module) else ()
    return next((layer for layer in layers if isinstance(layer, DistributedDataParallel)), None)


def retire(wrapper: DistributedDataParallel) -> None:
    """Let the next call of a wrapper, whose module was cut in place, say that it has to be made anew."""
    name = type(wrapper.module).__name__

    def refuse(*_: Any) -> None:
        raise MaskError(
            f"{name} was cut in place, and this DistributedDataParallel has buckets for gradients of its old shapes; "
            f"wrap it anew: DistributedDataParallel(model)."
        )

    wrapper.register_forward_pre_hook(refuse)
