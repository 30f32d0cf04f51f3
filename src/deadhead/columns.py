"""The columns that a linear or convolutional consumer reads, and what it gives for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, fx

from deadhead.graph.ops.registry import argument, op_name

LINEAR = ("linear", "mm", "addmm", "matmul")
CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
WIDE = 256
"""Consumers with more columns than this are sampled: full sums of products would cost many times the network."""
COST = 0.5
"""What the sums of a sampled consumer may cost, as a multiple of its own forward pass."""


@dataclass(frozen=True)
class Window:
    """How a convolution's kernel slides over a map: sizes along each axis, and (before, after) of zero padding."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int


def window_of(node: fx.Node, weight_shape: Sequence[int]) -> Window:
    """The window of a convolution node."""
    kernel = tuple(weight_shape[2:])
    rank = len(kernel)

    def each(position: int, name: str, default: int) -> tuple[int, ...]:
        given = argument(node, position, name, default)
        sizes = tuple(given) if isinstance(given, list) else (given,)
        return sizes * rank if len(sizes) == 1 else sizes

    dilation = each(5, "dilation", 1)
    mode = argument(node, 4, "padding", 0)
    if isinstance(mode, str):
        total = [d * (k - 1) if mode == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        padding = tuple((t // 2, t - t // 2) for t in total)
    else:
        padding = tuple((p, p) for p in each(4, "padding", 0))
    return Window(kernel, each(3, "stride", 1), padding, dilation, argument(node, 6, "groups", 1))


def channel_axis(node: fx.Node, value: Tensor) -> int:
    """The axis of the outputs in what a linear or convolutional node gives."""
    return 1 if op_name(node) in CONVOLUTIONS else value.dim() - 1


def columns(node: fx.Node, value: Tensor, weight_shape: Sequence[int], turn: int | None = None) -> Tensor | None:
    """What one output of the node reads at each row and position: (groups, rows and positions, n), n the channels times
    taps of one group; None for nodes that are neither linear nor convolutional.

    With `turn` given, a wide consumer is read on a grid of positions only, another grid for each turn.
    """
    name = op_name(node)
    if name in LINEAR:
        return value.reshape(1, -1, value.shape[-1])
    if name not in CONVOLUTIONS or value.dim() != len(weight_shape):
        return None
    window = window_of(node, weight_shape)
    steps = [1] * len(window.kernel) if turn is None else steps_of(weight_shape, value.shape[2:])
    return unfold(value, window, steps, turn or 0)


def steps_of(weight_shape: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """How coarse the grid of positions is along each axis: as coarse as it takes for the products of n columns to cost
    no more than `COST` times the convolution, which is n / outputs times as much in full; 1 for narrow consumers."""
    outputs = weight_shape[0]
    n = 1
    for size in weight_shape[1:]:
        n *= size
    if n <= WIDE:
        return [1] * len(sizes)
    step = max(1, round((n / (COST * outputs)) ** (1 / len(sizes))))
    return [min(step, max(1, size // 2)) for size in sizes]


def unfold(value: Tensor, window: Window, steps: Sequence[int], turn: int = 0) -> Tensor:
    """The patches of maps (rows, channels, ...), one in `steps` along each axis, starting at a place that goes with the
    turn: (groups, rows and positions, channels of a group times taps)."""
    rank = len(window.kernel)
    value = F.pad(value, [side for pair in reversed(window.padding) for side in pair])
    for axis in range(rank):
        span = window.dilation[axis] * (window.kernel[axis] - 1) + 1
        positions = (value.shape[2 + axis] - span) // window.stride[axis] + 1
        start = (turn % steps[axis]) % positions
        turn //= steps[axis]
        value = value.narrow(2 + axis, start * window.stride[axis], value.shape[2 + axis] - start * window.stride[axis])
        value = value.unfold(2 + axis, span, window.stride[axis] * steps[axis])[..., :: window.dilation[axis]]
    value = value.movedim(1, 1 + rank).flatten(0, rank)
    return value.reshape(len(value), window.groups, -1).movedim(1, 0)
