"""The oracle: close each unit in turn and measure the loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deadhead.data.calibration import count
from deadhead.gates.batched import Parts, Stacked
from deadhead.progress import track
from deadhead.scores.criterion import Question, criterion


@criterion("oracle", comparable=True, increase=True)
def oracle(question: Question) -> dict[str, Tensor]:
    """Oracle (ablation): the exact change of the mean loss when a unit is removed, `L(alpha_k = 0) - L(1)`.

    Signed, shape (K,), in the unit of the loss: negative where the network is better without the unit. It takes one
    forward pass for each unit, from the unit's consumers on.

    Source: Wolfe et al. (2016), section 3.1; Evci (2018), section 2.1.
    """
    samples = count(question.batches)
    return {name: value / samples for name, value in changes(question, "oracle", lambda change: change).items()}


def changes(question: Question, name: str, measure: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The change of each sample's loss when a unit is closed, summed over samples.

    `sum_n measure(L_n(alpha_k = 0) - L_n(1))` for each unit k.

    Args:
        question: the network, its groups, the data and the loss.
        name: of the criterion, for progress.
        measure: what is taken of each sample's change, elementwise, such as `torch.abs`.

    Returns:
        {group: (K,)}, float64, in the unit of the loss.
    """
    gates, parts = question.gates(), Parts(question.network)
    total = {group.name: torch.zeros(group.size, dtype=torch.float64) for group in question.groups}
    jobs = [(batch, group) for batch in question.batches for group in question.groups]
    stacked, last = None, None
    for batch, group in track(question.progress, name, jobs):
        if stacked is None or batch is not last:
            stacked, last = Stacked(gates, batch, question.groups, parts), batch
        losses = stacked.closing(group.name, range(group.size)).double()
        total[group.name] += measure(losses - stacked.intact.double()).sum(1).cpu()
    return total
