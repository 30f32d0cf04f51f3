"""What a compensation changes: new weights, biases and constants, and what it has to say about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deadhead.graph.network import Network
from deadhead.reconstruction.consumers import Consumer
from deadhead.reconstruction.solve import Fit, fit_blocks
from deadhead.reconstruction.sums import Regression

NOT_READ = "nothing was read with it on the calibration data"


@dataclass
class Compensation:
    """What the consumers of removed units are given, so that those that remain take over.

    Attributes:
        tensors: new parameters and buffers by name, in the intact network's shapes.
        biases: those that the network does not have yet, by name.
        constants: the same by the consumer's weight: what is added to what it gives.
        refused: {weight: why it was not compensated}.
        fits: how well the remaining columns could take over, by weight.
        scarce: {weight: (samples and positions, columns)} of those fitted from fewer than they have columns.
        blocked: {weight: (columns, blocks)} of those with too many columns for one matrix.
        divergence: how far the outputs on held-out samples were from the intact network's, before and after
            `gauss_newton`.
        unrefined: {weight: why gauss_newton did not move it}.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    biases: dict[str, Tensor] = field(default_factory=dict)
    constants: dict[str, Tensor] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    fits: dict[str, Fit] = field(default_factory=dict)
    scarce: dict[str, tuple[int, int]] = field(default_factory=dict)
    blocked: dict[str, tuple[int, int]] = field(default_factory=dict)
    divergence: tuple[float, float] | None = None
    unrefined: dict[str, str] = field(default_factory=dict)


def put(
    network: Network,
    consumer: Consumer,
    removed: Mapping[str, Tensor],
    known: Sequence[Regression] | None,
    held_out: Sequence[Regression] | None,
    result: Compensation,
) -> None:
    """Fit one consumer and put its new weight and constant into the result."""
    if known is None or held_out is None:
        result.refused[consumer.weight] = NOT_READ
        return
    state = network.frozen_state()
    weight = state[consumer.weight]
    matrix = consumer.matrix(weight).double()
    found = fit_blocks(
        matrix, consumer.removed_columns(weight, removed), known, held_out, consumer.constant is not None
    )
    result.fits[consumer.weight] = found
    most = max(map(len, consumer.blocks), default=matrix.shape[-1])
    if known[0].count < most:
        result.scarce[consumer.weight] = (known[0].count, most)
    if consumer.blocks:
        result.blocked[consumer.weight] = (matrix.shape[-1], len(consumer.blocks))
    result.tensors[consumer.weight] = consumer.weight_of(found.weights[..., :-1], weight).to(weight.dtype)
    if consumer.constant is not None:
        put_constant(result, consumer, found.weights[..., -1].flatten(), state)


def put_constant(result: Compensation, consumer: Consumer, constant: Tensor, state: dict[str, Tensor]) -> None:
    place = consumer.constant
    assert place is not None
    if place.kind == "new":
        like = state[consumer.weight]
        have = result.constants.get(consumer.weight, torch.zeros_like(constant))
        result.biases[place.name] = (have.double() + constant).to(like.dtype)
        result.constants[consumer.weight] = result.biases[place.name]
        return
    have = result.tensors.get(place.name, state[place.name])
    change = (constant if place.kind == "add" else -constant).reshape(have.shape)
    result.tensors[place.name] = (have.double() + change).to(have.dtype)
