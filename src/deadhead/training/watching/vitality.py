"""Dead and frozen units by their definitions, and why a unit is dead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deadhead.errors import DataError
from deadhead.training.watching.probe import Reading, UnitValues

NEGLIGIBLE = 1e-3
"""Below this fraction of what is typical of its layer, a number counts as 0.

With it, all dead units of a layer of up to 1,000 units change the loss of a sample by less than a single typical unit
of that layer does, to first order. Rounding in float32 (1e-7 of what is typical) lies far below it.
"""
TYPICAL = 0.75
"""Typical of a layer is this quantile over its units: one unit that is far larger than the others, after an attack on
it say, does not move it, and it is a living unit's as long as less than three quarters of the layer are dead."""
ROUNDING = 16
"""A change of the loss of at most so many times the resolution of the largest loss is rounding."""

COARSE = 1e-4
"""Where the losses resolve no finer relative changes than this (half precision), differences of them are rounding."""

CONSTANT = "constant output"
FLAT = "flat region of the activation"
UNREAD = "outgoing weights are zero"
SMALL = "small output and small outgoing weights"
"""None of the three situations of the definition alone: a small variance together with small outgoing weights."""


@dataclass(frozen=True)
class Thresholds:
    """What counts as about 0 in one layer at one step.

    Attributes:
        dead: a unit is dead where every term of its mean replacement penalty is at most this, in the unit of the loss.
        frozen: a unit is frozen where `abs(dL_n/dh)` is at most this at every sample and position.
        by: what the terms were: "mrp", or "mrs" where the penalty was not measured at this step and its first-order
            estimate stands for it, or "mrp and mrs" where it was measured for some of the units.
    """

    dead: float
    frozen: float
    by: str


@dataclass(frozen=True)
class Vitality:
    """The dead and the frozen units of one group.

    Attributes:
        dead: the dead units.
        frozen: the frozen units.
        causes: {dead unit: its cause}.
        thresholds: what counted as about 0.
    """

    dead: list[int]
    frozen: list[int]
    causes: dict[int, str]
    thresholds: Thresholds


def check_fractions(dead_below: float, frozen_below: float) -> None:
    """Raise `DataError` where a threshold is no fraction from 0 up to 1."""
    for name, value in (("dead_below", dead_below), ("frozen_below", frozen_below)):
        if not 0 <= value < 1:
            raise DataError(
                f"{name}={value} is a fraction of what is typical of the layer, from 0 up to 1; the default is "
                f"{NEGLIGIBLE}."
            )


def typical(values: Tensor) -> float:
    """What is typical of a layer: the upper quartile over its units; 0 where no value is finite.

    Args:
        values: a number for each unit, (K,), at least 0.

    Example:
        >>> typical(torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 500.0]))
        1.0
    """
    held = values.numpy(force=True).astype(np.float64)
    ordered = np.sort(held[np.isfinite(held)])  # by hand: quantiles of few numbers take ten times as long
    if not len(ordered):
        return 0.0
    place = TYPICAL * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))


def vitality(
    reading: Reading,
    name: str,
    site: str,
    penalty: Tensor | None = None,
    dead_below: float = NEGLIGIBLE,
    frozen_below: float = NEGLIGIBLE,
) -> Vitality:
    """Dead and frozen units of a group.

    A unit is frozen where `dL_n/dh_k` is about 0 at every sample n and position, and dead where every term of its mean
    replacement penalty, `abs(L_n(unit at its mean) - L_n)`, is about 0. About 0 is at most `frozen_below`
    (`dead_below`) times what is typical of the layer, the upper quartile of the units' maximum terms; for terms that
    were measured as differences of losses, rounding counts as 0 too.

    Where the penalty was not measured, or losses are in half precision, its first-order terms stand for it. They are 0
    as well for a unit that switches between two flat regions, and such a unit is frozen but not dead: so they count
    where the same terms behind the nonlinearity, at the consumers, are about 0 too. And they are 0 for every unit where
    the loss is at its minimum on all samples: where they are 0 for most of a layer, a unit is dead if one of the three
    situations of `causes` holds.

    Args:
        reading: one pass over the probe.
        name: the group.
        site: where a unit is replaced by its mean, "producer" or "consumer".
        penalty: the maximum term of each unit's penalty, (K,), NaN where it was not measured.
        dead_below: fraction of what is typical of the layer.
        frozen_below: fraction of what is typical of the layer.

    Source:
        Evci (2018), definitions 3.2.1 and 3.2.2; the text sets no thresholds and says that they depend on the layer.
    """
    if reading.resolution > COARSE:
        penalty = None
    units = reading.units[name]
    estimate = units.mrs_maximum[site]
    measured = torch.zeros(len(estimate), dtype=torch.bool) if penalty is None else ~penalty.isnan()
    terms = estimate if penalty is None else torch.where(measured, penalty, estimate)
    rounding = ROUNDING * reading.resolution * float(reading.losses.abs().max())
    limit = dead_below * typical(terms)
    if measured.any():
        limit = max(limit, rounding)
    dead = terms <= limit
    for place in units.mrs_maximum:
        there = units.mrs_maximum[place]
        dead &= measured | (there <= dead_below * typical(there))
    gradients = units.output_gradient_maximum
    frozen_at = frozen_below * typical(gradients)
    found = [int(unit) for unit in dead.nonzero()[:, 0]]
    why = causes(units, found, dead_below)
    if not measured.any() and typical(terms) == 0:
        found = [unit for unit in found if why[unit] != SMALL]
    by = "mrp" if measured.all() else "mrs" if not measured.any() else "mrp and mrs"
    return Vitality(
        found,
        [int(unit) for unit in (gradients <= frozen_at).nonzero()[:, 0]],
        {unit: why[unit] for unit in found},
        Thresholds(limit, frozen_at, by),
    )


def causes(units: UnitValues, dead: list[int], below: float = NEGLIGIBLE) -> dict[int, str]:
    """Which of the three situations of section 3.2 makes each dead unit so, the first that holds.

    1. Its raw output is constant: its standard deviation is at most `below` times what is typical of the layer.
    2. Its raw output varies, and what its consumers read is constant by the same measure: all of it lies in a flat
       region of the activation.
    3. The L1 norm of its outgoing weights is at most `below` times what is typical of the layer.

    Args:
        units: what a pass over the probe showed of the group.
        dead: its dead units.
        below: fraction of what is typical of the layer.

    Source:
        Evci (2018), section 3.2.
    """

    def negligible(values: Tensor) -> Tensor:
        return values <= below * typical(values)

    constant, flat = (negligible(units.std[place]) for place in ("producer", "consumer"))
    unread = negligible(units.outgoing) if units.weighted else torch.zeros_like(constant)
    found: Mapping[str, Tensor] = {CONSTANT: constant, FLAT: flat, UNREAD: unread}
    return {unit: next((cause for cause, holds in found.items() if bool(holds[unit])), SMALL) for unit in dead}
