"""Streamed statistics of activations at the consumers: moments of each column, and matrices of products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from deadhead.calibration import Batch
from deadhead.graph.graph import Edits
from deadhead.graph.network import Network
from deadhead.graph.ops.registry import argument, op_name
from deadhead.graph.units import Group, Site
from deadhead.progress import Progress, track


@dataclass
class Moments:
    """Count, sum, sum of squares, least and greatest of each column, over rows and positions; float64."""

    count: int
    total: Tensor
    squares: Tensor
    least: Tensor
    greatest: Tensor

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    @property
    def std(self) -> Tensor:
        return (self.squares / self.count - self.mean.square()).clamp(min=0).sqrt()


def columns_of(value: Tensor, axis: int) -> Tensor:
    """The activation as a matrix: one row for each sample and position, one column for each index along `axis`."""
    return value.movedim(axis, -1).reshape(-1, value.shape[axis])


def moments(
    network: Network, groups: Sequence[Group], batches: Sequence[Batch], progress: Progress | None = None
) -> dict[str, list[Moments]]:
    """The moments at each consumer of each group, in one forward pass over the data."""
    found: dict[str, list[Moments | None]] = {group.name: [None] * len(group.consumers) for group in groups}
    names = set(found)

    def add(name: str, index: int, value: Tensor, axis: int) -> None:
        columns = columns_of(value, axis)
        wide = columns.double()
        total, squares = wide.sum(0), wide.square().sum(0)
        least, greatest = wide.amin(0), wide.amax(0)
        have = found[name][index]
        if have is None:
            found[name][index] = Moments(len(columns), total, squares, least, greatest)
        else:
            have.count += len(columns)
            have.total += total
            have.squares += squares
            have.least = torch.minimum(have.least, least)
            have.greatest = torch.maximum(have.greatest, greatest)

    state = network.frozen_state()
    for batch in track(progress, "activations", batches):
        tensors = network.flatten(batch.inputs)
        traced = network.traced(tensors)
        edits = Edits()
        for group in traced.units.groups:
            if group.name in names:
                for index, site in enumerate(group.consumers):
                    _observe(edits, site, lambda v, n=group.name, i=index, a=site.axis: add(n, i, v, a))
        with torch.no_grad():
            traced.graph.run(tensors, state, edits)
    return {name: [each for each in values if each is not None] for name, values in found.items()}


def _observe(edits: Edits, site: Site, look: object) -> None:
    at = edits.read.setdefault(site.node, {})
    before = at.get(site.position)

    def edit(value: Tensor) -> Tensor:
        value = value if before is None else before(value)
        look(value)  # type: ignore[operator]
        return value

    at[site.position] = edit


@dataclass
class Products:
    """`G = sum a~ a~^T` over rows and positions at the consumers of one weight, a~ = [a; 1] their columns and a one.

    `matrix` has shape (groups, n + 1, n + 1): one matrix for each group of a grouped convolution, n the columns that
    one output reads (channels times taps). With `only_sums` just its last row is kept, shape (groups, 1, n + 1).
    float64; `count` is the number of rows and positions.
    """

    matrix: Tensor
    count: int


def patches(node: fx.Node, value: Tensor, weight_shape: Sequence[int]) -> Tensor | None:
    """The columns that a linear or convolutional node reads: (groups, rows and positions, n); None for other nodes."""
    name = op_name(node)
    if name in ("linear", "mm", "addmm", "matmul"):
        return value.reshape(1, -1, value.shape[-1])
    if name not in ("conv1d", "conv2d", "conv3d") or value.dim() != len(weight_shape):
        return None
    rank = len(weight_shape) - 2

    def each(position: int, key: str, default: int) -> list[int]:
        given = argument(node, position, key, default)
        if isinstance(given, str):
            return [-1] * rank
        given = given if isinstance(given, list) else [given]
        return given * rank if len(given) == 1 else given

    stride, padding, dilation = each(3, "stride", 1), each(4, "padding", 0), each(5, "dilation", 1)
    groups = argument(node, 6, "groups", 1)
    kernel = list(weight_shape[2:])
    mode = argument(node, 4, "padding", 0)
    if isinstance(mode, str):
        total = [d * (k - 1) if mode == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        sides = [(t // 2, t - t // 2) for t in total]
    else:
        sides = [(p, p) for p in padding]
    value = F.pad(value, [side for pair in reversed(sides) for side in pair])
    for axis in range(rank):
        span = dilation[axis] * (kernel[axis] - 1) + 1
        value = value.unfold(2 + axis, span, stride[axis])[..., :: dilation[axis]]
    value = value.movedim(1, 1 + rank).flatten(0, rank)
    value = value.reshape(len(value), groups, -1)
    return value.movedim(1, 0)


def products(
    network: Network,
    weights: Sequence[str],
    batches: Sequence[Batch],
    only_sums: bool = False,
    progress: Progress | None = None,
) -> dict[str, Products]:
    """`Products` at the consumers of each weight named, in one forward pass over the data.

    Products of a batch are in its own precision, sums over batches in float64; a weight that is used more than once
    sums over its uses. Weights whose consumers are not linear or convolutional are missing from the result.
    """
    found: dict[str, Products] = {}
    state = network.frozen_state()

    def add(name: str, node: fx.Node, value: Tensor) -> None:
        columns = patches(node, value.detach(), state[name].shape)
        if columns is None:
            return
        columns = torch.cat([columns, columns.new_ones((*columns.shape[:-1], 1))], -1)
        matrix = (columns.sum(-2, keepdim=True) if only_sums else columns.transpose(-1, -2) @ columns).double()
        have = found.get(name)
        if have is None:
            found[name] = Products(matrix, columns.shape[1])
        else:
            have.matrix += matrix
            have.count += columns.shape[1]

    wanted = set(weights)
    for batch in track(progress, "statistics", batches):
        tensors = network.flatten(batch.inputs)
        traced = network.traced(tensors)
        edits, seen = Edits(), set()
        for group in traced.units.groups:
            for site in group.consumers:
                if site.weight in wanted and (site.node, site.position) not in seen:
                    seen.add((site.node, site.position))
                    _observe(edits, site, lambda v, w=site.weight, n=site.node: add(w, n, v))
        with torch.no_grad():
            traced.graph.run(tensors, state, edits)
    return found
