"""Compensation: consumers' weights and biases are changed so that the units that stay do the work of those that go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deadhead.calibration import Batch, Calibration
from deadhead.errors import DataError
from deadhead.gates import Gates
from deadhead.graph.network import Network
from deadhead.graph.units import Group
from deadhead.losses import as_loss
from deadhead.progress import Progress, track
from deadhead.remove.consumers import Consumer, consumers_of
from deadhead.remove.least_squares import Fit, fit
from deadhead.select.plan import Plan
from deadhead.statistics import Regression, patch_means, regression

METHODS = ("least_squares", "mean", "zero")


@dataclass
class Compensation:
    """`state` has the new tensors by name, in the intact network's shapes; `biases` those that are new, with their
    values; `added` the same by the consumer's weight. `left` says which consumers were not compensated, `fits` how
    well the others could be."""

    state: dict[str, Tensor] = field(default_factory=dict)
    biases: dict[str, Tensor] = field(default_factory=dict)
    added: dict[str, Tensor] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    fits: dict[str, Fit] = field(default_factory=dict)

    def full_state(self, network: Network) -> dict[str, Tensor]:
        """The network's state with the new tensors in it, under each name of those that are shared."""
        state = network.frozen_state()
        held = network.state()
        for name, tensor in self.state.items():
            state.update({other: tensor for other, value in held.items() if value is held[name]})
        return state


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
    network, `remove/least_squares.py`, front to back: each consumer reads the activations of the network as it is
    pruned and compensated before it.

    Weights that are used elsewhere too, or by ops other than linear and convolution, are left, and listed in `left`.
    """
    if method not in METHODS:
        raise DataError(f"There is no compensation {method!r}; the methods are {', '.join(METHODS)}.")
    result = Compensation()
    if method == "zero":
        return result
    consumers, result.left = consumers_of(network, groups, plan)
    if method == "mean":
        _by_means(network, consumers, calibration.fit, result, progress)
        return result
    intact = Gates(network, as_loss("mse"))
    for consumer in track(progress, "compensation", consumers):
        gates = Gates(
            network, as_loss("mse"), state=result.full_state(network), added=result.added, closed=plan.alpha(groups)
        )
        known = regression(intact, gates, consumer.weight, consumer.matrix, calibration.fit)
        held_out = regression(intact, gates, consumer.weight, consumer.matrix, calibration.held_out)
        weight = network.frozen_state()[consumer.weight]
        if known is None or held_out is None:
            result.left[consumer.weight] = "its consumer is neither linear nor a convolution"
            continue
        found = _fit(consumer, weight, known, held_out)
        result.fits[consumer.weight] = found
        result.state[consumer.weight] = consumer.weight_of(found.weights[..., :-1], weight).to(weight.dtype)
        if consumer.constant is not None:
            _put_constant(result, consumer, found.weights[..., -1].flatten(), network.frozen_state())
    return result


def _fit(consumer: Consumer, weight: Tensor, known: Regression, held_out: Regression) -> Fit:
    matrix = consumer.matrix(weight).double()
    return fit(matrix, consumer.dead_columns(weight), known, held_out, consumer.constant is not None)


def _by_means(
    network: Network,
    consumers: Sequence[Consumer],
    batches: Sequence[Batch],
    result: Compensation,
    progress: Progress | None,
) -> None:
    gates = Gates(network, as_loss("mse"))
    means = patch_means(gates, [consumer.weight for consumer in consumers], batches, progress)
    state = network.frozen_state()
    for consumer in consumers:
        if consumer.weight not in means:
            result.left[consumer.weight] = "its consumer is neither linear nor a convolution"
        elif consumer.constant is None:
            result.left[consumer.weight] = "it has no bias that could carry the constant"
        else:
            weight = state[consumer.weight]
            gone = consumer.matrix(weight).double() * consumer.dead_columns(weight)[:, None]
            constant = torch.einsum("goc,gc->go", gone, means[consumer.weight].to(gone)).flatten()
            _put_constant(result, consumer, constant, state)


def _put_constant(result: Compensation, consumer: Consumer, constant: Tensor, state: dict[str, Tensor]) -> None:
    place = consumer.constant
    assert place is not None
    if place.kind == "new":
        like = state[consumer.weight]
        result.biases[place.name] = constant.to(like.dtype)
        result.added[consumer.weight] = constant.to(like.dtype)
        return
    have = result.state.get(place.name, state[place.name])
    change = constant if place.kind == "add" else -constant
    result.state[place.name] = (have.double() + change).to(have.dtype)
