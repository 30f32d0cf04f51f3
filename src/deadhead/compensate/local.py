"""Compensation: consumers' weights and biases are changed so that the units that stay do the work of those that go."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from deadhead.data.calibration import Batch, Calibration
from deadhead.data.losses import as_loss
from deadhead.errors import DataError
from deadhead.gates.gates import Gates
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from deadhead.progress import Progress, track
from deadhead.reconstruction.compensation import NOT_READ, Compensation, put, put_constant
from deadhead.reconstruction.consumers import Consumer, consumers_of
from deadhead.reconstruction.sums import grams, of_itself, patch_means, regressions
from deadhead.select.plan import Plan

LOCAL = ("least_squares", "least_squares_one_pass", "mean", "zero")
"""Methods that look at one consumer after the other."""


def compensate(
    network: Network,
    groups: Sequence[Group],
    plan: Plan,
    calibration: Calibration,
    method: str = "least_squares",
    progress: Progress | None = None,
) -> Compensation:
    """New weights and biases for the consumers of what the plan removes.

    `zero` changes nothing. `mean` adds what the removed units give on average to the bias:
    `b' = b + sum_{i removed} W[:, i] E[a_i]` (003 eq. 1.5-1.6, 000 section 3); for a convolution the mean of each tap
    counts its zero padding. `least_squares` fits the kept columns and the bias to what the consumer gave in the intact
    network, `reconstruction/solve.py`, front to back: each consumer reads the activations of the network as it is
    pruned and compensated before it. `least_squares_one_pass` reads those of the intact network instead, for all
    consumers in one pass over the data: cheaper, and not as good.

    Consumers are convolutions, transposed ones too, and products of two tensors (linear, matmul, einsum). Weights that
    are used elsewhere too, or by other ops, are left, and listed in `left`. Consumers with more columns than
    `blocks.MOST_COLUMNS` are fitted in blocks (`least_squares.fit_blocks`), and listed in `blocked`.
    """
    if method not in LOCAL:
        raise DataError(f"There is no compensation {method!r}; the methods are {', '.join(LOCAL)}.")
    result = Compensation()
    if method == "zero":
        return result
    consumers, result.left = consumers_of(network, [group for group in groups if group.name in plan.removed])
    if method == "mean":
        _by_means(network, consumers, plan, calibration.fit, result, progress)
        return result
    intact = Gates(network, as_loss("mse"))
    if method == "least_squares_one_pass":
        _one_pass(network, intact, consumers, plan, calibration, result, progress)
        return result
    for consumer in track(progress, "compensation", consumers):
        gates = Gates(
            network, as_loss("mse"), state=result.full_state(network), added=result.added, closed=plan.alpha(groups)
        )
        matrix = {consumer.weight: consumer.matrix(intact.state[consumer.weight])}
        known, held_out = (
            regressions(intact, gates, matrix, part, {consumer.weight: consumer.blocks}).get(consumer.weight)
            for part in (calibration.fit, calibration.held_out)
        )
        put(network, consumer, plan.removed, known, held_out, result)
    return result


def _one_pass(
    network: Network,
    intact: Gates,
    consumers: Sequence[Consumer],
    plan: Plan,
    calibration: Calibration,
    result: Compensation,
    progress: Progress | None,
) -> None:
    """All consumers from the intact network's activations, read in one pass over the data."""
    names = [consumer.weight for consumer in consumers]
    blocks = {consumer.weight: consumer.blocks for consumer in consumers}
    known, held_out = (grams(intact, names, part, progress, blocks) for part in (calibration.fit, calibration.held_out))
    for consumer in consumers:
        weight = consumer.matrix(intact.state[consumer.weight]).double()
        parts = [of_itself(found.get(consumer.weight), weight) for found in (known, held_out)]
        put(network, consumer, plan.removed, parts[0], parts[1], result)


def _by_means(
    network: Network,
    consumers: Sequence[Consumer],
    plan: Plan,
    batches: Sequence[Batch],
    result: Compensation,
    progress: Progress | None,
) -> None:
    gates = Gates(network, as_loss("mse"))
    means = patch_means(gates, [consumer.weight for consumer in consumers], batches, progress)
    state = network.frozen_state()
    for consumer in consumers:
        if consumer.weight not in means:
            result.left[consumer.weight] = NOT_READ
        elif consumer.constant is None:
            result.left[consumer.weight] = "it has no bias that could carry the constant"
        else:
            weight = state[consumer.weight]
            gone = consumer.matrix(weight).double() * consumer.dead_columns(weight, plan.removed)[:, None]
            constant = torch.einsum("goc,gc->go", gone, means[consumer.weight].to(gone)).flatten()
            put_constant(result, consumer, constant, state)
