"""Least squares: the weights with which the columns that stay give what the consumer gave with all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deadhead.reconstruction.sums import Regression

FIT_DAMPINGS = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates for lambda; each consumer takes the one with the least error on the held-out rows."""


def solve(cross: Tensor, gram: Tensor, kept: Tensor, damping: float, reference: Tensor) -> Tensor:
    """The W on the columns S = `kept` that minimises `E |W a~ - y|^2 + tr((W - W_ref) D (W - W_ref)^T)`.

    `W_S = (C + W_ref D)[:, S] ((G + D)[S, S])^-1`, shape (o, S), with `G = E[a~ a~^T]` = `gram`, shape (n + 1, n + 1),
    the last column a one, `C = E[y a~^T]` = `cross` and `W_ref` = `reference`, shape (o, n + 1), `D` = `damping` times
    the mean diagonal of G on the columns and 0 on the constant. With `C = W G` and W_ref = W it is
    `W G_l[:, S] (G_l[S, S])^-1`.

    >>> gram = torch.tensor([[2.0, 2.0, 1.0], [2.0, 2.0, 1.0], [1.0, 1.0, 1.0]]).double()
    >>> weight = torch.tensor([[1.0, 3.0, 0.0]]).double()
    >>> solve(weight @ gram, gram, torch.tensor([0, 2]), 0.0, weight).round(decimals=9).abs()  # two equal columns
    tensor([[4., 0.]], dtype=torch.float64)
    """
    diagonal = gram.diagonal()[:-1]
    extra = torch.zeros_like(gram.diagonal())
    extra[:-1] = damping * diagonal.mean() if len(diagonal) else 0.0
    inner = (gram + torch.diag(extra))[kept][:, kept]
    right = (cross + reference * extra)[:, kept].T
    scale = inner.diagonal().clamp(min=1e-300).rsqrt()
    inner = inner * scale[:, None] * scale
    factor, failed = torch.linalg.cholesky_ex(inner)
    if failed.any():
        solution: Tensor = torch.linalg.lstsq(inner, scale[:, None] * right, driver="gelsd" if inner.is_cpu else None)[
            0
        ]
    else:
        solution = torch.cholesky_solve(scale[:, None] * right, factor)
    result: Tensor = (scale[:, None] * solution).T
    return result


@dataclass(frozen=True)
class Fit:
    """`weights` (g, o, n + 1), zero where a column goes; the damping that was chosen, and the error on the rows that
    it was fitted to and on the held-out rows."""

    weights: Tensor
    damping: float
    error: float
    held_out_error: float


def fit_blocks(
    matrix: Tensor, dead: Tensor, known: Sequence[Regression], held_out: Sequence[Regression], has_constant: bool
) -> Fit:
    """`fit`, for each block of columns by itself where there are several: what stays of a block takes over for what
    goes of it, with what the whole block gave as the target. The constants add up to `E[y] - W E[a]`, the one that is
    best for all.

    Approximate: what stays in one block cannot take over for what goes in another. Errors are sums over the blocks, as
    if these were uncorrelated, the damping is that of the block with most.
    """
    if len(known) == 1:
        return fit(matrix, dead, known[0], held_out[0], has_constant)
    weights = matrix.new_zeros((*matrix.shape[:-1], matrix.shape[-1] + 1))
    errors, damping = [0.0, 0.0], 0.0
    for mine, other in zip(known, held_out, strict=True):
        part = fit(matrix[..., mine.columns], dead[:, mine.columns], mine, other, has_constant)
        weights[..., :-1][..., mine.columns] = part.weights[..., :-1]
        weights[..., -1] += part.weights[..., -1]
        for place, (error, sums) in enumerate(((part.error, mine), (part.held_out_error, other))):
            errors[place] += error * sums.energy / max(sum(each.energy for each in (known, held_out)[place]), 1e-300)
        damping = max(damping, part.damping)
    return Fit(weights, damping, *errors)


def fit(matrix: Tensor, dead: Tensor, known: Regression, held_out: Regression, has_constant: bool) -> Fit:
    """Weights for the columns that stay, with the damping that has the least error on the held-out rows.

    `matrix` (g, o, n) are the weights so far, `dead` (g, n) says which columns go; without `has_constant` the last
    column stays 0.
    """
    reference = torch.cat([matrix, matrix.new_zeros((*matrix.shape[:-1], 1))], -1)
    gram, cross = (known.gram / known.count).to(matrix), (known.cross / known.count).to(matrix)
    constant = torch.tensor([has_constant], device=dead.device)
    best: Fit | None = None
    for damping in FIT_DAMPINGS:
        weights = torch.zeros_like(reference)
        for index in range(len(matrix)):
            kept = torch.cat([~dead[index], constant]).nonzero()[:, 0]
            weights[index][:, kept] = solve(cross[index], gram[index], kept, damping, reference[index])
        error = held_out.error(weights)
        if torch.isfinite(weights).all() and (best is None or error < best.held_out_error):
            best = Fit(weights, damping, known.error(weights), error)
    if best is None:
        return Fit(reference * ~torch.cat([dead, ~constant.expand(len(dead), 1)], 1)[:, None], 0.0, 1.0, 1.0)
    return best
