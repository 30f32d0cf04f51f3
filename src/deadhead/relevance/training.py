"""Relevance in a training loss: how much of it lies outside of the region that should decide."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from deadhead.errors import RelevanceError
from deadhead.graph.network import Network
from deadhead.graph.pytree import take
from deadhead.relevance.attribute import attribute
from deadhead.relevance.composite import Composite
from deadhead.relevance.samples import by_sample
from deadhead.relevance.signals import quotient
from deadhead.relevance.target import Target


def relevance_loss(
    model: nn.Module | Network,
    inputs: Any,
    target: Target,
    region: Any,
    *,
    method: str | Composite = "blame_bias",
    biases: bool = False,
    reduction: Literal["mean", "none"] = "mean",
    **options: Any,
) -> Tensor:
    """The share of relevance outside of a marked region, as a training loss: `sum_{i outside} |R_i| / sum_i |R_i|`.

    Differentiable by every parameter, so that `loss + weight * relevance_loss(...)` trains a network to decide by what
    lies inside the region. A low loss is no proof: a network can learn to please the measure, so judge it by data whose
    background was swapped. Explaining one logit leaves it to the others to look outside: a `target` that is the margin
    between classes closes that way.

    Args:
        model: a module, or `dh.trace(model, inputs)` to trace once: it follows the parameters as they change. Explained
            in evaluation mode, where batch norm uses its running statistics.
        inputs: what the model is called with.
        target: the output that is explained, as for `attribute`.
        region: a mask over the inputs, true or 1 inside, in their shape or without channels; fractions count in part.
        method: the attribution method (default "blame_bias").
        biases: whether the relevance of biases counts as outside, where a network could hide what it decides by
            (default False).
        reduction: "mean" over samples (default), or "none" for one number for each.
        options: the method's options.

    Returns:
        A number between 0 and 1, or with `reduction="none"` shape (samples,); 0 for a sample without any relevance.

    Raises:
        RelevanceError: for a region of another shape, another reduction, and what `attribute` raises.

    Source: "Visualizing Neural networks, how to blame the bias", AI Alignment Forum, "What I was hoping for regarding
    alignment".

    >>> import deadhead as dh
    >>> model = nn.Linear(2, 1)
    >>> _ = nn.init.constant_(model.weight, 2.0), nn.init.constant_(model.bias, 1.0)
    >>> x = torch.tensor([[3.0, 1.0]])
    >>> loss = relevance_loss(model, x, 0, region=torch.tensor([[True, False]]))
    >>> float(loss)
    0.25
    >>> loss.backward()
    >>> model.weight.grad
    tensor([[-0.0938,  0.0938]])
    """
    if reduction not in ("mean", "none"):
        raise RelevanceError(f"reduction={reduction!r} is not a choice; it is 'mean' or 'none'.")
    found = attribute(model, inputs, target, method, **options)
    axis, own = found.batch_axis, take(found.inputs)[0]
    masks = _masks(region, own, axis)
    outside = total = torch.zeros_like(found.output)
    for relevance, mask in zip(own, masks, strict=True):
        if relevance.dim() <= axis or relevance.shape[axis] != len(found.output):
            continue
        size = relevance.abs().movedim(axis, 0)
        total = total + by_sample(size)
        outside = outside + by_sample(size * (1 - mask.to(size).movedim(axis, 0)))
    if biases:
        for each in found.biases.values():
            total, outside = total + by_sample(each.abs()), outside + by_sample(each.abs())
    share = quotient(outside, total)
    return share.mean() if reduction == "mean" else share


def _masks(region: Any, relevance: list[Tensor], axis: int) -> list[Tensor]:
    """A mask in the shape of each tensor of the inputs."""
    masks = take(region)[0]
    if len(masks) != len(relevance):
        raise RelevanceError(
            f"The region has {len(masks)} tensors, the inputs have {len(relevance)}; give a mask for each."
        )
    return [_laid(mask, own, axis) for mask, own in zip(masks, relevance, strict=True)]


def _laid(mask: Tensor, own: Tensor, axis: int) -> Tensor:
    if mask.shape == own.shape:
        return mask
    if mask.dim() == own.dim() - 1:
        mask = mask.unsqueeze(axis + 1)  # the channels
    if mask.dim() != own.dim() or any(m not in (1, o) for m, o in zip(mask.shape, own.shape, strict=True)):
        raise RelevanceError(
            f"The region has shape {tuple(mask.shape)}, the inputs {tuple(own.shape)}; it needs that shape, or that "
            "without channels."
        )
    return mask.expand_as(own)
