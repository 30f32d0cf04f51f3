"""Magnitude of the weights that make a unit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deadhead.graph.units.groups import Group
from deadhead.scores.criterion import Question, criterion


@criterion("magnitude", needs_data=False)
def magnitude(question: Question) -> dict[str, Tensor]:
    """`sqrt(sum w^2)` over the weights by which the unit is made at its producers, shape (K,).

    Biases and what comes after (batch norm, say) do not count. Source: 003 section 4.1, the L2 norm of a unit.
    """
    squares = {name: tensor.double().square() for name, tensor in question.network.frozen_state().items()}
    return {group.name: over_producers(group, squares).sqrt() for group in question.groups}


def over_producers(group: Group, tensors: Mapping[str, Tensor]) -> Tensor:
    """The sum of what tensors of the parameters' shapes hold for the weights by which each unit is made, shape (K,)."""
    made = {(site.weight, site.weight_axis) for site in group.producers if site.weight is not None}
    total = torch.zeros(group.size, dtype=torch.float64)
    for part in group.slices:
        if (part.parameter, part.axis) in made:
            held = tensors[part.parameter].detach().to("cpu", torch.float64)
            sums = held.movedim(part.axis, 0).flatten(1).sum(1)
            inside = part.units >= 0
            total.index_add_(0, part.units[inside], sums[inside])
    return total
