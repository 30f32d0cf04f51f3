"""The optimal brain surgeon on single weights of a layer: choose by what its outputs lose, and refit what remains."""

from __future__ import annotations

import torch
from torch import Tensor


def gram_of(columns: Tensor, damping: float = 1e-4) -> Tensor:
    """The second moments of what a layer's weights multiply, with a constant one behind for the bias.

    Args:
        columns: (samples, n), of samples and positions.
        damping: what is added to the diagonal, times its mean; nothing to that of the bias.

    Returns:
        (n + 1, n + 1), float64.
    """
    whole = torch.cat([columns.double(), torch.ones(len(columns), 1, dtype=torch.float64)], 1)
    gram = whole.T @ whole / len(whole)
    inner = gram.diagonal()[:-1]
    inner += damping * inner.mean()
    return gram


def removed_by_surgeon(
    weight: Tensor, bias: Tensor, gram: Tensor, count: int, importance: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Remove weights one by one, each time the one whose removal costs least after the rest of its row is refitted.

    Removing `w_q` of a row costs `s w_q^2 / [G^-1]_qq`, and the others change by `-w_q / [G^-1]_qq G^-1 e_q`: the exact
    increase of the squared error of the row's outputs, and the least-squares fit of what remains.

    Args:
        weight: (rows, n).
        bias: (rows,), which is refitted and never removed.
        gram: (n + 1, n + 1), of `gram_of`.
        count: how many are removed.
        importance: s, what a squared error of each row costs, (rows,); by default 1.

    Returns:
        New weights, zero where removed, and biases.

    Source:
        Hassibi and Stork (1993), eq. 5, with the Hessian of each row's squared error.

    Example:
        >>> columns = torch.tensor([[1.0, 1.0], [2.0, 2.0], [-1.0, -1.0]])  # both carry the same
        >>> weight, bias = removed_by_surgeon(torch.tensor([[3.0, 1.0]]), torch.zeros(1), gram_of(columns, 1e-9), 1)
        >>> [round(value, 3) for value in weight[0].tolist()]
        [4.0, 0.0]
    """
    rows = torch.cat([weight.double(), bias.double()[:, None]], 1)
    inverse = torch.linalg.inv(gram).repeat(len(rows), 1, 1)
    scale = torch.ones(len(rows), 1, dtype=torch.float64) if importance is None else importance.double()[:, None]
    open_ = torch.ones_like(rows, dtype=torch.bool)
    open_[:, -1] = False
    for _ in range(count):
        diagonal = inverse.diagonal(dim1=1, dim2=2)
        costs = torch.where(open_, scale * rows.square() / diagonal.clamp_min(1e-300), torch.inf)
        row, place = divmod(int(costs.argmin()), rows.shape[1])
        column = inverse[row, :, place] / inverse[row, place, place]
        rows[row] -= rows[row, place] * column
        inverse[row] -= torch.outer(column, inverse[row, place])
        open_[row, place] = False
        rows[row, place] = 0.0
    return rows[:, :-1].to(weight), rows[:, -1].to(bias)
