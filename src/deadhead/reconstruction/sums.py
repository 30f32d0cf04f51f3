"""Streamed statistics of what consumers read: means of columns, sums of products for regressions on them."""

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

STATISTICS_BYTES = 2**30
"""Bytes that the statistics of one pass over the data may take, where there are several consumers."""
PANEL = 768
"""Columns whose products are computed at once."""
Blocks = Mapping[str, Sequence[Tensor]]
"""The columns of each block, for weights that have several (`deadhead/reconstruction/blocks.py`)."""


@dataclass
class Regression:
    """The sums of a regression at the consumers of one weight, with a~ = [a; 1] the n columns read and y the target.

    Sums go over samples and positions, float64, for g groups of o outputs.

    Attributes:
        gram: sum a~ a~^T, (g, n + 1, n + 1).
        cross: sum y a~^T, (g, o, n + 1).
        energy: sum y^2.
        count: the number of terms.
        columns: which columns of the weight a are; of a block, y is the output of its columns alone.
    """

    gram: Tensor
    cross: Tensor
    energy: float
    count: int
    columns: Tensor | slice = field(default_factory=lambda: slice(None))

    def error(self, weights: Tensor) -> float:
        """The relative squared error of weights W, (g, o, n + 1): `E |W a~ - y|^2 / E |y|^2`."""
        gram, cross = self.gram.to(weights), self.cross.to(weights)
        squares = torch.einsum("goi,gij,goj->", weights, gram, weights) - 2 * (weights * cross).sum()
        return max((squares.item() + self.energy) / max(self.energy, 1e-300), 0.0)


@dataclass(frozen=True)
class Gram:
    """The second moments of what the consumers of one weight read.

    Attributes:
        total: sum a~ a~^T over samples and positions, (g, n + 1, n + 1), float64.
        count: the number of terms.
        columns: which columns of the weight they are of.
    """

    total: Tensor
    count: int
    columns: Tensor | slice = field(default_factory=lambda: slice(None))


class Products:
    """The sum of the products `b^T a` of matrices that arrive in parts: a (groups, rows, n), b (groups, rows, m) or a.

    Rows are collected until there are as many as columns: then adding their products, in their own precision, to the
    sums in float64 costs no more than computing them, whatever the batch. Memory is that of the sums.
    """

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self._waiting: list[tuple[Tensor, Tensor | None]] = []
        self._rows = 0

    def add(self, a: Tensor, b: Tensor | None = None) -> None:
        """Add the product of some rows, (groups, rows, n) and (groups, rows, m); of a with itself where b is None."""
        self._waiting.append((a, b))
        self._rows += a.shape[1]
        if self._rows >= a.shape[-1]:
            self._multiply()

    def sum(self) -> Tensor:
        """The sum over all rows so far, (groups, m, n), float64; at least one must have been added."""
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
    """The mean of each column that the consumers of each weight read, in one forward pass over the data.

    For a convolution the columns are channels times taps, and zero padding counts as zeros.

    Args:
        gates: the network.
        weights: the names of the weights.
        batches: the data.
        progress: what reports the batches done.

    Returns:
        {weight: (groups, n)}, float64, without weights whose consumers have no layout (`layout_of`).
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def look(weight: str, site: Site, value: Tensor) -> None:
        layout = layout_of(site, gates.state[weight].shape)
        if isinstance(layout, Layout):
            total, count = layout.total(value)
            sums[weight] = sums[weight] + total if weight in sums else total
            counts[weight] = counts.get(weight, 0) + count

    for batch in track(progress, "statistics", batches):
        _each_once(gates, weights, batch, look)
    return {name: total / counts[name] for name, total in sums.items()}


def regressions(
    intact: Gates, gates: Gates, matrices: Mapping[str, Tensor], batches: Sequence[Batch], blocks: Blocks | None = None
) -> dict[str, list[Regression]]:
    """The sums of a regression of the intact outputs of each weight's consumers on what these read in another network.

    One pass over the data for each of the two networks, up to the last of the consumers; wide convolutions are read on
    grids of positions (`Layout.columns`). Products are in the precision of the activations, sums in float64; a weight
    that is used more than once sums over its uses.

    Args:
        intact: the intact network, whose outputs without bias are the targets.
        gates: the network whose activations are read, with its removed units closed.
        matrices: {weight: (groups, outputs, columns)}, the weights as matrices.
        batches: the data.
        blocks: the columns of each block, for weights that have several.

    Returns:
        {weight: a regression for each of its blocks}, without weights whose consumers have no layout (`layout_of`).
    """
    grams: dict[tuple[str, int], Products] = defaultdict(Products)
    crosses: dict[tuple[str, int], Products] = defaultdict(Products)
    energy: dict[tuple[str, int], float] = defaultdict(float)
    count = dict.fromkeys(matrices, 0)
    for turn, batch in enumerate(batches):
        before, after = _reads(intact, matrices, batch), _reads(gates, matrices, batch)
        for (node, weight), (site, value) in before.items():
            intact_read = _columns(gates, site, weight, value, turn)
            read = _columns(gates, site, weight, after[node, weight][1], turn)
            if intact_read is None or read is None:
                continue
            for place, part in enumerate(_parts(weight, blocks)):
                wide, matrix = with_one(read[..., part]), matrices[weight][..., part]
                target = intact_read[..., part].to(wide.dtype) @ matrix.to(wide.dtype).transpose(-1, -2)
                grams[weight, place].add(wide)
                crosses[weight, place].add(wide, target)
                energy[weight, place] += target.square().sum(dtype=torch.float64).item()
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
    """The second moments, `sum a~ a~^T`, of what the consumers of each weight read, in one forward pass over the data.

    Wide convolutions are read on grids of positions (`Layout.columns`).

    Args:
        gates: the network, with its removed units closed.
        weights: the names of the weights.
        batches: the data.
        progress: what reports the batches done.
        blocks: the columns of each block, for weights that have several.

    Returns:
        {weight: the sums of each of its blocks}, without weights whose consumers have no layout (`layout_of`).
    """
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
    """The regressions, by block, of the outputs of a weight, (groups, outputs, columns), on the columns it reads."""
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
    """The columns of an activation at a consumer, (groups, rows, n); on a grid of positions where `turn` is given."""
    layout = layout_of(site, gates.state[weight].shape)
    return layout.columns(value, turn) if isinstance(layout, Layout) else None


def with_one(read: Tensor) -> Tensor:
    """Columns, (..., n), with a column of ones behind them, (..., n + 1), in float32 at least."""
    read = read.float() if read.dtype in (torch.bfloat16, torch.float16) else read
    return torch.cat([read, read.new_ones((*read.shape[:-1], 1))], -1)


def squares_of(wide: Tensor) -> Tensor:
    """`A^T A`, (groups, n, n), of A, (groups, rows, n); above `PANEL` columns one half is computed and mirrored."""
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
    """Call `look(weight, site, value)` once for each node that uses a weight of these, even if it reads many groups."""
    seen: set[tuple[fx.Node, int]] = set()

    def visit(group: Group, index: int, value: Tensor) -> None:
        site = group.consumers[index]
        if site.weight is not None and site.weight in weights and (site.node, site.position) not in seen:
            seen.add((site.node, site.position))
            look(site.weight, site, value)

    gates.observe(batch, visit)


def _reads(gates: Gates, weights: Collection[str], batch: Batch) -> dict[tuple[fx.Node, str], tuple[Site, Tensor]]:
    """What each consumer of some weights reads on one batch: {(node, weight): (site, activation)}."""
    found: dict[tuple[fx.Node, str], tuple[Site, Tensor]] = {}

    def look(group: Group, index: int, value: Tensor) -> None:
        site = group.consumers[index]
        if site.weight is not None:
            found[site.node, site.weight] = site, value

    gates.observe(batch, look, weights)
    return found
