"""What every question about a network starts with: its loss, the data, the traced network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from deadhead.data.calibration import Batch, read
from deadhead.data.losses import Loss, as_loss
from deadhead.errors import DataError
from deadhead.graph.network import Network, trace


def prepared_network(model_or_network: nn.Module | Network, batches: Sequence[Batch], width: bool = False) -> Network:
    """The network of a module, traced with the first batch, or the one given; in both cases after
    `Network.prepare` for the first batch, so that its groups are those that can be gated.

    Args:
        model_or_network: a module, or a network that was traced before.
        batches: the data; the first batch is what the module is traced with.
        width: whether units of residual streams may be pruned; a network that is given must have been traced so.

    Raises:
        TraceError: where the module cannot be traced.
        DataError: where a network is given that was traced without `width`.
    """
    inputs = batches[0].inputs
    if isinstance(model_or_network, Network):
        network = model_or_network
    else:
        network = trace(model_or_network, inputs, width=width)
    if width and not network.width:
        raise DataError(
            "width=True needs a network that was traced with it, and this one was not: give the module, or "
            "deadhead.trace(model, inputs, width=True)."
        )
    return network.prepare(inputs)


def opened(
    model_or_network: nn.Module | Network, data: Iterable[Any], loss: Any, samples: int | None
) -> tuple[Loss, list[Batch], Network]:
    """The loss, the batches and the prepared network that a question about a network starts with.

    Args:
        model_or_network: a module, or a network that was traced before.
        data: any iterable of batches; read once.
        loss: a name, a torch.nn loss, or a callable (outputs, batch) to a loss per sample.
        samples: at most so many samples of `data` are read; None reads all.
    """
    asked = as_loss(loss)
    axis = model_or_network.batch_axis if isinstance(model_or_network, Network) else 0
    batches = read(data, samples=samples, labels_to_model=asked.labels_to_model, batch_axis=axis)
    return asked, batches, prepared_network(model_or_network, batches)
