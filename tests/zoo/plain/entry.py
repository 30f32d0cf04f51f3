"""An entry of the zoo, how it is registered, and what its inputs are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Make = Callable[[], nn.Module]
Inputs = Callable[[int], Any]


@dataclass(frozen=True)
class Entry:
    """`build()` gives the network in float64 and evaluation mode, always the same; `inputs(rows)` a tensor or a tuple
    of tensors that it can be called with, drawn from torch's global generator, with `rows` samples along
    `batch_axis`."""

    name: str
    build: Make
    inputs: Inputs
    batch_axis: int = 0


ENTRIES: dict[str, Entry] = {}


def add(name: str, make: Make, inputs: Inputs, batch_axis: int = 0) -> None:
    """Register a network under a name of its own."""

    def build() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make().double().eval()

    assert name not in ENTRIES, name
    ENTRIES[name] = Entry(name, build, inputs, batch_axis)


def real(*shape: int) -> Inputs:
    """Normal numbers, (rows, *shape)."""
    return lambda rows: torch.randn(rows, *shape, dtype=torch.float64)


def whole(below: int, *shape: int) -> Inputs:
    """Integers from 0 to `below` - 1, (rows, *shape)."""
    return lambda rows: torch.randint(below, (rows, *shape))


def several(*parts: Inputs) -> Inputs:
    """One argument for each part."""
    return lambda rows: tuple(part(rows) for part in parts)


def conv_norm(
    ins: int,
    outs: int,
    kernel: int = 3,
    act: Make | None = nn.ReLU,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
) -> nn.Sequential:
    """A convolution that keeps the size of an image (but for its stride), batch norm and an activation."""
    pad = dilation * (kernel // 2)
    parts = [
        nn.Conv2d(ins, outs, kernel, stride, pad, dilation, groups, bias=False),
        nn.BatchNorm2d(outs),
        *([] if act is None else [act()]),
    ]
    return nn.Sequential(*parts)


def head(ins: int, outs: int = 7) -> nn.Sequential:
    """The mean over an image, and a linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(ins, outs))
