"""An entry of the zoo, and how it is registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

hf: Any = pytest.importorskip("transformers")
hf.logging.set_verbosity_error()  # it warns of kernels that are not installed

HIDDEN, INNER, HEADS, LAYERS, LABELS = 48, 40, 4, 2, 5
VOCABULARY, POSITIONS, LENGTH, SHORT = 61, 26, 9, 7
PAD, START, END = 0, 1, 2
Inputs = Callable[[int], dict[str, Tensor]]


@dataclass(frozen=True)
class Entry:
    """An architecture: `build` gives a model in evaluation mode, `inputs` its keyword arguments for so many rows."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Inputs


ENTRIES: dict[str, Entry] = {}


def entry(name: str, inputs: Inputs) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register a function that makes a model under `name`."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        def seeded() -> nn.Module:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return build().eval()

        ENTRIES[name] = Entry(name, seeded, inputs)
        return build

    return register
