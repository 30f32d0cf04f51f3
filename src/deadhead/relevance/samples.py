"""Sums for each sample, wherever the samples lie in a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, fx

from deadhead.graph.network import Network, Traced
from deadhead.graph.samples import BATCH_FIRST, SampleLayout, layouts_of

Layouts = dict[fx.Node, SampleLayout | None]


class TogetherError(Exception):
    """The samples of a value cannot be told apart by their place."""


def layouts(network: Network, traced: Traced, tensors: Sequence[Tensor]) -> Layouts:
    """Where the samples lie in what each node of the graph gives, measured once for a graph."""
    graph = traced.graph
    if layouts not in traced.cache:
        nodes = [node for node in graph.calls if isinstance(node.meta.get("val"), Tensor)]
        given = [tensor.detach() for tensor in tensors]
        found = layouts_of(graph, nodes, given, network.batch_axis, network.frozen_state())
        traced.cache[layouts] = {**found, **dict.fromkeys(graph.inputs, SampleLayout(network.batch_axis))}
    return traced.cache[layouts]  # type: ignore[no-any-return]


def samples_first(value: Tensor, samples: int, layout: SampleLayout | None) -> Tensor:
    """`value` as (samples, something inside the samples' axis, the other axes).

    Raises `TogetherError` where it is not known which entries belong to which sample.
    """
    if layout is None or not layout.fits(value, samples):
        if samples > 1:
            raise TogetherError
        return value[None]
    return layout.first(value, samples)


def by_sample(value: Tensor) -> Tensor:
    """The sum of everything behind the first axis."""
    return value.flatten(1).sum(1) if value.dim() > 1 else value


def total(value: Tensor, samples: int, layout: SampleLayout | None) -> Tensor:
    """The sum of each sample's entries, shape (samples,)."""
    return by_sample(samples_first(value, samples, layout))


def gathered(value: Tensor, shape: Sequence[int], samples: int, layout: SampleLayout | None) -> Tensor:
    """`value`, in the layout of what an op gives, summed for each sample over the axes along which a constant of this
    shape was spread: (samples, *shape); where the constant has an axis for the samples, that one stands first.

    Raises `TogetherError` where it is not known which entries belong to which sample.
    """
    rank, own = value.dim(), list(shape)
    where = _within(layout, rank)
    known = rank and (samples == 1 or layout is not None)
    first = samples_first(value, samples, where if known else None)
    padded = [1] * (rank - len(own)) + own
    order = [where.axis, *(axis for axis in range(rank) if axis != where.axis)]  # of the axes behind the samples
    summed = [at + 1 for at, axis in enumerate(order) if padded[axis] == 1]
    first = first.sum(summed, keepdim=True) if summed else first
    return first.reshape(gathered_shape(value.shape, shape, samples, layout))


def gathered_shape(sizes: Sequence[int], shape: Sequence[int], samples: int, layout: SampleLayout | None) -> list[int]:
    """The shape of what `gathered` gives for a value of these sizes."""
    rank = len(sizes)
    axis = _within(layout, rank).axis
    at = axis - rank + len(shape)
    tail = [size for place, size in enumerate(shape) if place != at]
    inside = sizes[axis] // samples if 0 <= at < len(shape) and shape[at] != 1 else 1
    return [samples, *([inside] if inside > 1 else []), *tail]


def _within(layout: SampleLayout | None, rank: int) -> SampleLayout:
    """The layout itself, where a value of so many axes can have it; else with the samples along the first axis."""
    layout = BATCH_FIRST if layout is None else layout
    return layout if layout.axis < rank else replace(layout, axis=0)
