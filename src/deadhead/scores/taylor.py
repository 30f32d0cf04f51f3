"""The first-order estimate of the loss without a unit."""

from __future__ import annotations

import torch
from torch import Tensor

from deadhead.data.calibration import count
from deadhead.gates.sites import by_unit, columns_sum
from deadhead.graph.units.groups import Group
from deadhead.progress import track
from deadhead.scores.criterion import Question, criterion


@criterion("taylor1", comparable=True, increase=True)
def taylor1(question: Question) -> dict[str, Tensor]:
    """`-dL/dalpha_k` at alpha = 1, L the mean loss: the linear estimate of `L(alpha_k = 0) - L(1)`, shape (K,).

    Signed: negative where the loss is expected to fall without the unit. The derivative by a gate is
    `sum (a - r) dL/da` over samples, positions and consumers. Source: 002 equation 3.
    """
    gates = question.gates()
    total = {group.name: torch.zeros(group.size, dtype=torch.float64) for group in question.groups}

    for batch in track(question.progress, "taylor1", question.batches):

        def visit(group: Group, index: int, value: Tensor, gradient: Tensor) -> None:
            if group.name not in total:
                return
            site, change = group.consumers[index], gates.deviation(group, index, value) * gradient
            total[group.name] -= by_unit(columns_sum(change, site), site, group.size).cpu()

        gates.sensitivities(batch, visit)
    rows = count(question.batches)
    return {name: value / rows for name, value in total.items()}
