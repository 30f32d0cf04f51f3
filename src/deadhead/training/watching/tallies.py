"""What one pass shows of a group at one of its places: the units' values and the gradients of the loss there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deadhead.gates.sites import along, by_sample, by_unit
from deadhead.graph.samples import SampleLayout
from deadhead.graph.units.groups import Group, Site

VALUES = 1024
"""Values of a unit that a histogram counts at one place: at most about this many, spread evenly over the probe."""


@dataclass
class _Column:
    """Mean and variance of the columns of one site, merged over passes."""

    count: int
    mean: Tensor
    squares: Tensor

    def merge(self, count: int, mean: Tensor, squares: Tensor) -> None:
        both, apart = self.count + count, mean - self.mean
        self.squares = self.squares + squares + apart.square() * (self.count * count / both)
        self.mean = self.mean + apart * (count / both)
        self.count = both


@dataclass
class _Pass:
    """One pass: `sum_s (a - c) dL/da` by sample and unit, c the mean of the pass; for each site `sum_s dL/da` by sample
    and column, c, and `a - c` until its gradient comes."""

    products: Tensor
    gradients: dict[int, Tensor] = field(default_factory=dict)
    centres: dict[int, Tensor] = field(default_factory=dict)
    centred: dict[int, Tensor] = field(default_factory=dict)


class Tally:
    """Sums over a probe of what stands at the consumers of a group; at its producers with `Group.at_producers`.

    Args:
        group: K units, at the places that are looked at.
        passes: how many passes go over the probe.

    Attributes:
        gradient: `sum_n sum_s abs(dL_n/da)` for each unit over samples n and positions s, (K,), float64.
        gradient_maximum: the maximum of the same terms, (K,), float64.
    """

    def __init__(self, group: Group, passes: int) -> None:
        self.group = group
        self.gradient = torch.zeros(group.size, dtype=torch.float64)
        self.gradient_maximum = torch.zeros(group.size, dtype=torch.float64)
        self._several = passes > 1
        self._wanted = max(1, VALUES // passes)
        self._columns: dict[int, _Column] = {}
        self._passes: list[_Pass] = []
        self._sampled: list[tuple[Tensor, Tensor]] = []

    def open(self, samples: int) -> None:
        """Begin a pass over so many samples."""
        self._passes.append(_Pass(torch.zeros(samples, self.group.size, dtype=torch.float64)))

    def forward(self, index: int, value: Tensor, first: bool) -> None:
        """Count the values at one site.

        Args:
            index: the place of the site among the group's.
            value: what stands there, in any shape.
            first: False where the same values were counted before.
        """
        site = self.group.consumers[index]
        if site.among:
            return
        value = _wide(value)
        count = value.numel() // value.shape[site.axis]
        mean = _sums(value, site.axis) / count
        centred = value - along(mean, value.dim(), site.axis)
        self._passes[-1].centres[index] = mean
        self._passes[-1].centred[index] = centred
        if not first:
            return
        squares = torch.linalg.vector_norm(_in_three(centred, site.axis), 2, 2).double().square().sum(0)
        mean = mean.double()
        if index in self._columns:
            self._columns[index].merge(count, mean, squares)
        else:
            self._columns[index] = _Column(count, mean, squares)
        self._sampled.append(_some_of(value, site, self._wanted))

    def backward(self, index: int, gradient: Tensor, samples: int, layout: SampleLayout | None) -> None:
        """Count the gradients at one site, in the pass whose values were counted last.

        Args:
            index: the place of the site among the group's.
            gradient: `d(sum_n L_n)/da`, in the shape of its values.
            samples: how many samples the pass is about.
            layout: where they lie.
        """
        site, now, size = self.group.consumers[index], self._passes[-1], self.group.size
        gradient = _wide(gradient)
        sizes = gradient.abs()
        self.gradient += by_unit(_sums(sizes, site.axis).double(), site, size).cpu()
        largest = _in_three(sizes, site.axis).amax(2).amax(0).double().cpu()
        inside = site.units >= 0
        self.gradient_maximum.scatter_reduce_(0, site.units[inside], largest[inside], "amax")
        deviation = torch.ones_like(gradient) if site.among else now.centred.pop(index)  # d(x + log alpha)/d alpha = 1
        product = by_sample(deviation * gradient, site, samples, layout).double()
        now.products += by_unit(product, site, size).cpu()
        if self._several and not site.among:
            now.gradients[index] = by_sample(gradient, site, samples, layout).double()

    def means(self) -> list[Tensor | None]:
        """The mean of each column over samples and positions at each site, (n,), float64; None where there is none."""
        places = range(len(self.group.consumers))
        return [self._columns[index].mean if index in self._columns else None for index in places]

    def std(self) -> Tensor:
        """The standard deviation of each unit's values over samples and positions, `sqrt(sum_j var(a_j))` over its
        columns j: (K,), float64."""
        total = torch.zeros(self.group.size, dtype=torch.float64)
        for index, column in self._columns.items():
            variance = column.squares / column.count
            total += by_unit(variance, self.group.consumers[index], self.group.size).cpu()
        return total.sqrt()

    def slopes(self) -> Tensor:
        """Each term of the mean replacement saliency, `abs(sum_s,j (a - r_j) dL_n/da)`: (samples, K), float64.

        Each pass holds the deviations from its own mean c; the mean r over all of them differs from it by a constant:
        `sum_s (a - r) g = sum_s (a - c) g - (r - c) sum_s g`. A constant unit has terms of 0 within rounding, however
        large the constant is.
        """
        parts = []
        for each in self._passes:
            found = each.products
            for index, gradient in each.gradients.items():
                shift = self._columns[index].mean - each.centres[index].double()
                found = found - by_unit(gradient * shift, self.group.consumers[index], self.group.size).cpu()
            parts.append(found.abs())
        return torch.cat(parts) if parts else torch.zeros(0, self.group.size, dtype=torch.float64)

    def sampled(self) -> tuple[Tensor, Tensor]:
        """Some of the values, and the unit of each: (n,) on the CPU, (n,)."""
        if not self._sampled:
            return torch.zeros(0), torch.zeros(0, dtype=torch.long)
        values, units = zip(*self._sampled, strict=True)
        return torch.cat(values), torch.cat(units)


def _wide(value: Tensor) -> Tensor:
    """A tensor in at least single precision: sums in half precision are too coarse to tell a constant from others."""
    return value.float() if value.dtype.itemsize < 4 else value


def _in_three(value: Tensor, axis: int) -> Tensor:
    """A tensor as (what lies before the axis, the axis, what lies behind it)."""
    axis %= value.dim()
    return value.reshape(math.prod(value.shape[:axis]), value.shape[axis], -1)


def _sums(value: Tensor, axis: int) -> Tensor:
    """The sum over everything but one axis; what lies side by side in memory first, which is several times faster."""
    return _in_three(value, axis).sum(2).sum(0)


def _some_of(value: Tensor, site: Site, wanted: int) -> tuple[Tensor, Tensor]:
    """Up to about `wanted` values of each unit, and their units; the places follow the golden ratio, so that they do
    not fall in step with the rows of an image."""
    inside = site.units >= 0
    columns, units = inside.nonzero()[:, 0].to(value.device), site.units[inside]
    whole = _in_three(value, site.axis)
    count = len(whole) * whole.shape[2]
    each = max(1, int(torch.bincount(units).max())) if len(units) else 1
    places = torch.arange(min(count, max(1, wanted // each)))
    if len(places) < count:
        places = ((places.double() * 0.6180339887498949) % 1.0 * count).long()
    places = places.to(value.device)
    chosen = whole[places // whole.shape[2], :, places % whole.shape[2]][:, columns].float().cpu()
    return chosen.flatten(), units.expand(len(chosen), -1).flatten()


def sums_over(group: Group, sites: Sequence[Site], tensors: dict[str, Tensor]) -> Tensor:
    """The L1 norm of each unit's part of the parameters that some sites contract it with, `sum abs(w)`: (K,), float64.

    Args:
        group: K units.
        sites: its producers for incoming weights, its consumers for outgoing ones.
        tensors: {parameter: its values}; those that are missing count as nothing.
    """
    wanted = {(site.weight, site.weight_axis) for site in sites if site.weight is not None}
    total = torch.zeros(group.size, dtype=torch.float64)
    for part in group.slices:
        held = tensors.get(part.parameter)
        if held is not None and (part.parameter, part.axis) in wanted:
            others = [axis for axis in range(held.dim()) if axis != part.axis]
            wide = _wide(held.detach())
            norms = torch.linalg.vector_norm(wide, 1, others) if others else wide.abs()
            inside = part.units >= 0
            total.index_add_(0, part.units[inside], norms.double().cpu()[inside])
    return total
