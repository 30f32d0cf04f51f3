"""Sums for each sample, wherever the samples lie in a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.graph.network import Network, Traced
from deadhead.graph.trace import batch_size, rows_of


@dataclass(frozen=True)
class Place:
    """Where the samples lie in a value: along `axis`, samples times something, or with `inner` something times
    samples."""

    axis: int = 0
    inner: bool = False


Owners = dict[fx.Node, Place | None]
_COUNT, _CHANGED = 3, 1


class TogetherError(Exception):
    """The samples of a value cannot be told apart by their place."""


def owners(network: Network, traced: Traced, tensors: Sequence[Tensor]) -> Owners:
    """Where the samples lie in what each node of the graph gives, measured once for a graph: one of three samples is
    changed, and what moves is its own."""
    graph = traced.graph
    if owners not in traced.kept:
        axis = network.batch_axis
        index = torch.arange(_COUNT) % batch_size(list(tensors), axis)
        first = [tensor.detach() for tensor in rows_of(list(tensors), axis, index)]
        second = [_changed(tensor, axis) for tensor in first]
        nodes = [node for node in graph.calls if isinstance(node.meta.get("val"), Tensor)]
        seen = []
        for inputs in (first, second):
            kept: dict[fx.Node, Any] = dict.fromkeys(nodes)
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                graph.run([tensor.clone() for tensor in inputs], network.frozen_state(), kept=kept)
            seen.append(kept)
        found = {node: _place(node, seen[0][node], seen[1][node]) for node in nodes}
        traced.kept[owners] = {**found, **dict.fromkeys(graph.inputs, Place(axis))}
    return traced.kept[owners]  # type: ignore[no-any-return]


def _changed(tensor: Tensor, axis: int) -> Tensor:
    """The same with sample `_CHANGED` changed everywhere."""
    other = tensor.clone()
    if tensor.dim() <= axis or tensor.shape[axis] != _COUNT:
        return other
    row = other.select(axis, _CHANGED)
    if row.is_floating_point():
        generator = torch.Generator().manual_seed(0)
        row.add_(torch.randn(row.shape, generator=generator, dtype=torch.float64).to(row) * (0.5 + row.abs().mean()))
    elif row.dim():
        row.copy_(row.flip(-1))
    return other


def _place(node: fx.Node, before: Any, after: Any) -> Place | None:
    """The first place where nothing moved but the changed sample, among axes whose sizes are free."""
    if not isinstance(before, Tensor) or before.shape != after.shape:
        return None
    moved = (before != after) & ~(before.isnan() & after.isnan())
    others = [row for row in range(_COUNT) if row != _CHANGED]
    for axis, size in enumerate(node.meta["val"].shape):
        if before.shape[axis] % _COUNT or (isinstance(size, int)):
            continue
        for inner in (False, True):
            if not _split(moved, _COUNT, Place(axis, inner))[others].any():
                return Place(axis, inner)
    return None


def _split(value: Tensor, rows: int, place: Place) -> Tensor:
    laid = value.movedim(place.axis, 0)
    inside = laid.shape[0] // rows
    if place.inner:
        return laid.reshape(inside, rows, *laid.shape[1:]).movedim(1, 0)
    return laid.reshape(rows, inside, *laid.shape[1:])


def rows_first(value: Tensor, rows: int, place: Place | None) -> Tensor:
    """`value` as (rows, something inside the sample's axis, the other axes).

    Raises `TogetherError` where it is not known which entries belong to which sample.
    """
    if place is None or place.axis >= value.dim() or value.shape[place.axis] % rows:
        if rows > 1:
            raise TogetherError
        return value[None]
    return _split(value, rows, place)


def by_row(value: Tensor) -> Tensor:
    """The sum of everything behind the first axis."""
    return value.flatten(1).sum(1) if value.dim() > 1 else value


def total(value: Tensor, rows: int, place: Place | None) -> Tensor:
    """The sum of each sample's entries, shape (rows,)."""
    return by_row(rows_first(value, rows, place))


def gathered(value: Tensor, shape: Sequence[int], rows: int, place: Place | None) -> Tensor:
    """`value`, in the layout of what an op gives, summed for each sample over the axes along which a constant of this
    shape was spread: (rows, *shape); where the constant has an axis for the samples, that one stands first."""
    rank, own = value.dim(), list(shape)
    sample = 0 if place is None or place.axis >= rank else place.axis
    laid = rows_first(value, rows, Place(sample, place.inner if place is not None else False) if rank else None)
    padded = [1] * (rank - len(own)) + own
    order = [sample, *(axis for axis in range(rank) if axis != sample)]  # of the axes of `laid`, behind the rows
    summed = [at + 1 for at, axis in enumerate(order) if padded[axis] == 1]
    laid = laid.sum(summed, keepdim=True) if summed else laid
    return laid.reshape(gathered_shape(value.shape, shape, rows, place))


def gathered_shape(sizes: Sequence[int], shape: Sequence[int], rows: int, place: Place | None) -> list[int]:
    """The shape of what `gathered` gives for a value of these sizes."""
    rank = len(sizes)
    sample = 0 if place is None or place.axis >= rank else place.axis
    at = sample - rank + len(shape)
    tail = [size for axis, size in enumerate(shape) if axis != at]
    inside = sizes[sample] // rows if 0 <= at < len(shape) and shape[at] != 1 else 1
    return [rows, *([inside] if inside > 1 else []), *tail]
