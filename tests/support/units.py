"""Units as sets of (parameter, axis, index), to compare groups with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

import deadhead as dh
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group

Entry = tuple[str, int, int]
Unit = frozenset[Entry]


def of(*parts: tuple[str, int, int | Iterable[int]]) -> Unit:
    """A unit from (tensor, axis, index or indices)."""
    return frozenset(
        (name, axis, index) for name, axis, where in parts for index in ([where] if isinstance(where, int) else where)
    )


def each(count: int, unit: Callable[[int], Unit]) -> frozenset[Unit]:
    return frozenset(unit(k) for k in range(count))


def units_of(group: Group) -> frozenset[Unit]:
    """The units of a group as found."""
    found: list[set[Entry]] = [set() for _ in range(group.size)]
    for part in group.slices:
        for index, unit in enumerate(part.units.tolist()):
            if unit >= 0:
                found[unit].add((part.parameter, part.axis, index))
    return frozenset(frozenset(unit) for unit in found)


def groups_of(network: Network) -> list[frozenset[Unit]]:
    return [units_of(group) for group in network.groups]


def readers(group: Group) -> set[str]:
    return {site.module for site in group.consumers}


def norm(name: str, k: int | Iterable[int]) -> list[tuple[str, int, Any]]:
    return [(f"{name}.{leaf}", 0, k) for leaf in ("weight", "bias", "running_mean", "running_var")]


def traced(model: nn.Module, *shape: int, batch: int = 3) -> Network:
    return dh.trace(model.eval(), torch.randn(batch, *shape, dtype=next(model.parameters()).dtype))
