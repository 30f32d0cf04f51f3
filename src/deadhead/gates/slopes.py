"""Derivatives of each sample's loss with respect to the gates."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from deadhead.data.calibration import Batch
from deadhead.gates.gates import Gates
from deadhead.gates.sites import by_sample, by_unit
from deadhead.graph.units.groups import Group


def slopes_by_sample(
    gates: Gates,
    groups: Sequence[Group],
    batch: Batch,
    sample: int | None,
    through: Collection[tuple[str, int]] | None = None,
) -> dict[str, Tensor]:
    """The derivative of each sample's loss with respect to each gate, `dL_n/dalpha` at alpha = 1.

    Args:
        gates: the network and the loss.
        groups: the groups whose gates are meant.
        batch: the data.
        sample: the one sample whose loss is differentiated, as `Gates.passes_per_sample` says; None for all.
        through: the consumers, (group, index), whose derivatives are summed; all where None.

    Returns:
        {group: (samples, K)}, float64, with one row where `sample` is given.
    """
    samples = batch.rows if sample is None else 1
    slopes = {group.name: torch.zeros(samples, group.size, dtype=torch.float64) for group in groups}

    def visit(group: Group, index: int, value: Tensor, gradient: Tensor) -> None:
        if group.name in slopes and (through is None or (group.name, index) in through):
            site, layout = group.consumers[index], gates.layout(batch, group.name, index)
            slope = by_sample((gates.deviation(group, index, value) * gradient).double(), site, samples, layout)
            slopes[group.name] += by_unit(slope, site, group.size).cpu()

    gates.sensitivities(batch, visit, sample)
    return slopes
