"""Vectors along the axis of a site: laid out, and summed by sample, by column, by unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deadhead.errors import DataError
from deadhead.graph.units.groups import Group, Site


def along(vector: Tensor, dim: int, axis: int) -> Tensor:
    """`vector` of shape (n,) or (rows, n) laid along `axis` of a tensor with `dim` axes, rows along axis 0."""
    shape = [1] * dim
    shape[axis] = vector.shape[-1]
    if vector.dim() == 2:
        shape[0] = vector.shape[0]
    return vector.reshape(shape)


def by_row(value: Tensor, site: Site, rows: int, owner: str | None) -> Tensor:
    """`value` summed over everything but the sample and the site's axis: shape (rows, n). `owner` says where the
    samples lie, as `RowLayout` does; a single sample owns everything.

    Raises `DataError` where the samples see each other.
    """
    if rows == 1:
        return value.movedim(site.axis, -1).flatten(0, -2).sum(0, keepdim=True)
    samples = 1 if owner == "second" else 0
    if owner is None or site.axis == samples:
        raise DataError(
            f"The samples of a batch see each other at {site.module}, so that there is no loss per sample to judge by; "
            "choose a criterion that does without, such as magnitude, activation_std or taylor1."
        )
    value = value.movedim(site.axis, -1)
    if owner == "second":
        value = value.movedim(1, 0)
    if owner == "inner":
        return value.reshape(-1, rows, *value.shape[1:]).movedim(0, 1).reshape(rows, -1, value.shape[-1]).sum(1)
    return value.reshape(rows, -1, value.shape[-1]).sum(1)


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
