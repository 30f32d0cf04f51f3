"""What a compensation changes: new weights, biases and constants, with their fits and what was refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deadhead.graph.network import Network
from deadhead.reconstruction.consumers import Consumer
from deadhead.reconstruction.solve import Fit, fit_blocks
from deadhead.reconstruction.sums import Regression

NOT_READ = "no consumer used it on the calibration data"


@dataclass
class Compensation:
    """New weights and biases for the consumers of removed units, so that the remaining units take over.

    Attributes:
        tensors: new parameters and buffers by name, in the intact network's shapes.
        biases: biases that the network does not have yet, by name.
        constants: the same by the consumer's weight: {weight: (outputs,)}, added to the consumer's output.
        refused: {weight: why it was not compensated}.
        fits: {weight: the refit and its relative errors}.
        scarce: {weight: (samples times positions, columns)} of weights fitted from fewer values than columns.
        blocked: {weight: (columns, blocks)} of weights with too many columns for one matrix.
        divergence: the mean divergence of the outputs on held-out samples from the intact network's, before and after
            `gauss_newton`.
        unrefined: {weight: why gauss_newton did not change it}.
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
    """Refit one consumer by least squares and add its new weight and constant to a compensation.

    Args:
        network: the intact network.
        consumer: the weight that is refitted.
        removed: {group: the units that are removed}.
        known: the sums over the calibration samples to fit to, one for each block; None where nothing was read.
        held_out: the same over the held-out samples, by which the damping is chosen.
        result: the compensation that is changed.
    """
    if known is None or held_out is None:
        result.refused[consumer.weight] = NOT_READ
        return
    state = network.frozen_state()
    weight = state[consumer.weight]
    matrix = consumer.matrix(weight).double()
    columns = consumer.removed_columns(weight, removed)
    refit = fit_blocks(matrix, columns, known, held_out, has_constant=consumer.constant is not None)
    result.fits[consumer.weight] = refit
    largest = max(map(len, consumer.blocks), default=matrix.shape[-1])
    if known[0].count < largest:
        result.scarce[consumer.weight] = (known[0].count, largest)
    if consumer.blocks:
        result.blocked[consumer.weight] = (matrix.shape[-1], len(consumer.blocks))
    result.tensors[consumer.weight] = consumer.weight_of(refit.weights[..., :-1], weight).to(weight.dtype)
    if consumer.constant is not None:
        put_constant(result, consumer, refit.weights[..., -1].flatten(), state)


def put_constant(result: Compensation, consumer: Consumer, constant: Tensor, state: dict[str, Tensor]) -> None:
    """Add a constant to the output of one consumer: to its bias, to the batch norm behind it, or as a new bias.

    Args:
        result: the compensation that is changed; what it has for the consumer so far is added to.
        consumer: the consumer, which has a place for a constant.
        constant: one number for each output, (outputs,).
        state: the intact network's tensors by name.
    """
    place = consumer.constant
    assert place is not None
    if place.kind == "new":
        like = state[consumer.weight]
        before = result.constants.get(consumer.weight, torch.zeros_like(constant))
        result.biases[place.name] = (before.double() + constant).to(like.dtype)
        result.constants[consumer.weight] = result.biases[place.name]
        return
    before = result.tensors.get(place.name, state[place.name])
    change = (constant if place.kind == "add" else -constant).reshape(before.shape)
    result.tensors[place.name] = (before.double() + change).to(before.dtype)


def contribution(consumer: Consumer, weight: Tensor, removed: Mapping[str, Tensor], means: Tensor) -> Tensor:
    """What units give to the outputs of a consumer on average: `sum_{i removed} W[:, i] E[a_i]`, (outputs,), float64.

    Args:
        consumer: the consumer.
        weight: its weight.
        removed: {group: the units}.
        means: the mean of each of its columns, (groups, columns).
    """
    columns = consumer.matrix(weight).double() * consumer.removed_columns(weight, removed)[:, None]
    return torch.einsum("goc,gc->go", columns, means.to(columns)).flatten()
