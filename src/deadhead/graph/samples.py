"""Which rows of an activation belong to which sample, measured by changing one sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.graph.graph import Edits, Graph
from deadhead.graph.trace import batch_size, rows_of
from deadhead.graph.units.groups import Units

COUNT, CHANGED = 3, 1
"""How many samples are looked at, and which of them is changed."""


@dataclass(frozen=True)
class RowLayout:
    """Which rows of an activation belong to which sample, as measured by changing one sample.

    `owners[node, position]` is "outer" where the first axis counts the samples, or samples times something inside,
    "inner" where it counts something times samples, "second" where the second axis counts the samples; other reads
    mix them. `mixed` says that the outputs of one sample depend on another.
    """

    owners: dict[tuple[fx.Node, int], str]
    mixed: bool


def measure_rows(
    graph: Graph, units: Units, tensors: list[Tensor], batch_axis: int, state: Mapping[str, Tensor]
) -> RowLayout:
    """Change one of three samples, and see what moves at the consumers and norms, before and behind them, at the
    producers and outputs."""
    read = [site for group in units.groups for site in (*group.consumers, *group.norms)]
    places = {(site.node, place) for site in read for place in (site.position, -1)}
    places |= {(site.node, site.position) for group in units.groups for site in group.producers}
    seen: list[dict[tuple[fx.Node, int], Tensor]] = [{}, {}]
    outputs = []
    for inputs, found in zip(_with_one_changed(tensors, batch_axis), seen, strict=True):
        edits = Edits()
        for node, position in places:
            edits.at(node, position, _keep_in(found, (node, position)))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs.append(graph.run([tensor.clone() for tensor in inputs], state, edits))
    owners = {}
    for key, before in seen[0].items():
        owner = _owner(before, seen[1][key])
        if owner is not None:
            owners[key] = owner
    mixed = any(
        _owner(before, after) is None
        for before, after in zip(*outputs, strict=True)
        if isinstance(before, Tensor) and before.dim() and before.is_floating_point()
    )
    return RowLayout(owners, mixed)


def owners_of(
    graph: Graph, nodes: Sequence[fx.Node], tensors: list[Tensor], batch_axis: int, state: Mapping[str, Tensor]
) -> dict[fx.Node, str | None]:
    """Where the samples lie in what each of `nodes` gives, as `RowLayout` says; None where they are not told apart."""
    seen = []
    for inputs in _with_one_changed(tensors, batch_axis):
        kept: dict[fx.Node, Any] = dict.fromkeys(nodes)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            graph.run([tensor.clone() for tensor in inputs], state, kept=kept)
        kept.update((node, tensor) for node, tensor in zip(graph.inputs, inputs, strict=True) if node in kept)
        seen.append(kept)
    return {node: _owner_of_all(seen[0][node], seen[1][node]) for node in nodes}


def _owner_of_all(before: Any, after: Any) -> str | None:
    """The same for a list of tensors, which have to agree."""
    if isinstance(before, (tuple, list)):
        found = {_owner_of_all(a, b) for a, b in zip(before, after, strict=True) if a is not None}
        return found.pop() if len(found) == 1 else None
    return _owner(before, after) if isinstance(before, Tensor) else None


def _with_one_changed(tensors: list[Tensor], batch_axis: int) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs of `COUNT` samples, and the same with sample `CHANGED` changed."""
    chosen = rows_of(tensors, batch_axis, torch.arange(COUNT) % batch_size(tensors, batch_axis))
    generator = torch.Generator().manual_seed(0)
    first, second = [], []
    for tensor in chosen:
        other = tensor.clone()
        if tensor.dim() > batch_axis and tensor.shape[batch_axis] == COUNT:
            row = other.select(batch_axis, CHANGED)
            if row.is_floating_point():
                row.add_(torch.randn(row.shape, generator=generator).to(row) * (0.5 + row.abs().mean()))
            elif row.dim():
                row.copy_(row.flip(-1))
        first.append(tensor)
        second.append(other)
    return first, second


def _keep_in(found: dict[tuple[fx.Node, int], Tensor], key: tuple[fx.Node, int]) -> Callable[[Tensor], Tensor]:
    def keep(value: Tensor) -> Tensor:
        if isinstance(value, Tensor):  # a producer may give several
            found[key] = value.detach().clone()
        return value

    return keep


def _owner(before: Tensor, after: Tensor) -> str | None:
    """Where the changed sample lies in a value: outer, inner, second; None where others move too."""
    count, changed = COUNT, CHANGED
    if before.shape != after.shape or not before.dim():
        return None
    moved = (before != after) & ~(before.isnan() & after.isnan())
    layouts: dict[str, Callable[[Tensor], Tensor]] = {}
    if before.shape[0] % count == 0:
        layouts["outer"] = lambda t: t.reshape(count, -1, *t.shape[1:])
        if before.shape[0] > count:
            layouts["inner"] = lambda t: t.reshape(-1, count, *t.shape[1:]).movedim(1, 0)
    if before.dim() > 1 and before.shape[1] == count:
        layouts["second"] = lambda t: t.movedim(1, 0)
    others = [row for row in range(count) if row != changed]
    return next((name for name, lay_out in layouts.items() if not lay_out(moved)[others].any()), None)
