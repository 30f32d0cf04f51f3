"""Sizes of inputs: which of them have been seen to vary, and whether a graph with some of them free fits_pattern."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor

from deadhead.graph.trace import batch_size

InputSizes = tuple[Any, ...]
"""(dtype, shape) of each input, with -1 for its number of samples, and None for an axis that is free."""


def sizes_of(tensors: Sequence[Tensor], batch_axis: int) -> InputSizes:
    """The sizes of inputs, whatever their number of samples."""
    samples = batch_size(list(tensors), batch_axis)
    return tuple(
        (t.dtype, tuple(-1 if a == batch_axis and s == samples else s for a, s in enumerate(t.shape))) for t in tensors
    )


def varying_axes(sizes: InputSizes, other: InputSizes) -> list[tuple[int, ...]] | None:
    """For each input, the axes along which two sets of sizes differ; None where more than sizes does."""
    if len(sizes) != len(other):
        return None
    free = []
    for (dtype, shape), (other_dtype, other_shape) in zip(sizes, other, strict=True):
        if dtype != other_dtype or len(shape) != len(other_shape):
            return None
        free.append(tuple(axis for axis in range(len(shape)) if shape[axis] != other_shape[axis]))
    return free


def with_free_axes(sizes: InputSizes, free: Sequence[Collection[int]]) -> InputSizes:
    """The sizes with None for the free axes of each input."""
    return tuple(
        (dtype, tuple(None if axis in axes else size for axis, size in enumerate(shape)))
        for (dtype, shape), axes in zip(sizes, free, strict=True)
    )


def fits_pattern(sizes: InputSizes, pattern: InputSizes) -> bool:
    """Whether a graph that was traced with the free axes of `pattern` can run inputs of these sizes."""
    varied = varying_axes(sizes, pattern)
    return varied is not None and all(
        pattern[place][1][axis] is None and sizes[place][1][axis] > 1
        for place, axes in enumerate(varied)
        for axis in axes
    )
