"""Blocks: the columns of a consumer that has too many for one matrix of their products, divided into parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MOST_COLUMNS = 16384
"""Maximum number of columns in one block; consumers with more have their columns divided into blocks."""


def blocks_of(units: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The columns of each block, ascending; no blocks where all columns fit one matrix.

    Blocks are about equally large, at most `MOST_COLUMNS`, and so small that all their matrices of products take no
    more memory than one of `MOST_COLUMNS`: n columns are divided into about (n / MOST_COLUMNS)^2 blocks. The columns of
    one unit of the first group are in one block, unless they alone are too many, and units are in order.

    Args:
        units: for each group that is read, the unit of each column or -1, (n,).
    """
    n = len(units[0])
    if n <= MOST_COLUMNS:
        return ()
    own = torch.arange(n)  # the first column of the unit of each column
    for each in reversed(units):
        owned = each >= 0
        first = torch.full((n,), n).scatter_reduce(0, each[owned], torch.arange(n)[owned], "amin")
        own = own.where(~owned, first[each.clamp(min=0)])
    own, order = own.sort(stable=True)
    start = torch.searchsorted(own, own)
    start += (torch.arange(n) - start) // MOST_COLUMNS * MOST_COLUMNS
    count = -(-(n**2) // MOST_COLUMNS**2)
    while True:
        sizes = torch.bincount(start * count // n)
        if int(sizes.max()) <= MOST_COLUMNS:
            return tuple(part.sort().values for part in torch.split(order, sizes[sizes > 0].tolist()))
        count += 1
