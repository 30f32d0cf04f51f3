"""How much training adjusted the weights that make a unit."""

from __future__ import annotations

import torch
from torch import Tensor

from deadhead.errors import DataError
from deadhead.scores.criterion import Question, criterion
from deadhead.scores.magnitude import over_producers


@criterion("gradient", needs_data=False)
def gradient(question: Question) -> dict[str, Tensor]:
    """`sum_t sum_w abs(w_t - w_(t-1))` over the steps t of a training run that `watch` recorded and the weights w by
    which the unit is made at its producers, shape (K,): the units that were least adjusted score least.

    Raises `DataError` without `adjustments`, or where they are of another network. Source: 004, gradient-based pruning.
    """
    if question.adjustments is None:
        raise DataError(
            "The criterion gradient needs adjustments=, what was recorded in training: with deadhead.watch(model, "
            "optimizer) as seen: ..., then adjustments=seen.adjustments."
        )
    tensors: dict[str, Tensor] = {}
    for name, tensor in question.network.frozen_state().items():
        recorded = question.adjustments.get(name)
        if recorded is not None and recorded.shape != tensor.shape:
            raise DataError(
                f"The adjustments of {name} have shape {tuple(recorded.shape)}, the network's is "
                f"{tuple(tensor.shape)}; give those of this network's training."
            )
        tensors[name] = torch.zeros_like(tensor) if recorded is None else recorded.detach()
    return {group.name: over_producers(group, tensors) for group in question.groups}
