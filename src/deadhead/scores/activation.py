"""Statistics of a unit's activation over the data: how it varies, how large it is, how often it is zero."""

from __future__ import annotations

import torch
from torch import Tensor

from deadhead.gates.moments import moments
from deadhead.gates.sites import by_unit
from deadhead.graph.units.groups import Group
from deadhead.progress import track
from deadhead.scores.criterion import Question, criterion


@criterion("activation_std")
def activation_std(question: Question) -> dict[str, Tensor]:
    """Standard deviation of a unit's activation over samples and positions: `sqrt(sum_j var(a_j))` over its columns j.

    Shape (K,). The columns are those at all the unit's consumers; for a unit of one column that is read once it is the
    standard deviation of the activation.

    Source: "Neural Networks, More than you wanted to Show", section 3; "Train first vs prune first in neural networks",
    AI Alignment Forum ("nodes with the smallest standard deviation").
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


@criterion("activation_mean")
def activation_mean(question: Question) -> dict[str, Tensor]:
    """Mean activation of a unit over samples and positions, signed: `sum_j E[a_j]` over its columns j.

    Shape (K,). The columns are those at all the unit's consumers; behind a ReLU it is how strongly a unit fires.

    Source: Evci (2018), section 4.1, activation statistics.
    """
    found = moments(question.gates_without_references(), question.groups, question.batches, question.progress)
    return {
        group.name: sum(
            (
                by_unit(each.mean, site, group.size)
                for site, each in zip(group.consumers, found[group.name], strict=True)
            ),
            torch.zeros(group.size, dtype=torch.float64),
        )
        for group in question.groups
    }


@criterion("zeros")
def zeros(question: Question) -> dict[str, Tensor]:
    """Average percentage of zeros (APoZ), reversed: the share of samples and positions at which a unit is not exactly
    zero.

    Shape (K,), from 0 to 1, counted over all columns of the unit at its consumers: `1 - APoZ`, so that a unit that is
    always zero scores 0 and is removed first.

    Source: Hu et al. (2016).
    """
    counts = {group.name: torch.zeros(2, group.size, dtype=torch.float64) for group in question.groups}

    def look(group: Group, index: int, value: Tensor) -> None:
        if group.name in counts:
            site = group.consumers[index]
            columns = (value != 0).movedim(site.axis, -1).flatten(0, -2)
            fired = by_unit(columns.sum(0, dtype=torch.float64), site, group.size)
            seen = by_unit(torch.full_like(columns[0], len(columns), dtype=torch.float64), site, group.size)
            counts[group.name] += torch.stack([fired, seen]).cpu()

    gates = question.gates_without_references()
    for batch in track(question.progress, "zeros", question.batches):
        gates.observe(batch, look)
    return {name: fired / seen.clamp(min=1) for name, (fired, seen) in counts.items()}
