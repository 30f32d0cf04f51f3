"""Derivatives of each sample's loss by the gates."""

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
    """`dL_n/dalpha` at alpha = 1 for each group, shape (samples, K), float64: of a batch's samples, or of one of them,
    as `Gates.passes_per_sample` says; only through the consumers `through`, (group, index), where they are given."""
    rows = batch.rows if sample is None else 1
    found = {group.name: torch.zeros(rows, group.size, dtype=torch.float64) for group in groups}

    def visit(group: Group, index: int, value: Tensor, gradient: Tensor) -> None:
        if group.name in found and (through is None or (group.name, index) in through):
            site, layout = group.consumers[index], gates.layout(batch, group.name, index)
            slope = by_sample((gates.moved(group, index, value) * gradient).double(), site, rows, layout)
            found[group.name] += by_unit(slope, site, group.size).cpu()

    gates.sensitivities(batch, visit, sample)
    return found
