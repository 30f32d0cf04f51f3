"""Streamed statistics of activations at the consumers: moments of each column, and sums for regressions on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from deadhead.data.calibration import Batch
from deadhead.gates.gates import Gates
from deadhead.graph.units.groups import Group, Site
from deadhead.graph.units.matrices import Layout, layout_of
from deadhead.progress import Progress, track

PANEL = 768
"""Columns whose products are computed at once."""
Blocks = Mapping[str, Sequence[Tensor]]
"""The columns of each block, for weights that have several (`deadhead/reconstruction/blocks.py`)."""


@dataclass
class Regression:
    """Sums over rows and positions at the consumers of one weight, float64, for g groups of o outputs and n columns.

    With a~ = [a; 1] the columns that are read and y the outputs that are wanted: `gram` is sum a~ a~^T, shape
    (g, n + 1, n + 1), `cross` sum y a~^T, shape (g, o, n + 1), `energy` sum y^2, `count` the number of terms.
    Of a weight with several blocks, a and y are the `columns` of one of them and what they give.
    """

    gram: Tensor
    cross: Tensor
    energy: float
    count: int
    columns: Tensor | slice = field(default_factory=lambda: slice(None))

    def error(self, weights: Tensor) -> float:
        """`E |W a~ - y|^2 / E |y|^2` for W of shape (g, o, n + 1)."""
        gram, cross = self.gram.to(weights), self.cross.to(weights)
        squares = torch.einsum("goi,gij,goj->", weights, gram, weights) - 2 * (weights * cross).sum()
        return max((squares.item() + self.energy) / max(self.energy, 1e-300), 0.0)


@dataclass(frozen=True)
class Gram:
    """`sum a~ a~^T` over rows and positions at the consumers of one weight, or of a block of its `columns`, shape
    (g, n + 1, n + 1), float64, and the number of terms."""

    total: Tensor
    count: int
    columns: Tensor | slice = field(default_factory=lambda: slice(None))


class Products:
    """`sum b^T a` over batches of rows: (groups, rows, m) of b with (groups, rows, n) of a, b being a where not given.

    Rows wait until there are as many as columns: then their products, in their own precision, cost no more to add to
    the sums in float64 than to make, whatever the batch. Memory is that of the sums.
    """

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self._waiting: list[tuple[Tensor, Tensor | None]] = []
        self._rows = 0

    def add(self, a: Tensor, b: Tensor | None = None) -> None:
        self._waiting.append((a, b))
        self._rows += a.shape[1]
        if self._rows >= a.shape[-1]:
            self._multiply()

    def sum(self) -> Tensor:
        """The sums of all rows that were added; at least one must have been."""
        self._multiply()
        assert self.total is not None, "no rows were added"
        return self.total

    def _multiply(self) -> None:
        if not self._waiting:
            return
        a = torch.cat([a for a, _ in self._waiting], 1)
        given = [b for _, b in self._waiting if b is not None]
        products = torch.cat(given, 1).transpose(-1, -2) @ a if given else squares_of(a)
        self._waiting, self._rows = [], 0
        self.total = products.double() if self.total is None else self.total.add_(products)


def patch_means(
    gates: Gates, weights: Sequence[str], batches: Sequence[Batch], progress: Progress | None = None
) -> dict[str, Tensor]:
    """The mean of each column that the consumers of each weight read, shape (groups, n), float64, in one forward pass.

    For a convolution the columns are channels times taps, and count zero padding. Weights whose consumers have no
    layout (`layout_of`) are missing from the result.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def look(weight: str, site: Site, value: Tensor) -> None:
        read = _columns(gates, site, weight, value)
        if read is not None:
            total = read.sum(1, dtype=torch.float64)
            sums[weight] = sums[weight] + total if weight in sums else total
            counts[weight] = counts.get(weight, 0) + read.shape[1]

    for batch in track(progress, "statistics", batches):
        _each_once(gates, weights, batch, look)
    return {name: total / counts[name] for name, total in sums.items()}


def regressions(
    intact: Gates, gates: Gates, matrices: Mapping[str, Tensor], batches: Sequence[Batch], blocks: Blocks | None = None
) -> dict[str, list[Regression]]:
    """For each weight the sums of a regression of what its consumers give in the intact network, without their bias, on
    what they read behind `gates`: one, or one for each of its `blocks`. `matrices` has the weights as (groups, outputs,
    columns).

    One pass over the data for each of the two networks, up to the last of the consumers; wide convolutions are read on
    grids of positions (`Layout.columns`). Products are in the precision of the activations, sums in float64; a weight
    that is used more than once sums over its uses. Weights whose consumers have no layout (`layout_of`) are missing.
    """
    grams: dict[tuple[str, int], Products] = defaultdict(Products)
    crosses: dict[tuple[str, int], Products] = defaultdict(Products)
    energy: dict[tuple[str, int], float] = defaultdict(float)
    count = dict.fromkeys(matrices, 0)
    for turn, batch in enumerate(batches):
        before, after = _reads(intact, matrices, batch), _reads(gates, matrices, batch)
        for (node, weight), (site, old) in before.items():
            read = _columns(gates, site, weight, old, turn)
            kept = _columns(gates, site, weight, after[node, weight][1], turn)
            if read is None or kept is None:
                continue
            for place, part in enumerate(_parts(weight, blocks)):
                wide, matrix = with_one(kept[..., part]), matrices[weight][..., part]
                wanted = read[..., part].to(wide.dtype) @ matrix.to(wide.dtype).transpose(-1, -2)
                grams[weight, place].add(wide)
                crosses[weight, place].add(wide, wanted)
                energy[weight, place] += wanted.square().sum(dtype=torch.float64).item()
            count[weight] += read.shape[1]
    found: dict[str, list[Regression]] = defaultdict(list)
    for key, products in grams.items():
        weight, place = key
        part = _parts(weight, blocks)[place]
        found[weight].append(Regression(products.sum(), crosses[key].sum(), energy[key], count[weight], part))
    return dict(found)


def grams(
    gates: Gates,
    weights: Sequence[str],
    batches: Sequence[Batch],
    progress: Progress | None = None,
    blocks: Blocks | None = None,
) -> dict[str, list[Gram]]:
    """`sum a~ a~^T` at the consumers of each weight, or one for each of its `blocks`, all in one forward pass over the
    data; wide convolutions are read on grids of positions (`Layout.columns`)."""
    found: dict[str, list[Products]] = {}
    counts: dict[str, int] = {}

    def look(weight: str, site: Site, value: Tensor, turn: int) -> None:
        read = _columns(gates, site, weight, value, turn)
        if read is not None:
            parts = _parts(weight, blocks)
            for products, part in zip(found.setdefault(weight, [Products() for _ in parts]), parts, strict=True):
                products.add(with_one(read[..., part]))
            counts[weight] = counts.get(weight, 0) + read.shape[1]

    for turn, batch in enumerate(track(progress, "statistics", batches)):
        _each_once(gates, weights, batch, lambda weight, site, value, turn=turn: look(weight, site, value, turn))  # type: ignore[misc]
    return {
        weight: [
            Gram(products.sum(), counts[weight], part)
            for products, part in zip(each, _parts(weight, blocks), strict=True)
        ]
        for weight, each in found.items()
    }


def of_itself(products: Sequence[Gram] | None, weight: Tensor) -> list[Regression] | None:
    """The regressions of what a weight (groups, outputs, columns) gives on the columns that it reads, by block."""
    if products is None:
        return None
    found = []
    for each in products:
        part = weight[..., each.columns]
        wide = torch.cat([part, part.new_zeros((*part.shape[:-1], 1))], -1)
        cross = wide @ each.total.to(wide)
        found.append(Regression(each.total, cross, (cross * wide).sum().item(), each.count, each.columns))
    return found


def _parts(weight: str, blocks: Blocks | None) -> Sequence[Tensor | slice]:
    """The columns of each block of a weight; all of them where it has none."""
    return (blocks or {}).get(weight) or [slice(None)]


def _columns(gates: Gates, site: Site, weight: str, value: Tensor, turn: int | None = None) -> Tensor | None:
    layout = layout_of(site, gates.state[weight].shape)
    return layout.columns(value, turn) if isinstance(layout, Layout) else None


def with_one(read: Tensor) -> Tensor:
    """The columns and a one, in float32 at least."""
    read = read.float() if read.dtype in (torch.bfloat16, torch.float16) else read
    return torch.cat([read, read.new_ones((*read.shape[:-1], 1))], -1)


def squares_of(wide: Tensor) -> Tensor:
    """`A^T A` for (groups, rows, n) columns; of wide matrices only one half is computed, and mirrored."""
    n = wide.shape[-1]
    if n <= PANEL:
        return wide.transpose(-1, -2) @ wide
    result = wide.new_empty(*wide.shape[:-2], n, n)
    for start in range(0, n, PANEL):
        end = min(start + PANEL, n)
        block = wide[..., start:end].transpose(-1, -2) @ wide[..., start:]
        result[..., start:end, start:] = block
        result[..., end:, start:end] = block[..., end - start :].transpose(-1, -2)
    return result


def _each_once(gates: Gates, weights: Sequence[str], batch: Batch, look: Callable[[str, Site, Tensor], None]) -> None:
    """`look(weight, site, value)` once for each node that reads one of the weights, though it may read many groups."""
    seen: set[tuple[fx.Node, int]] = set()

    def visit(group: Group, index: int, value: Tensor) -> None:
        site = group.consumers[index]
        if site.weight is not None and site.weight in weights and (site.node, site.position) not in seen:
            seen.add((site.node, site.position))
            look(site.weight, site, value)

    gates.observe(batch, visit)


def _reads(gates: Gates, weights: Collection[str], batch: Batch) -> dict[tuple[fx.Node, str], tuple[Site, Tensor]]:
    """What each consumer of some weights reads on one batch, and where."""
    found: dict[tuple[fx.Node, str], tuple[Site, Tensor]] = {}

    def look(group: Group, index: int, value: Tensor) -> None:
        site = group.consumers[index]
        if site.weight is not None:
            found[site.node, site.weight] = site, value

    gates.observe(batch, look, weights)
    return found
