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

MEDIAN_ROWS = 16384
"""Rows and positions that a median is taken over, at most about so many."""


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


def flat_columns(value: Tensor, axis: int) -> Tensor:
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
        read = flat_columns(value, group.consumers[index].axis).double()
        total, squares = read.sum(0), read.square().sum(0)
        least, greatest = read.amin(0), read.amax(0)
        have = found[group.name].get(index)
        if have is None:
            found[group.name][index] = Moments(len(read), total, squares, least, greatest)
        else:
            have.count += len(read)
            have.total += total
            have.squares += squares
            have.least = torch.minimum(have.least, least)
            have.greatest = torch.maximum(have.greatest, greatest)

    for batch in track(progress, "activations", batches):
        gates.observe(batch, look)
    return {name: [values[index] for index in sorted(values)] for name, values in found.items()}


def medians(
    gates: Gates, groups: Sequence[Group], batches: Sequence[Batch], progress: Progress | None = None
) -> dict[str, list[Tensor]]:
    """The median of each column at each consumer of each group, float64, over rows and positions: of all of them, or of
    about `MEDIAN_ROWS` that are spread evenly where there are more."""
    held: dict[tuple[str, int], list[Tensor]] = {}
    wanted = {group.name for group in groups}
    share = max(1, len(batches))

    def look(group: Group, index: int, value: Tensor) -> None:
        if group.name in wanted:
            read = flat_columns(value, group.consumers[index].axis)
            step = max(1, -(-len(read) * share // MEDIAN_ROWS))
            held.setdefault((group.name, index), []).append(read[::step].cpu())

    for batch in track(progress, "medians", batches):
        gates.observe(batch, look)
    found = {key: torch.cat(parts).double().quantile(0.5, dim=0) for key, parts in held.items()}
    return {group.name: [found[group.name, index] for index in range(len(group.consumers))] for group in groups}
