"""Largest singular values of matrices and convolutions, never below the exact ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

FINEST = 16
"""Frequencies for each tap beyond the first, above which a coarser grid with a correction is as good."""
SQUARINGS = 4
"""How often Gram matrices are squared to see which can have the largest eigenvalue."""
AT_ONCE = 2**22
"""Complex numbers of a kernel's transform that are held at once."""


def spectral_norm(matrices: Tensor) -> Tensor:
    """Spectral norms: the largest singular value of each matrix (..., m, n), float64.

    It is the root of the largest eigenvalue of the smaller Gram matrix, which is as accurate as the singular value
    itself.
    """
    if not matrices.numel():
        return torch.zeros(matrices.shape[:-2], dtype=torch.float64)
    squares: Tensor = torch.linalg.eigvalsh(_smaller_gram(matrices))[..., -1]
    return squares.clamp(min=0).sqrt()


def largest_norm(matrices: Tensor) -> float:
    """The largest singular value of all matrices (b, m, n), float64.

    Only those are decomposed that could have it: `norm(G^(2^j))_F^(1 / 2^j)` is above the largest eigenvalue of G, and
    products are cheaper than eigenvalues.
    """
    grams = _smaller_gram(matrices)
    power, above = grams, torch.ones(len(grams), dtype=torch.float64)
    for doubling in range(SQUARINGS + 1):
        size = torch.linalg.matrix_norm(power).clamp(min=1e-300)
        above = above * size ** (0.5**doubling)
        if doubling < SQUARINGS:
            power = power / size[:, None, None]
            power = power @ power
    best = 0.0
    for some in above.argsort(descending=True).tensor_split(max(1, len(grams) // 4)):
        if above[some[0]] * (1 + 1e-9) <= best:
            break
        best = max(best, torch.linalg.eigvalsh(grams[some])[:, -1].max().item())
    return math.sqrt(best)


def _smaller_gram(matrices: Tensor) -> Tensor:
    wide = matrices if matrices.shape[-2] <= matrices.shape[-1] else matrices.mH
    return wide @ wide.mH


def norms_by_unit(matrices: Tensor, units: Tensor, size: int) -> Tensor:
    """The spectral norm of each unit's columns, the maximum over several matrices.

    Args:
        matrices: (b, o, n).
        units: (n,), the unit of each column; -1 for none.
        size: K.

    Returns:
        (K,), float64.
    """
    found = torch.zeros(size, dtype=torch.float64)
    inside = units[units >= 0]
    counts = torch.bincount(inside, minlength=size)
    order = torch.argsort(units, stable=True)[len(units) - len(inside) :]
    starts = counts.cumsum(0) - counts
    for width in sorted(set(counts.tolist())):
        which = (counts == width).nonzero()[:, 0]
        columns = order[starts[which][:, None] + torch.arange(width)]
        if width == 1:
            found[which] = matrices[..., columns[:, 0]].abs().square().sum(1).amax(0).sqrt()
        elif width:
            for unit, own in zip(which.tolist(), columns, strict=True):
                found[unit] = largest_norm(matrices[..., own])
    return found


def transforms(kernel: Tensor, grid: Sequence[int], dilation: Sequence[int], groups: int) -> Iterator[Tensor]:
    """The Fourier transform of a convolution's kernel at the frequencies of a grid, in parts of limited size.

    Args:
        kernel: (o, i, taps ...).
        grid: the number of frequencies along each axis.
        dilation: of the kernel along each axis.
        groups: of the convolution.

    Returns:
        Parts of shape (frequencies, groups, o / groups, i), complex; of two mirrored frequencies only one is there.
    """
    taps = torch.tensor(list(itertools.product(*(range(k) for k in kernel.shape[2:]))), dtype=torch.float64)
    ranges = [range(m) for m in grid[:-1]] + [range(grid[-1] // 2 + 1)]
    points = torch.tensor(list(itertools.product(*ranges)), dtype=torch.float64)
    turns = points * torch.tensor(dilation, dtype=torch.float64) / torch.tensor(grid, dtype=torch.float64)
    flat = kernel.flatten(2).movedim(-1, 0).flatten(1).to(torch.complex128)
    step = max(1, AT_ONCE // flat.shape[1])
    for start in range(0, len(turns), step):
        phases = torch.exp(-2j * math.pi * (turns[start : start + step] @ taps.T))
        yield (phases @ flat).reshape(len(phases), groups, kernel.shape[0] // groups, kernel.shape[1])


def convolution_norm(kernel: Tensor, grid: Sequence[int], dilation: Sequence[int], groups: int = 1) -> float:
    """The spectral norm of a circular convolution: the largest singular value of its kernel's Fourier transform.

    A convolution with zero padding of maps of size H is a part of the one on a torus of H + d (k - 1) or more: its
    norm is at most as large, and strides only leave out outputs.

    Args:
        kernel: (o, i, taps ...).
        grid: the size of the torus.
        dilation: of the kernel along each axis.
        groups: of the convolution.

    Returns:
        The norm, in float64.

    Source: Sedghi et al. (2019).
    """
    return max(largest_norm(part.flatten(0, 1)) for part in transforms(kernel.double(), grid, dilation, groups))


def fine_enough(
    sizes: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> tuple[list[int], list[int], float]:
    """A grid of frequencies on which the norm of a convolution, times a factor, is an upper bound.

    H + d (k - 1) along each axis; of wide maps, 16 (k - 1) without dilation, times 1 / cos(pi / 32): the transform
    along an axis is a trigonometric polynomial of degree (k - 1) / 2, which falls from its maximum no faster than a
    cosine of that frequency (M. Riesz). It is 0.5 % more than the bound for maps of any size.

    Args:
        sizes: of the maps, H along each axis.
        kernel: its size k along each axis.
        dilation: d along each axis.

    Returns:
        (grid, dilation, factor) for `convolution_norm`.
    """
    grid, spread, factor = [], [], 1.0
    for size, k, d in zip(sizes, kernel, dilation, strict=True):
        coarse = max(1, FINEST * (k - 1))
        exact = size + d * (k - 1)
        grid.append(min(exact, coarse))
        spread.append(d if exact <= coarse else 1)
        factor *= 1 / math.cos(math.pi * (k - 1) / (2 * coarse)) if exact > coarse else 1.0
    return grid, spread, factor
