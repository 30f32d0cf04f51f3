"""The first-order Taylor estimate of the loss without a unit."""

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
    """First-order Taylor expansion: `-dL/dalpha_k`, the linear estimate of the change of the mean loss when a unit is
    removed.

    Signed, shape (K,), in the unit of the loss: negative where the loss is predicted to fall without the unit. The
    derivative by a gate at alpha = 1 is `sum (a - r) dL/da` over samples, positions and consumers.

    Source: Wolfe et al. (2016), equation 3; Molchanov et al. (2017), who take absolute values of each sample.
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
    samples = count(question.batches)
    return {name: value / samples for name, value in total.items()}
