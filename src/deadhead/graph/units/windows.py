"""The columns that a convolution reads, plain or transposed, at all positions or on a grid of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, fx

from deadhead.graph.catalogue import names_of, op_of
from deadhead.graph.nodes import argument

CONVOLUTIONS = names_of("convolution")
WIDE = 256
"""Consumers with more columns than this are sampled: full sums of products would cost many times the network."""
COST = 0.5
"""What the sums of a sampled consumer may cost, as a multiple of its own forward pass."""


@dataclass(frozen=True)
class Window:
    """How a convolution's kernel slides over a map: sizes along each axis, and (before, after) of zero padding;
    negative ones crop. With `spread`, the entries of the map first move so far apart, zeros between them."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    spread: tuple[int, ...] = ()


def is_convolution(node: fx.Node) -> bool:
    """Whether a node is a convolution, plain or transposed."""
    return bool(op_of(node).options)


def is_transposed(node: fx.Node) -> bool:
    """Whether a convolution is a transposed one, whose weight is (in, out / groups, *kernel)."""
    family = op_of(node).family
    return family == "transposed convolution" or (
        family == "general convolution" and bool(argument(node, 6, "transposed", False))
    )


def window_of(node: fx.Node, weight_shape: Sequence[int]) -> Window:
    """The window of a convolution node. That of a transposed one, with stride s, padding p, dilation d and a kernel of
    k, slides by single steps over the map spread by s and padded by d (k - 1) - p, and meets the kernel from behind."""
    kernel = tuple(weight_shape[2:])
    rank, places = len(kernel), op_of(node).options

    def each(name: str, default: int) -> tuple[int, ...]:
        given = argument(node, 3 + places.index(name), name, default)
        sizes = tuple(given) if isinstance(given, list) else (given,)
        return sizes * rank if len(sizes) == 1 else sizes

    stride, dilation, groups = each("stride", 1), each("dilation", 1), each("groups", 1)[0]
    spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if is_transposed(node):
        sides = zip(spans, each("padding", 0), each("output_padding", 0), strict=True)
        padding = tuple((span - p, span - p + more) for span, p, more in sides)
        return Window(kernel, (1,) * rank, padding, dilation, groups, stride)
    mode = argument(node, 4, "padding", 0)
    if isinstance(mode, str):
        total = spans if mode == "same" else [0] * rank
        padding = tuple((t // 2, t - t // 2) for t in total)
    else:
        padding = tuple((p, p) for p in each("padding", 0))
    return Window(kernel, stride, padding, dilation, groups)


def steps_of(outputs: int, n: int, sizes: Sequence[int], spread: Sequence[int] = ()) -> list[int]:
    """The steps of the grid of positions along each axis of a map: as coarse as it takes for the products of n columns
    to cost no more than `COST` times the convolution; 1 for narrow consumers.

    In full, the products cost n / outputs times the convolution, and for a transposed one as many times more as it
    makes positions of one. A position of a transposed convolution reads the taps of its phase, its place modulo the
    stride: a grid whose step has no factor in common with the stride meets all phases equally often.

    Args:
        outputs: the outputs of one group.
        n: the columns of one group.
        sizes: the sizes of the map.
        spread: how far apart the entries of a transposed convolution's map are moved.
    """
    if n <= WIDE:
        return [1] * len(sizes)
    spread = spread or (1,) * len(sizes)
    step = max(1, round((n * math.prod(spread) / (COST * outputs)) ** (1 / len(sizes))))
    return [_coprime(min(step, max(1, size // (2 * s))), s) for size, s in zip(sizes, spread, strict=True)]


def _coprime(step: int, stride: int) -> int:
    """The largest step up to this one that has no factor in common with the stride."""
    return next(each for each in range(step, 0, -1) if math.gcd(each, stride) == 1)


def unfold(value: Tensor, window: Window, steps: Sequence[int], turn: int = 0) -> Tensor:
    """The patches of maps that a convolution reads, on a grid of positions.

    Args:
        value: (samples, channels, ...).
        window: how the kernel slides.
        steps: how coarse the grid is along each axis.
        turn: which of the grids; each starts at another position.

    Returns:
        (groups, samples and positions, channels of a group times taps).
    """
    rank = len(window.kernel)
    value = F.pad(_spread(value, window.spread), [side for pair in reversed(window.padding) for side in pair])
    for axis in range(rank):
        span = window.dilation[axis] * (window.kernel[axis] - 1) + 1
        positions = (value.shape[2 + axis] - span) // window.stride[axis] + 1
        start = (turn % steps[axis]) % positions
        turn //= steps[axis]
        value = value.narrow(2 + axis, start * window.stride[axis], value.shape[2 + axis] - start * window.stride[axis])
        value = value.unfold(2 + axis, span, window.stride[axis] * steps[axis])[..., :: window.dilation[axis]]
    value = value.movedim(1, 1 + rank).flatten(0, rank)
    return value.reshape(len(value), window.groups, -1).movedim(1, 0)


def _spread(value: Tensor, spread: Sequence[int]) -> Tensor:
    """Maps with zeros between their entries."""
    if all(step == 1 for step in spread):
        return value
    sizes = [(size - 1) * step + 1 for size, step in zip(value.shape[2:], spread, strict=True)]
    apart = value.new_zeros(*value.shape[:2], *sizes)
    apart[(slice(None), slice(None), *(slice(None, None, step) for step in spread))] = value
    return apart
