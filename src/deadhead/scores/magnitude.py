"""Magnitude of the weights that make a unit."""

from __future__ import annotations

import torch
from torch import Tensor

from deadhead.graph.units import Group
from deadhead.scores.criterion import Question, criterion


@criterion("magnitude", needs_data=False)
def magnitude(question: Question) -> dict[str, Tensor]:
    """`sqrt(sum w^2)` over the weights by which the unit is made at its producers, shape (K,).

    Biases and what comes after (batch norm, say) do not count. Source: 003 section 4.1, the L2 norm of a unit.
    """
    state = question.network.frozen_state()
    return {group.name: _norms(group, state) for group in question.groups}


def _norms(group: Group, state: dict[str, Tensor]) -> Tensor:
    weights = {site.weight for site in group.producers if site.weight is not None}
    total = torch.zeros(group.size, dtype=torch.float64)
    for part in group.slices:
        if part.parameter in weights and any(
            site.weight == part.parameter and site.weight_axis == part.axis for site in group.producers
        ):
            tensor = state[part.parameter].detach().to("cpu", torch.float64)
            squares = tensor.square().movedim(part.axis, 0).flatten(1).sum(1)
            inside = part.units >= 0
            total.index_add_(0, part.units[inside], squares[inside])
    return total.sqrt()
