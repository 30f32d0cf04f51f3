"""The oracle: close each unit in turn and look at the loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deadhead.calibration import count
from deadhead.progress import track
from deadhead.scores.criterion import Question, criterion


@criterion("oracle", comparable=True)
def oracle(question: Question) -> dict[str, Tensor]:
    """`L(alpha_k = 0) - L(1)`, L the mean loss, one forward pass for each unit, shape (K,).

    Signed: negative where the network is better without the unit. Source: 002 section 3.1, 003 section 2.1.
    """
    rows = count(question.batches)
    return {name: value / rows for name, value in changes(question, "oracle", lambda change: change).items()}


def changes(question: Question, name: str, measure: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """`sum_n measure(L_n(alpha_k = 0) - L_n(1))` for each unit k of each group, shape (K,)."""
    gates = question.gates()
    total = {group.name: torch.zeros(group.size, dtype=torch.float64) for group in question.groups}
    jobs = [(batch, group) for batch in question.batches for group in question.groups]
    intact = torch.zeros(0)
    last = None
    with torch.no_grad():
        for batch, group in track(question.progress, name, jobs):
            if batch is not last:
                intact, last = gates.loss({}, batch).double(), batch
            for unit in range(group.size):
                alpha = torch.ones(group.size)
                alpha[unit] = 0
                change = gates.loss({group.name: alpha}, batch).double() - intact
                total[group.name][unit] += measure(change).sum().item()
    return total
