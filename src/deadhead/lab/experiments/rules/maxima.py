"""Two ways to compute a maximum that share its relevance differently: a soft maximum's limit, and a + relu(b - a)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from deadhead.graph.network import trace
from deadhead.relevance import attribute

GAP = 0.05
"""Where candidates, those of the baseline or the larger of both are nearer than this, the limit is not compared."""


class Largest(nn.Module):
    """The larger of two inputs, (samples, 2) to (samples,)."""

    def forward(self, x: Tensor) -> Tensor:
        """The maximum over the last axis."""
        return x.amax(1)


def maxima(pairs: int, softness: float) -> dict[str, Any]:
    """How relevance of random pairs is shared by the soft maximum, by its limit, and by a + relu(b - a).

    Args:
        pairs: how many, with as many baselines, drawn from PyTorch's generator.
        softness: eps of `eps log sum exp(x / eps)`.

    Returns:
        Largest differences, the share of pairs that the limit and a + relu(b - a) treat differently, and some pairs.

    Source: "Visualizing Neural networks, how to blame the bias", AI Alignment Forum, "Solution 2: Compare to baseline".
    """
    x, base = torch.randn(2, pairs, 2, dtype=torch.float64)
    network = trace(Largest(), x[:2])
    limit, fold = (attribute(network, x, None, "baseline", baseline=base, maximum=m).inputs for m in ("soft", "fold"))
    soft = soft_shares(x, base, softness)
    apart = torch.stack([(each[:, 0] - each[:, 1]).abs() > GAP for each in (x, base, torch.maximum(x, base))]).all(0)
    differ = (limit - fold).abs().amax(1)
    return {
        "soft_limit_error": float((soft - limit).abs().amax(1)[apart].max()),
        "fold_difference": float(differ.max()),
        "fold_differs_share": float((differ > 1e-6).double().mean()),
    }


def soft_shares(x: Tensor, base: Tensor, softness: float) -> Tensor:
    """Relevance of a soft maximum's operands, of its difference to a baseline, by the Rescale rule for exp and log.

    Exponentials are shifted by the largest value of both, which changes nothing: `eps log` has the slope
    `(m - m_base) / (S - S_base)`, `exp` the slope `(exp(x / eps) - exp(x_base / eps)) / (x - x_base)`.

    Args:
        x: (pairs, candidates).
        base: likewise.
        softness: eps.

    >>> soft_shares(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]]), 1e-3)
    tensor([[0.9993, 0.0000]])
    """
    top = torch.maximum(x, base).amax(1, keepdim=True)
    over, under = ((each - top).div(softness).exp() for each in (x, base))
    rise = softness * ((x / softness).logsumexp(1) - (base / softness).logsumexp(1))
    return (over - under) * (rise / (over.sum(1) - under.sum(1)))[:, None]
