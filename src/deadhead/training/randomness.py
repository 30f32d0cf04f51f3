"""The random state of python, numpy and torch on every device: held, put back, and set from a name."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Randomness:
    """The random state of python, numpy, and torch on the CPU and on each accelerator that is initialised.

    Attributes:
        python: of `random`.
        numpy: of `numpy.random`'s global generator.
        cpu: of torch's generator on the CPU.
        devices: {(kind of accelerator, index): state}.

    Example:
        >>> held = Randomness.now()
        >>> drawn = torch.rand(1)
        >>> held.restore()
        >>> torch.equal(torch.rand(1), drawn)
        True
    """

    python: Any
    numpy: Any
    cpu: Tensor
    devices: dict[tuple[str, int], Tensor]

    @staticmethod
    def now() -> Randomness:
        """The random state as it is."""
        devices = {
            (kind, index): module.get_rng_state(index)
            for kind, module in _accelerators()
            for index in range(module.device_count())
        }
        return Randomness(random.getstate(), np.random.get_state(), torch.get_rng_state(), devices)

    def restore(self) -> None:
        """Put the random state back."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        modules = dict(_accelerators())
        for (kind, index), state in self.devices.items():
            modules[kind].set_rng_state(state, index)


def _accelerators() -> Iterator[tuple[str, Any]]:
    """The modules of torch for accelerators that are initialised, with their kind; none is initialised by this."""
    for kind in ("cuda", "xpu"):
        module = getattr(torch, kind)
        if module.is_initialized():
            yield kind, module
    if torch.backends.mps.is_available():
        yield "mps", _Mps


class _Mps:
    """The generator of the one device of `torch.mps`, with the index that those of other accelerators take."""

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def get_rng_state(index: int) -> Tensor:
        return torch.mps.get_rng_state()

    @staticmethod
    def set_rng_state(state: Tensor, index: int) -> None:
        torch.mps.set_rng_state(state)


@contextmanager
def random_state_kept(*generators: torch.Generator) -> Iterator[None]:
    """A context at whose end the random state, that of `generators` too, is what it was at its start."""
    held, own = Randomness.now(), [(each, each.get_state()) for each in generators]
    try:
        yield
    finally:
        held.restore()
        for generator, state in own:
            generator.set_state(state)


def number_of(*name: object) -> int:
    """A number below 2^63 that depends on `name` alone, the same in every process.

    Example:
        >>> number_of(0, "order", 1) == number_of(0, "order", 1), number_of(0, "order", 1) == number_of(0, "order", 2)
        (True, False)
    """
    text = "/".join(map(str, name)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seed_all(*name: object) -> None:
    """Seed python, numpy and torch with a number that depends on `name` alone.

    Args:
        name: What the random numbers are for: a seed, an epoch, the index of a step.
    """
    number = number_of(*name)
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)
