"""Dead and frozen units of the experiment `attack`: which of them stay so, and whether the dead are frozen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from deadhead.lab.experiments.attack.looks import Look
from deadhead.lab.experiments.attack.outcomes import Outcome, mean, nothing
from deadhead.lab.experiments.attack.runs import LAYERS


class Fate(NamedTuple):
    """What is about 0 of one unit of a copy, by the median of the intact layer at the same step.

    Args:
        attacked: whether it is the attacked unit.
        often_off: whether it is a ReLU unit of fc1 without batch norm, many of which are off for most images.
        frozen_at_half: the largest gradient, at half of the time from start to end; None where nothing was measured.
        frozen: the same, at the end.
        dead_at_half: the penalty, at half; None where it was not measured.
        dead: the same, at the end.
        faint: the sum of the gradient's absolute values, at the end.
    """

    attacked: bool
    often_off: bool
    frozen_at_half: bool | None
    frozen: bool
    dead_at_half: bool | None
    dead: bool
    faint: bool


def states(found: Sequence[Outcome], intact: Mapping[str, Sequence[Look]]) -> dict[str, Any]:
    """Shares and counts over the units of all copies and intact networks.

    Args:
        found: attacked copies.
        intact: {network: looks at the intact one}.
    """
    fates = [fate for each in found for fate in _fates(each)]
    fates += [fate for network, looks in intact.items() for fate in _fates_intact(network, looks)]
    frozen = [each for each in fates if each.frozen_at_half]
    dead = [each for each in fates if each.dead]
    dead_at_half = [each for each in fates if each.attacked and each.dead_at_half]
    relu = [look for look in intact.get("relu", ()) if look.step >= 1000 and look.mrp]
    return {
        "frozen_at_half": len(frozen),
        "frozen_stay": mean(each.frozen for each in frozen),
        "frozen_attacked_stay": mean(each.frozen for each in frozen if each.attacked),
        "thawed_in_relu_fc1": mean(each.often_off for each in frozen if not each.frozen),
        "dead_at_half": len(dead_at_half),
        "dead_stay": mean(each.dead for each in dead_at_half),
        "dead_at_end": len(dead),
        "dead_frozen": mean(each.frozen for each in dead),
        "dead_attacked_frozen": mean(each.frozen for each in dead if each.attacked),
        "dead_small_gradient": mean(each.faint for each in dead),
        "dead_in_relu_fc1": mean(each.often_off for each in dead),
        "frozen_not_dead": sum(each.frozen and not each.dead for each in fates),
        "relu_fc1_dead_intact": [int(nothing(look, look, "mrp", "fc1").sum()) for look in relu],
    }


def _fates(each: Outcome) -> Iterator[Fate]:
    half = each.half if each.half >= 0 else None
    for layer in LAYERS:
        attacked = each.run.unit if each.run.layer == layer else None
        yield from _fates_of_layer(each.run.network, layer, attacked, each.looks, each.intact, half)


def _fates_intact(network: str, looks: Sequence[Look]) -> Iterator[Fate]:
    half = min(range(len(looks) - 1), key=lambda i: abs(looks[i].step - looks[-1].step / 2))
    for layer in LAYERS:
        yield from _fates_of_layer(network, layer, None, looks, looks, half)


def _fates_of_layer(
    network: str, layer: str, attacked: int | None, looks: Sequence[Look], intact: Sequence[Look], half: int | None
) -> Iterator[Fate]:
    def is_nothing(name: str, at: int) -> Tensor:
        return nothing(looks[at], intact[at], name, layer)

    frozen, dead, faint = (is_nothing(name, -1) for name in ("largest", "mrp", "output_gradient"))
    before = None if half is None else is_nothing("largest", half)
    dead_before = None if half is None or layer not in looks[half].mrp else is_nothing("mrp", half)
    for unit in range(len(dead)):
        yield Fate(
            unit == attacked, (network, layer) == ("relu", "fc1"),
            None if before is None else bool(before[unit]), bool(frozen[unit]),
            None if dead_before is None else bool(dead_before[unit]), bool(dead[unit]), bool(faint[unit]),
        )  # fmt: skip
