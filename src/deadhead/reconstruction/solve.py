"""Least squares: the weights with which the remaining columns best reproduce the consumer's intact output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deadhead.reconstruction.sums import Regression

FIT_DAMPINGS = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates for the damping; each consumer takes the one with the minimum error on the held-out samples."""


def solve(cross: Tensor, gram: Tensor, remaining: Tensor, damping: float, reference: Tensor) -> Tensor:
    """The weights of a damped least-squares problem on some of its columns.

    They minimise `E |W a~ - y|^2 + tr((W - W_ref) D (W - W_ref)^T)` over W that is zero off the columns S:
    `W_S = (C + W_ref D)[:, S] ((G + D)[S, S])^-1`, with `D` = `damping` times the mean diagonal of G on the columns
    and 0 on the constant. With `C = W G` and W_ref = W it is `W G_l[:, S] (G_l[S, S])^-1`.

    Args:
        cross: C = E[y a~^T], (o, n + 1), the last column a one.
        gram: G = E[a~ a~^T], (n + 1, n + 1).
        remaining: the indices S of the columns with weights.
        damping: a number, in parts of the mean diagonal of G.
        reference: W_ref, (o, n + 1), towards which the weights are damped.

    Returns:
        W_S, (o, S).

    Example:

        >>> gram = torch.tensor([[2.0, 2.0, 1.0], [2.0, 2.0, 1.0], [1.0, 1.0, 1.0]]).double()
        >>> weight = torch.tensor([[1.0, 3.0, 0.0]]).double()
        >>> solve(weight @ gram, gram, torch.tensor([0, 2]), 0.0, weight).round(decimals=9).abs()  # two equal columns
        tensor([[4., 0.]], dtype=torch.float64)
    """
    diagonal = gram.diagonal()[:-1]
    extra = torch.zeros_like(gram.diagonal())
    extra[:-1] = damping * diagonal.mean() if len(diagonal) else 0.0
    inner = (gram + torch.diag(extra))[remaining][:, remaining]
    right = (cross + reference * extra)[:, remaining].T
    scale = inner.diagonal().clamp(min=1e-300).rsqrt()
    inner = inner * scale[:, None] * scale
    factor, failed = torch.linalg.cholesky_ex(inner)
    if failed.any():
        driver = "gelsd" if inner.is_cpu else None
        solution: Tensor = torch.linalg.lstsq(inner, scale[:, None] * right, driver=driver)[0]
    else:
        solution = torch.cholesky_solve(scale[:, None] * right, factor)
    result: Tensor = (scale[:, None] * solution).T
    return result


@dataclass(frozen=True)
class Fit:
    """A consumer that is refitted.

    Attributes:
        weights: (g, o, n + 1), zero at removed columns; the constant comes last.
        damping: the one of `FIT_DAMPINGS` that was chosen.
        error: `E |W a~ - y|^2 / E |y|^2` on the samples that it was fitted to.
        held_out_error: the same on the held-out samples.
    """

    weights: Tensor
    damping: float
    error: float
    held_out_error: float


def fit_blocks(
    matrix: Tensor, removed: Tensor, known: Sequence[Regression], held_out: Sequence[Regression], has_constant: bool
) -> Fit:
    """Weights for the remaining columns as by `fit`, for each block of columns alone where there are several.

    The remaining columns of a block take over for its removed ones, with the output of the whole block as the target.
    The constants add up to `E[y] - W E[a]`, the optimum for all blocks together. Approximate: the columns of one block
    cannot take over for those of another. Errors are sums over the blocks, as if these were uncorrelated; the damping
    is the maximum over the blocks.

    Args:
        matrix: the weights so far, (g, o, n).
        removed: which columns are removed, (g, n), boolean.
        known: the sums over the samples to fit to, one for each block.
        held_out: the same over the held-out samples.
        has_constant: whether a constant may be added to the output.
    """
    if len(known) == 1:
        return fit(matrix, removed, known[0], held_out[0], has_constant)
    weights = matrix.new_zeros((*matrix.shape[:-1], matrix.shape[-1] + 1))
    errors, damping = [0.0, 0.0], 0.0
    for mine, other in zip(known, held_out, strict=True):
        part = fit(matrix[..., mine.columns], removed[:, mine.columns], mine, other, has_constant)
        weights[..., :-1][..., mine.columns] = part.weights[..., :-1]
        weights[..., -1] += part.weights[..., -1]
        for place, (error, sums) in enumerate(((part.error, mine), (part.held_out_error, other))):
            errors[place] += error * sums.energy / max(sum(each.energy for each in (known, held_out)[place]), 1e-300)
        damping = max(damping, part.damping)
    return Fit(weights, damping, *errors)


def fit(matrix: Tensor, removed: Tensor, known: Regression, held_out: Regression, has_constant: bool) -> Fit:
    """Weights for the remaining columns, with the damping that has the minimum error on the held-out samples.

    Args:
        matrix: the weights so far, (g, o, n).
        removed: which columns are removed, (g, n), boolean.
        known: the sums over the samples to fit to.
        held_out: the sums over the held-out samples.
        has_constant: whether a constant may be added to the output; else it is 0.
    """
    reference = torch.cat([matrix, matrix.new_zeros((*matrix.shape[:-1], 1))], -1)
    gram, cross = (known.gram / known.count).to(matrix), (known.cross / known.count).to(matrix)
    constant = torch.tensor([has_constant], device=removed.device)
    best: Fit | None = None
    for damping in FIT_DAMPINGS:
        weights = torch.zeros_like(reference)
        for index in range(len(matrix)):
            remaining = torch.cat([~removed[index], constant]).nonzero()[:, 0]
            weights[index][:, remaining] = solve(cross[index], gram[index], remaining, damping, reference[index])
        error = held_out.error(weights)
        if torch.isfinite(weights).all() and (best is None or error < best.held_out_error):
            best = Fit(weights, damping, known.error(weights), error)
    if best is None:
        return Fit(reference * ~torch.cat([removed, ~constant.expand(len(removed), 1)], 1)[:, None], 0.0, 1.0, 1.0)
    return best
