"""Scores by the weights that make a unit: their magnitude, and how much training changed them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deadhead.errors import DataError
from deadhead.graph.units.groups import Group
from deadhead.scores.criterion import Question, criterion


@criterion("magnitude", needs_data=False)
def magnitude(question: Question, *, norm: float = 2.0) -> dict[str, Tensor]:
    """Weight magnitude: the norm of the weights that make a unit at its producers, `(sum abs(w)^p)^(1/p)`.

    Shape (K,). The weights are those of the network as it is pruned and compensated so far, without what read removed
    units. Biases and what comes after (batch norm, say) do not count.

    Args:
        question: the network and its groups.
        norm: p: 2 (default) for the L2 norm, 1 for the L1 norm.

    Raises:
        DataError: p is not positive.

    Source: Evci (2018), section 4.1 and table 4.1.
    """
    if not norm > 0:
        raise DataError(f"norm={norm} is out of range: it is a positive number, 2 for the L2 norm.")
    powers = {name: tensor.double().abs().pow(norm) for name, tensor in question.state.remaining().items()}
    return {group.name: over_producers(group, powers).pow(1 / norm) for group in question.groups}


def over_producers(group: Group, tensors: Mapping[str, Tensor]) -> Tensor:
    """Sum tensors of the parameters' shapes over the weights that make each unit.

    Args:
        group: K units.
        tensors: {parameter: its shape}, such as squared weights.

    Returns:
        (K,), float64 on the CPU.
    """
    made = {(site.weight, site.weight_axis) for site in group.producers if site.weight is not None}
    total = torch.zeros(group.size, dtype=torch.float64)
    for part in group.slices:
        if (part.parameter, part.axis) in made:
            held = tensors[part.parameter].detach().to("cpu", torch.float64)
            sums = held.movedim(part.axis, 0).flatten(1).sum(1)
            inside = part.units >= 0
            total.index_add_(0, part.units[inside], sums[inside])
    return total


@criterion("gradient", needs_data=False)
def gradient(question: Question, *, adjustments: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Gradient-based pruning: how much training changed the weights that make a unit, `sum_t sum_w abs(w_t - w_(t-1))`.

    Shape (K,), summed over training steps t and the weights w that make the unit at its producers.

    Args:
        question: the network and its groups.
        adjustments: what `deadhead.watch` recorded over the steps of a training run, {parameter: its shape}.

    Raises:
        DataError: without `adjustments`, or where they are of another network.

    Source: "Pruning in Neural Networks: Purpose and Concept", gradient-based pruning.
    """
    if adjustments is None:
        raise DataError(
            "The criterion gradient needs adjustments=, what was recorded in training: with deadhead.watch(model, "
            "optimizer) as seen: ..., then adjustments=seen.adjustments."
        )
    tensors: dict[str, Tensor] = {}
    for name, tensor in question.network.frozen_state().items():
        recorded = adjustments.get(name)
        if recorded is not None and recorded.shape != tensor.shape:
            raise DataError(
                f"The adjustments of {name} have shape {tuple(recorded.shape)}, the network's is "
                f"{tuple(tensor.shape)}; give those of this network's training."
            )
        tensors[name] = torch.zeros_like(tensor) if recorded is None else recorded.detach()
    return {group.name: over_producers(group, tensors) for group in question.groups}
