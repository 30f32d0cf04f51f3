"""Streamed statistics of activations at the consumers: moments of each column, and sums for regressions on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from deadhead.calibration import Batch
from deadhead.gates import Gates
from deadhead.graph.ops.registry import argument, op_name
from deadhead.graph.units import Group
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


@dataclass
class Regression:
    """Sums over rows and positions at the consumers of one weight, float64, for g groups of o outputs and n columns.

    With a~ = [a; 1] the columns that are read and y the outputs that are wanted: `gram` is sum a~ a~^T, shape
    (g, n + 1, n + 1), `cross` sum y a~^T, shape (g, o, n + 1), `energy` sum y^2, `count` the number of terms.
    """

    gram: Tensor
    cross: Tensor
    energy: float
    count: int

    def error(self, weights: Tensor) -> float:
        """`E |W a~ - y|^2 / E |y|^2` for W of shape (g, o, n + 1)."""
        gram, cross = self.gram.to(weights), self.cross.to(weights)
        squares = torch.einsum("goi,gij,goj->", weights, gram, weights) - 2 * (weights * cross).sum()
        return max((squares.item() + self.energy) / max(self.energy, 1e-300), 0.0)


def columns_of(value: Tensor, axis: int) -> Tensor:
    """The activation as a matrix: one row for each sample and position, one column for each index along `axis`."""
    return value.movedim(axis, -1).reshape(-1, value.shape[axis])


def moments(
    gates: Gates, groups: Sequence[Group], batches: Sequence[Batch], progress: Progress | None = None
) -> dict[str, list[Moments]]:
    """The moments at each consumer of each group, in one forward pass over the data."""
    found: dict[str, dict[int, Moments]] = {group.name: {} for group in groups}

    def look(group: Group, index: int, value: Tensor) -> None:
        if group.name not in found:
            return
        columns = columns_of(value, group.consumers[index].axis).double()
        total, squares = columns.sum(0), columns.square().sum(0)
        least, greatest = columns.amin(0), columns.amax(0)
        have = found[group.name].get(index)
        if have is None:
            found[group.name][index] = Moments(len(columns), total, squares, least, greatest)
        else:
            have.count += len(columns)
            have.total += total
            have.squares += squares
            have.least = torch.minimum(have.least, least)
            have.greatest = torch.maximum(have.greatest, greatest)

    for batch in track(progress, "activations", batches):
        gates.observe(batch, look)
    return {name: [values[index] for index in sorted(values)] for name, values in found.items()}


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


def patch_means(
    gates: Gates, weights: Sequence[str], batches: Sequence[Batch], progress: Progress | None = None
) -> dict[str, Tensor]:
    """The mean of each column that the consumers of each weight read, shape (groups, n), float64, in one forward pass.

    For a convolution the columns are channels times taps, and count zero padding. Weights whose consumers are neither
    linear nor convolutional are missing from the result.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    seen: set[tuple[fx.Node, int]] = set()

    def look(group: Group, index: int, value: Tensor) -> None:
        site = group.consumers[index]
        if site.weight is None or site.weight not in weights or (site.node, site.position) in seen:
            return
        seen.add((site.node, site.position))
        columns = patches(site.node, value, gates.state[site.weight].shape)
        if columns is not None:
            total = columns.sum(1, dtype=torch.float64)
            sums[site.weight] = sums[site.weight] + total if site.weight in sums else total
            counts[site.weight] = counts.get(site.weight, 0) + columns.shape[1]

    for batch in track(progress, "statistics", batches):
        seen.clear()
        gates.observe(batch, look)
    return {name: total / counts[name] for name, total in sums.items()}


def outputs_of(node: fx.Node, value: Tensor, groups: int) -> Tensor:
    """What a linear or convolutional node gives, as (groups, rows and positions, outputs), rows as in `patches`."""
    if "conv" in op_name(node):
        value = value.movedim(1, -1)
    value = value.reshape(-1, groups, value.shape[-1] // groups)
    return value.movedim(1, 0)


def regression(
    intact: Gates, gates: Gates, weight: str, matrix: Callable[[Tensor], Tensor], batches: Sequence[Batch]
) -> Regression | None:
    """The sums of a regression of what the consumers of `weight` give in the intact network, without their bias, on
    what they read behind `gates`. `matrix` lays the weight out as (groups, outputs, columns).

    One pass over the data up to the last of the consumers, for each of the two networks. Products of a batch are in
    its own precision, sums over batches in float64; a weight that is used more than once sums over its uses. None
    where a consumer is neither linear nor convolutional.
    """
    total: Regression | None = None
    laid_out = matrix(gates.state[weight])
    for batch in batches:
        before = _columns(intact, weight, batch)
        after = _columns(gates, weight, batch)
        if before is None or after is None:
            return None
        for old, new in zip(before, after, strict=True):
            wanted = old @ laid_out.transpose(-1, -2)
            wide = torch.cat([new, new.new_ones((*new.shape[:-1], 1))], -1)
            gram = (wide.transpose(-1, -2) @ wide).double()
            cross = (wanted.transpose(-1, -2) @ wide).double()
            energy = wanted.square().sum(dtype=torch.float64).item()
            if total is None:
                total = Regression(gram, cross, energy, wide.shape[1])
            else:
                total.gram += gram
                total.cross += cross
                total.energy += energy
                total.count += wide.shape[1]
    return total


def _columns(gates: Gates, weight: str, batch: Batch) -> list[Tensor] | None:
    """The columns that each consumer of `weight` reads on one batch."""
    found: dict[tuple[fx.Node, int], Tensor | None] = {}

    def look(group: Group, index: int, value: Tensor) -> None:
        site = group.consumers[index]
        found[site.node, site.position] = patches(site.node, value, gates.state[weight].shape)

    gates.observe(batch, look, weight)
    columns = [each for each in found.values() if each is not None]
    return columns if len(columns) == len(found) and columns else None
