"""Streamed statistics of what consumers read: moments and medians of each column, in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deadhead.data.calibration import Batch
from deadhead.gates.gates import Gates
from deadhead.graph.units.groups import Group
from deadhead.progress import Progress, track

MEDIAN_VALUES = 16384
"""Values of a column that its median is taken over: at most about this many."""


@dataclass
class Moments:
    """Statistics of each of n columns over samples and positions.

    Attributes:
        count: the number of values in each column.
        total: their sum, (n,), float64.
        squares: the sum of their squares, (n,), float64.
        minimum: (n,), float64.
        maximum: (n,), float64.
    """

    count: int
    total: Tensor
    squares: Tensor
    minimum: Tensor
    maximum: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean of each column, (n,)."""
        return self.total / self.count

    @property
    def std(self) -> Tensor:
        """The standard deviation of each column, (n,), without Bessel's correction."""
        return (self.squares / self.count - self.mean.square()).clamp(min=0).sqrt()


def flat_columns(value: Tensor, axis: int) -> Tensor:
    """The activation as a matrix: one row for each sample and position, one column for each index along `axis`."""
    return value.movedim(axis, -1).reshape(-1, value.shape[axis])


def moments(
    gates: Gates, groups: Sequence[Group], batches: Sequence[Batch], progress: Progress | None = None
) -> dict[str, list[Moments]]:
    """The moments of what each consumer of each group reads, in one forward pass over the data.

    Args:
        gates: the network, with its removed units closed.
        groups: the groups that are looked at.
        batches: the data.
        progress: what reports the batches done.

    Returns:
        {group: the moments at each of its consumers, in their order}.
    """
    found: dict[str, dict[int, Moments]] = {group.name: {} for group in groups}

    def look(group: Group, index: int, value: Tensor) -> None:
        if group.name not in found:
            return
        read = flat_columns(value, group.consumers[index].axis).double()
        total, squares = read.sum(0), read.square().sum(0)
        minimum, maximum = read.amin(0), read.amax(0)
        known = found[group.name].get(index)
        if known is None:
            found[group.name][index] = Moments(len(read), total, squares, minimum, maximum)
        else:
            known.count += len(read)
            known.total += total
            known.squares += squares
            known.minimum = torch.minimum(known.minimum, minimum)
            known.maximum = torch.maximum(known.maximum, maximum)

    for batch in track(progress, "activations", batches):
        gates.observe(batch, look)
    return {name: [values[index] for index in sorted(values)] for name, values in found.items()}


def medians(
    gates: Gates, groups: Sequence[Group], batches: Sequence[Batch], progress: Progress | None = None
) -> dict[str, list[Tensor]]:
    """The median of each column of what each consumer of each group reads, in one forward pass over the data.

    It is taken over samples and positions: over all of them, or over about `MEDIAN_VALUES` at even distances where
    there are more.

    Args:
        gates: the network, with its removed units closed.
        groups: the groups that are looked at.
        batches: the data.
        progress: what reports the batches done.

    Returns:
        {group: the medians at each of its consumers, (n,), float64}.
    """
    held: dict[tuple[str, int], list[Tensor]] = {}
    wanted = {group.name for group in groups}
    share = max(1, len(batches))

    def look(group: Group, index: int, value: Tensor) -> None:
        if group.name in wanted:
            read = flat_columns(value, group.consumers[index].axis)
            step = max(1, -(-len(read) * share // MEDIAN_VALUES))
            held.setdefault((group.name, index), []).append(read[::step].cpu())

    for batch in track(progress, "medians", batches):
        gates.observe(batch, look)
    found = {key: torch.cat(parts).double().quantile(0.5, dim=0) for key, parts in held.items()}
    return {group.name: [found[group.name, index] for index in range(len(group.consumers))] for group in groups}
