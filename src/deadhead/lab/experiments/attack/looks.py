"""What the experiment `attack` measures of a network at a step, on validation images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deadhead.data.calibration import read
from deadhead.data.losses import as_loss
from deadhead.data.opened import prepared_network
from deadhead.errors import LossError
from deadhead.training.watching.probe import Probe

PLACES = ("producer", "consumer")
BATCH = 250
"""Images of a pass: fewer cost more, and so do more."""


@dataclass(frozen=True)
class Look:
    """The units of each layer at a step; {layer: (K,)} unless said otherwise.

    Attributes:
        step: after how many steps.
        loss: mean over validation images; NaN where it is not finite, and then nothing is known of units.
        training_loss: mean over the steps since the look before.
        mrp: mean replacement penalty before batch norm, pool and nonlinearity; NaN where it was not measured.
        mrs: its first-order estimate.
        output_gradient: L1 norm of the gradient at the raw output.
        largest: its largest absolute value over images and positions.
        incoming: L1 norm of the weights that make the unit.
        outgoing: L1 norm of the weights that read it.
        width: standard deviation of the raw output.
        values: {layer: {unit: {"producer": raw outputs, "consumer": what the next layer reads}}}, about 1,000 each.
    """

    step: int
    loss: float
    training_loss: float
    mrp: Mapping[str, Tensor]
    mrs: Mapping[str, Tensor]
    output_gradient: Mapping[str, Tensor]
    largest: Mapping[str, Tensor]
    incoming: Mapping[str, Tensor]
    outgoing: Mapping[str, Tensor]
    width: Mapping[str, Tensor]
    values: Mapping[str, Mapping[int, Mapping[str, Tensor]]]


class Looker:
    """Looks at networks of one kind.

    Args:
        network: of this kind; its weights are overwritten.
        inputs: (images, 3, 32, 32).
        targets: (images,).
    """

    def __init__(self, network: nn.Sequential, inputs: Tensor, targets: Tensor) -> None:
        self.network, loss = network.eval(), as_loss("cross_entropy")
        pairs = list(zip(torch.split(inputs, BATCH), torch.split(targets, BATCH), strict=True))
        batches = read(pairs, samples=len(inputs), labels_to_model=loss.labels_to_model)
        traced = prepared_network(self.network, batches)
        self.probe = Probe(traced, batches, loss, traced.groups, "producer")

    def look(
        self,
        network: nn.Sequential,
        step: int,
        training_loss: float,
        penalised: Mapping[str, Sequence[int]],
        kept: Mapping[str, Sequence[int]],
    ) -> Look:
        """Measure.

        Args:
            network: as it is now.
            step: after how many steps.
            training_loss: since the look before.
            penalised: {layer: the units whose penalty is measured}.
            kept: {layer: the units whose values are kept}.
        """
        self.network.load_state_dict(network.state_dict())
        reading = self.probe.read()
        units = reading.units
        if not units:
            return Look(step, torch.nan, training_loss, *[{}] * 8)
        try:
            penalties = self.probe.penalties(reading, penalised)
        except LossError:
            penalties = {}
        return Look(
            step=step,
            loss=float(reading.losses.mean()),
            training_loss=training_loss,
            mrp={name: found[0] for name, found in penalties.items()},
            mrs={name: each.mrs for name, each in units.items()},
            output_gradient={name: each.output_gradient for name, each in units.items()},
            largest={name: each.output_gradient_maximum for name, each in units.items()},
            incoming={name: each.incoming for name, each in units.items()},
            outgoing={name: each.outgoing for name, each in units.items()},
            width={name: each.std["producer"] for name, each in units.items()},
            values={
                name: {unit: {place: _of(each.sampled[place], unit) for place in PLACES} for unit in kept.get(name, ())}
                for name, each in units.items()
            },
        )


def _of(sampled: tuple[Tensor, Tensor], unit: int) -> Tensor:
    values, units = sampled
    return values[units == unit]
