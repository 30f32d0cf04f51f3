"""What every question about a network starts with: its loss, the data, the traced network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from deadhead.data.calibration import Batch, read
from deadhead.data.losses import Loss, as_loss
from deadhead.errors import DataError
from deadhead.graph.network import Network, trace


def as_network(model: nn.Module | Network, batches: Sequence[Batch], width: bool = False) -> Network:
    """A network from a module, traced with the first batch, or the network itself; ready to replay that batch."""
    network = model if isinstance(model, Network) else trace(model, batches[0].inputs, width=width)
    if width and not network.width:
        raise DataError("width=True needs a network that was traced so: deadhead.trace(model, inputs, width=True).")
    network.traced(network.flatten(batches[0].inputs))
    return network


def opened(
    model_or_network: nn.Module | Network, data: Iterable[Any], loss: Any, samples: int | None
) -> tuple[Loss, list[Batch], Network]:
    """What every question about a network starts with: the loss, up to `samples` rows of the data, the network."""
    asked = as_loss(loss)
    axis = model_or_network.batch_axis if isinstance(model_or_network, Network) else 0
    batches = read(data, samples=samples, labels_to_model=asked.labels_to_model, batch_axis=axis)
    return asked, batches, as_network(model_or_network, batches)
