"""Histograms of the values of each unit, in bins that a layer's units share and that widen with the values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 64
"""The number of bins of a histogram, an even number."""


@dataclass(frozen=True)
class Histogram:
    """How often the values of each of K units fall into each of B bins of equal width.

    Attributes:
        low: the lower edge of the first bin.
        high: the upper edge of the last bin.
        counts: (K, B), int32.

    Example:
        >>> values, units = torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0, 0, 1])
        >>> found = Histogram.empty(2, 0.0, 2.0, bins=4).with_values(values, units)
        >>> found.counts
        tensor([[1, 0, 1, 0],
                [0, 0, 1, 0]], dtype=torch.int32)
        >>> found.reaching(-1.0, 2.0)  # twice as wide, below: two bins become one
        Histogram(low=-2.0, high=2.0, counts=tensor([[0, 0, 1, 1],
                [0, 0, 0, 1]], dtype=torch.int32))
    """

    low: float
    high: float
    counts: Tensor

    @classmethod
    def empty(cls, units: int, low: float, high: float, bins: int = BINS) -> Histogram:
        """A histogram of K units that has counted nothing yet, in `bins` bins from `low` to `high`."""
        return cls(low, high, torch.zeros(units, bins, dtype=torch.int32))

    @property
    def edges(self) -> Tensor:
        """The edges of the bins, (B + 1,), float64."""
        return torch.linspace(self.low, self.high, self.counts.shape[1] + 1, dtype=torch.float64)

    def reaching(self, low: float, high: float) -> Histogram:
        """The same counts in bins that hold values from `low` to `high`.

        As often as needed, the range is doubled towards the side that is too short, and each two bins become one, so
        that no count is guessed.

        Args:
            low: the minimum that has to fit, finite.
            high: the maximum that has to fit, finite.
        """
        found = self
        while low < found.low or high > found.high:
            width, pairs = (
                found.high - found.low,
                found.counts.reshape(len(found.counts), -1, 2).sum(2, dtype=torch.int32),
            )
            nothing = torch.zeros_like(pairs)
            if high > found.high:
                found = Histogram(found.low, found.high + width, torch.cat([pairs, nothing], 1))
            else:
                found = Histogram(found.low - width, found.high, torch.cat([nothing, pairs], 1))
        return found

    def with_values(self, values: Tensor, units: Tensor) -> Histogram:
        """The histogram with more values counted; those that are not finite are left out.

        Args:
            values: (n,), between `low` and `high` where finite.
            units: (n,), the unit that each value belongs to, from 0 to K - 1.
        """
        size, bins = self.counts.shape
        finite = torch.isfinite(values)
        if not bool(finite.all()):
            values, units = values[finite], units[finite]
        place = ((values.double() - self.low) * (bins / (self.high - self.low))).long().clamp(0, bins - 1)
        counted = torch.bincount(units * bins + place, minlength=size * bins)
        return Histogram(self.low, self.high, self.counts + counted.reshape(size, bins).to(self.counts))


def range_of(values: Tensor) -> tuple[float, float]:
    """The first range of a layer's bins: from its minimum to its maximum, a little wider; one wide for a constant.

    Args:
        values: any shape; those that are not finite do not count.
    """
    finite = values[torch.isfinite(values)]
    if not finite.numel():
        return -0.5, 0.5
    low, high = float(finite.min()), float(finite.max())
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        around = max(0.5, 1e-3 * abs(low))  # wide enough to be doubled whatever the size of the constant
        return low - around, high + around
    margin = 0.05 * (high - low)
    return low - margin, high + margin
