"""How much a unit's activation varies over the data."""

from __future__ import annotations

import torch
from torch import Tensor

from deadhead.gates import by_unit
from deadhead.scores.criterion import Question, criterion
from deadhead.statistics import moments


@criterion("activation_std")
def activation_std(question: Question) -> dict[str, Tensor]:
    """`sqrt(sum_j var(a_j))` over the columns j of the unit at its consumers, shape (K,).

    For a unit of one column read by one consumer it is the standard deviation of the activation over samples and
    positions. Source: 000 section 3, 001 ("nodes with the smallest standard deviation").
    """
    found = moments(question.gates_without_references(), question.groups, question.batches, question.progress)
    result = {}
    for group in question.groups:
        variances = [
            by_unit(each.std.square(), site, group.size)
            for site, each in zip(group.consumers, found[group.name], strict=True)
        ]
        result[group.name] = torch.stack([torch.zeros(group.size, dtype=torch.float64), *variances]).sum(0).sqrt()
    return result
