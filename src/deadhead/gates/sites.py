"""Vectors along the axis of a site, and sums over it: by sample, by column, by unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deadhead.errors import DataError
from deadhead.graph.samples import SampleLayout
from deadhead.graph.units.groups import Group, Site


def along(vector: Tensor, dim: int, axis: int) -> Tensor:
    """A vector reshaped to lie along one axis of a tensor; the other axes have size 1.

    Args:
        vector: (n,).
        dim: the number of axes.
        axis: the axis that gets size n.
    """
    shape = [1] * dim
    shape[axis] = len(vector)
    return vector.reshape(shape)


def by_sample(value: Tensor, site: Site, samples: int, layout: SampleLayout | None) -> Tensor:
    """`value` summed over everything but the samples and the site's axis.

    Args:
        value: what is read at the site, or its gradient.
        site: a consumer, whose axis has n entries.
        samples: the number of samples in the batch; a single one owns every entry.
        layout: where the samples lie in `value`; None where that is not known.

    Returns:
        The sums, (samples, n).

    Raises:
        DataError: the entries of `value` do not belong to one sample each.
    """
    if samples == 1:
        return value.movedim(site.axis, -1).flatten(0, -2).sum(0, keepdim=True)
    if layout is None or site.axis % value.dim() == layout.axis:
        raise DataError(
            f"The samples of a batch affect each other at {site.module}, so that a sample has no loss of its own; "
            "choose a criterion that needs no loss per sample, such as magnitude, activation_std or taylor1."
        )
    return layout.sum(value, samples, keep=site.axis)


def by_unit(columns: Tensor, site: Site, size: int) -> Tensor:
    """The sum over the columns of each unit, (..., K).

    Args:
        columns: a number for each index along the site's axis, (..., n).
        site: a consumer, which says which unit each column belongs to.
        size: the number of units, K.
    """
    units = site.units.to(columns.device)
    inside = units >= 0
    result = columns.new_zeros((*columns.shape[:-1], size))
    return result.index_add_(-1, units[inside], columns[..., inside])


def columns_sum(value: Tensor, site: Site) -> Tensor:
    """The sum of each column along the site's axis, over samples and positions: (n,), float64."""
    return value.movedim(site.axis, -1).flatten(0, -2).sum(0, dtype=torch.float64)


def closing(groups: Sequence[Group], removed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gates that close the removed units of each group: {group: (K,) of ones and zeros}, for groups that lose any."""
    affected = [group for group in groups if len(removed.get(group.name, ()))]
    return {group.name: torch.ones(group.size).index_fill_(0, removed[group.name], 0.0) for group in affected}
