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
    """`state` has the new tensors by name, in the intact network's shapes; `biases` those that are new, with their
    values; `added` the same by the consumer's weight. `left` says which consumers were not compensated, `fits` how
    well the others could be, `scarce` which of them had fewer rows and positions than columns: (rows, columns),
    `blocked` which were fitted in blocks, for they have too many columns for one matrix: (columns, blocks).
    `divergence` is how far the outputs on held-out rows were from the intact network's, before and after
    `gauss_newton`; `unrefined` says which weights it left, and why."""

    state: dict[str, Tensor] = field(default_factory=dict)
    biases: dict[str, Tensor] = field(default_factory=dict)
    added: dict[str, Tensor] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    fits: dict[str, Fit] = field(default_factory=dict)
    scarce: dict[str, tuple[int, int]] = field(default_factory=dict)
    blocked: dict[str, tuple[int, int]] = field(default_factory=dict)
    divergence: tuple[float, float] | None = None
    unrefined: dict[str, str] = field(default_factory=dict)

    def full_state(self, network: Network) -> dict[str, Tensor]:
        """The network's state with the new tensors in it, under each name of those that are shared."""
        state = network.frozen_state()
        held = network.state()
        for name, tensor in self.state.items():
            state.update({other: tensor for other, value in held.items() if value is held[name]})
        return state


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
        result.left[consumer.weight] = NOT_READ
        return
    state = network.frozen_state()
    weight = state[consumer.weight]
    matrix = consumer.matrix(weight).double()
    found = fit_blocks(matrix, consumer.dead_columns(weight, removed), known, held_out, consumer.constant is not None)
    result.fits[consumer.weight] = found
    most = max(map(len, consumer.blocks), default=matrix.shape[-1])
    if known[0].count < most:
        result.scarce[consumer.weight] = (known[0].count, most)
    if consumer.blocks:
        result.blocked[consumer.weight] = (matrix.shape[-1], len(consumer.blocks))
    result.state[consumer.weight] = consumer.weight_of(found.weights[..., :-1], weight).to(weight.dtype)
    if consumer.constant is not None:
        put_constant(result, consumer, found.weights[..., -1].flatten(), state)


def put_constant(result: Compensation, consumer: Consumer, constant: Tensor, state: dict[str, Tensor]) -> None:
    place = consumer.constant
    assert place is not None
    if place.kind == "new":
        like = state[consumer.weight]
        have = result.added.get(consumer.weight, torch.zeros_like(constant))
        result.biases[place.name] = (have.double() + constant).to(like.dtype)
        result.added[consumer.weight] = result.biases[place.name]
        return
    have = result.state.get(place.name, state[place.name])
    change = (constant if place.kind == "add" else -constant).reshape(have.shape)
    result.state[place.name] = (have.double() + change).to(have.dtype)
