"""Vectors along the axis of a site: laid out, and summed by sample, by column, by unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deadhead.errors import DataError
from deadhead.graph.samples import SampleLayout
from deadhead.graph.units.groups import Group, Site


def along(vector: Tensor, dim: int, axis: int) -> Tensor:
    """`vector` of shape (n,) laid along `axis` of a tensor with `dim` axes."""
    shape = [1] * dim
    shape[axis] = len(vector)
    return vector.reshape(shape)


def by_sample(value: Tensor, site: Site, samples: int, layout: SampleLayout | None) -> Tensor:
    """`value` summed over everything but the sample and the site's axis: shape (samples, n). `layout` says where the
    samples lie; to a single sample everything belongs.

    Raises `DataError` where the samples cannot be told apart.
    """
    if samples == 1:
        return value.movedim(site.axis, -1).flatten(0, -2).sum(0, keepdim=True)
    if layout is None or site.axis % value.dim() == layout.axis:
        raise DataError(
            f"The samples of a batch see each other at {site.module}, so that there is no loss per sample to judge by; "
            "choose a criterion that does without, such as magnitude, activation_std or taylor1."
        )
    return layout.sum(value, samples, keep=site.axis)


def by_unit(columns: Tensor, site: Site, size: int) -> Tensor:
    """Columns along the site's axis (last axis, n) summed into units: last axis K."""
    units = site.units.to(columns.device)
    inside = units >= 0
    result = columns.new_zeros((*columns.shape[:-1], size))
    return result.index_add_(-1, units[inside], columns[..., inside])


def columns_sum(value: Tensor, site: Site) -> Tensor:
    """The sum of each column along the site's axis over samples and positions, shape (n,), float64."""
    return value.movedim(site.axis, -1).flatten(0, -2).sum(0, dtype=torch.float64)


def closing(groups: Sequence[Group], removed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gates that close some units of each group: {group: (K,) of ones and zeros}, for the groups that lose any."""
    gone = [(group, removed[group.name]) for group in groups if len(removed.get(group.name, ()))]
    return {group.name: torch.ones(group.size).index_fill_(0, units, 0.0) for group, units in gone}
