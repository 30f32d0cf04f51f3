"""Error surfaces: the loss as a function of the gain of one unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.data.calibration import count
from deadhead.data.opened import opened
from deadhead.errors import DataError
from deadhead.gates.batched import Parts, Stacked
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network
from deadhead.progress import Progress, track

GAINS = 10_001
"""From 0 to 10 by 0.001, as in Wolfe et al. (2016)."""


@torch.inference_mode(False)
def error_surface(
    model_or_network: nn.Module | Network,
    data: Iterable[Any],
    *,
    loss: Any,
    units: Sequence[tuple[str, int]] | None = None,
    gains: Tensor | None = None,
    removed: Sequence[tuple[str, int]] = (),
    samples: int | None = 4096,
    progress: Progress | None = None,
) -> dict[tuple[str, int], Tensor]:
    """Error surfaces: the mean loss `L(alpha_k)` as a function of the gain of one unit, for each of `units`.

    A gain of 1 is the network as it is, 0 without the unit, above 1 with the unit's influence inflated. What lies
    before the unit's consumers is computed once for each batch, and many gains at once are one batch behind it.

    Args:
        model_or_network: a module, traced with the first batch, or a `Network`; it is left as it was.
        data: any iterable of batches, `(inputs, targets)` or the dicts that the model takes.
        loss: a name, a torch.nn loss, or a callable (outputs, batch) to a loss for each sample.
        units: (group, unit) pairs; all units by default.
        gains: (gains,), the values of alpha_k; 0 to 10 by 0.001 by default.
        removed: (group, unit) pairs that are removed already.
        samples: at most so many samples of the data are read; None for all.
        progress: called with (step, done, total).

    Returns:
        {(group, unit): (gains,)}, float64, in the unit of the loss.

    Raises:
        DataError, LossError, TraceError: where there is no such unit, or the loss cannot be computed.

    Source:
        Wolfe et al. (2016), sections 4.2.3 to 4.4.3, error surface of the network output.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> data = [(torch.randn(8, 2), torch.randn(8, 1))]
        >>> found = error_surface(model, data, loss="squared_error", units=[("0", 1)], gains=torch.linspace(0, 10, 11))
        >>> found["0", 1].shape
        torch.Size([11])
    """
    loss_function, batches, network = opened(model_or_network, data, loss, samples)
    gains = torch.arange(GAINS, dtype=torch.float64) / 1000 if gains is None else gains.detach().double().cpu()
    sizes = {group.name: group.size for group in network.groups}
    chosen = [(name, unit) for name, size in sizes.items() for unit in range(size)] if units is None else list(units)
    closed = {name: torch.ones(size) for name, size in sizes.items()}
    for name, unit in (*chosen, *removed):
        if not 0 <= unit < sizes.get(name, 0):
            have = ", ".join(f"{group} ({size})" for group, size in sizes.items())
            raise DataError(f"There is no unit {unit} of {name!r}; the groups, and their sizes, are {have}.")
    for name, unit in removed:
        closed[name][unit] = 0
    state = PrunedState.of(network).closing({name: gate for name, gate in closed.items() if (gate == 0).any()})
    gates = state.gates(loss_function)
    groups = [group for group in network.groups if any(name == group.name for name, _ in chosen)]
    parts, found = Parts(network), {unit: torch.zeros(len(gains), dtype=torch.float64) for unit in chosen}
    jobs = [(batch, unit) for batch in batches for unit in chosen]
    stacked, last = None, None
    for batch, (name, unit) in track(progress, "error surface", jobs):
        if stacked is None or batch is not last:
            stacked, last = Stacked(gates, batch, groups, parts), batch
        alphas = torch.ones(len(gains), sizes[name], dtype=torch.float64)
        alphas[:, unit] = gains
        found[name, unit] += stacked.losses(name, alphas).double().sum(1).cpu()
    return {unit: total / count(batches) for unit, total in found.items()}
