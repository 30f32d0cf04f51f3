"""The optimal brain surgeon for units: the cost of removing blocks of columns when the other columns are refitted.

For one consumer, `J(W) = tr(S E[(W a~ - y)(W a~ - y)^T])`, a~ the columns it reads and a one, y the target, S a weight
of its outputs. With `G = E[a~ a~^T]`, damped, and W the optimal weights, removing block k and refitting the other
columns costs `tr(S W_k ([G^-1]_kk)^-1 W_k^T)`, and changes W and G^-1 by one block step.

Source: Hassibi and Stork (1993), for single weights; here for blocks of columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SWEEPS = 3
"""Maximum number of rounds over all removed units in the local search."""
TRIES = 16
"""Number of times that a few units are put back at random, to leave a choice that no single swap improves."""
FEW = 4
"""Maximum number of units that are put back at once."""
WORK = 2e10
"""Approximate maximum of multiply-adds in the search, a minute of one core; large groups keep the greedy choice."""
GAIN = 1e-6
"""Minimum relative decrease of the cost for which a swap is made."""


@dataclass
class Side:
    """The least-squares problem of one matrix that reads the group.

    Attributes:
        gram: (n, n), damped and symmetric, float64.
        target: (o, n), the products of the target outputs, times the root of S, with the columns.
        units: (n,), the unit of each column or -1.
        present: (n,), boolean: which columns are not removed already.
    """

    gram: Tensor
    target: Tensor
    units: Tensor
    present: Tensor

    def cost(self, weights: Tensor) -> float:
        """`J(W)` without its constant term, of weights (o, n) that are W times the root of S."""
        return (torch.einsum("oi,ij,oj->", weights, self.gram, weights) - 2 * (weights * self.target).sum()).item()


class _Matrix:
    """The inverse of the Gram matrix of the remaining columns and the optimal weights on them, zero elsewhere."""

    def __init__(self, side: Side, size: int) -> None:
        self.side = side
        there = side.present.nonzero()[:, 0]
        whole = inverse(side.gram[there][:, there])
        self.inverse = torch.zeros_like(side.gram)
        self.inverse[there[:, None], there] = whole
        self.weights = side.target @ self.inverse
        columns = [((side.units == unit) & side.present).nonzero()[:, 0] for unit in range(size)]
        self.columns = columns
        widths = sorted({len(each) for each in columns} - {0})
        self._kinds = [
            (torch.tensor([u for u in range(size) if len(columns[u]) == w], device=side.gram.device), w) for w in widths
        ]
        self._blocks = [torch.stack([columns[int(u)] for u in units]) for units, _ in self._kinds]
        self._costs: Tensor | None = None  # until the state changes

    def costs(self, size: int) -> Tensor:
        """The cost of removing each remaining unit, (K,); entries of removed units mean nothing."""
        if self._costs is not None:
            return self._costs
        costs = torch.zeros(size, dtype=self.inverse.dtype, device=self.inverse.device)
        for (units, width), block in zip(self._kinds, self._blocks, strict=True):
            inner = self.inverse[block[:, :, None], block[:, None, :]]
            read = self.weights[:, block].movedim(0, 1)  # (units, o, columns)
            if width == 1:
                costs[units] += read.square().sum((1, 2)) / inner[:, 0, 0].clamp(min=1e-300)
            else:
                remaining = inner.diagonal(dim1=1, dim2=2).amin(1) > 0
                safe = torch.where(remaining[:, None, None], inner, torch.eye(width).to(inner))
                factor, failed = torch.linalg.cholesky_ex(safe)
                half = torch.linalg.solve_triangular(factor, read.movedim(1, 2), upper=False)
                costs[units] += torch.where(failed == 0, half.square().sum((1, 2)), torch.inf)
        self._costs = costs
        return costs

    def remove(self, unit: int) -> None:
        """Remove a unit's columns and refit the others."""
        block = self.columns[unit]
        if not len(block):
            return
        self._costs = None
        rows = self.inverse[block]
        step = torch.linalg.solve(rows[:, block], rows)
        self.weights -= self.weights[:, block] @ step
        self.inverse -= rows.T @ step
        self.inverse[block] = 0
        self.inverse[:, block] = 0
        self.weights[:, block] = 0

    def put_back(self, unit: int) -> None:
        """Put a removed unit's columns back and refit all."""
        block = self.columns[unit]
        if not len(block):
            return
        self._costs = None
        reach = self.inverse @ self.side.gram[:, block]  # zero at removed columns
        schur = self.side.gram[block][:, block] - self.side.gram[block] @ reach
        inner = torch.linalg.inv((schur + schur.T) / 2)
        missing = self.side.target[:, block] - self.side.target @ reach
        self.weights -= (missing @ inner) @ reach.T
        self.weights[:, block] = missing @ inner
        self.inverse += reach @ inner @ reach.T
        self.inverse[:, block] = -reach @ inner
        self.inverse[block] = self.inverse[:, block].T
        self.inverse[block[:, None], block] = inner


def inverse(gram: Tensor) -> Tensor:
    """The inverse of a symmetric positive definite matrix, (n, n), computed with its diagonal scaled to 1."""
    scale = gram.diagonal().clamp(min=1e-300).rsqrt()
    scaled = gram * scale[:, None] * scale
    factor, failed = torch.linalg.cholesky_ex(scaled)
    result: Tensor = torch.linalg.pinv(scaled, hermitian=True) if failed else torch.cholesky_inverse(factor)
    return result * scale[:, None] * scale


@dataclass(frozen=True)
class Choice:
    """The units of a group that are removed, and their costs.

    Attributes:
        order: the units in their order of removal: each time the one of them with the minimum cost.
        costs: the cost of each when it is removed, in this order.
        remaining: (K,), the cost of removing each remaining unit next; infinity for removed ones.
        total: the cost of all.
        weights: the optimal weights for each side after all removals, (o, n), times the root of S.
    """

    order: list[int]
    costs: list[float]
    remaining: Tensor
    total: float
    weights: list[Tensor]

    def scores(self) -> Tensor:
        """Half the costs as scores, (K,), float64, rising along the order of removal; remaining units score higher."""
        scores = self.remaining.detach().to("cpu", torch.float64).clone()
        costs = torch.tensor(self.costs, dtype=torch.float64)
        rising = 1 + 1e-9 * torch.arange(len(costs), dtype=torch.float64)  # so that equal ones keep their order
        scores[self.order] = costs.clamp(min=0).cummax(0).values * rising if len(costs) else costs
        last = scores[self.order[-1]] if self.order else scores.new_zeros(())
        others = torch.ones(len(scores), dtype=torch.bool).index_fill_(
            0, torch.tensor(self.order, dtype=torch.long), False
        )
        scores[others] = scores[others].clamp(min=float(last) * (1 + 1e-9))
        return 0.5 * scores


def choose(
    sides: Sequence[Side], size: int, count: int, extra: Tensor | None = None, sweeps: int = SWEEPS, tries: int = TRIES
) -> Choice:
    """Choose which units to remove at minimum total cost: greedily, then by local search.

    Each time the unit with the minimum cost is removed. Then single units are swapped as long as that lowers the total
    cost, and `tries` times a few are put back at random and as many removed again. One removal is optimal; several
    are greedy, and the search never raises their cost.

    Args:
        sides: the least-squares problems of the matrices that read the group.
        size: the number of units, K.
        count: the number of units to remove.
        extra: (K,), what removing each unit costs besides, whatever else is removed; zero where None.
        sweeps: maximum number of rounds of swaps; 0 for the greedy choice.
        tries: maximum number of times that a few are put back.
    """
    search = _Search(sides, size, extra)
    order: list[int] = []
    costs: list[float] = []
    for _ in range(count):
        unit, cost = search.remove_cheapest()
        order.append(unit)
        costs.append(cost)
    if 0 < count < size and sweeps:
        once = count * sum(len(side.units) ** 2 * (side.units >= 0).sum().item() / size for side in sides)
        affordable = int(WORK / max(once, 1))
        search.sweep(min(sweeps, affordable))
        generator = torch.Generator().manual_seed(0)
        for _ in range(min(tries, affordable // 4)):
            search.shake(generator, sweeps)
        if set(search.removed) != set(order):
            order, costs = _in_turn(_Search(sides, size, extra), search.removed)
    return Choice(order, costs, search.costs(), search.total, [matrix.weights for matrix in search.matrices])


def _in_turn(search: _Search, units: Sequence[int]) -> tuple[list[int], list[float]]:
    """These units in their order of removal, each time the one of them with the minimum cost, and their costs."""
    order, costs, waiting = [], [], set(units)
    while waiting:
        next_costs = search.costs().tolist()
        unit = min(waiting, key=next_costs.__getitem__)
        search.remove(unit, next_costs[unit])
        order.append(unit)
        costs.append(next_costs[unit])
        waiting.remove(unit)
    return order, costs


class _Search:
    """The units that are removed so far, from the matrices of all sides, and their cost in `total`."""

    def __init__(self, sides: Sequence[Side], size: int, extra: Tensor | None) -> None:
        self.size = size
        self.matrices = [_Matrix(side, size) for side in sides]
        device = self.matrices[0].inverse.device if self.matrices else torch.device("cpu")
        nothing = torch.zeros(size, dtype=torch.float64, device=device)
        self.extra = nothing if extra is None else extra.to(nothing)
        self.is_removed = torch.zeros(size, dtype=torch.bool, device=device)
        self.removed: list[int] = []
        self.total = 0.0

    def costs(self) -> Tensor:
        """The cost of removing each remaining unit, (K,); infinity for removed ones."""
        costs = self.extra.clone()
        for matrix in self.matrices:
            costs += matrix.costs(self.size)
        return costs.masked_fill(self.is_removed, torch.inf)

    def remove(self, unit: int, cost: float) -> None:
        """Remove a unit that costs `cost`."""
        for matrix in self.matrices:
            matrix.remove(unit)
        self.is_removed[unit] = True
        self.removed.append(unit)
        self.total += cost

    def remove_cheapest(self) -> tuple[int, float]:
        """Remove the unit with the minimum cost; the unit and its cost."""
        costs = self.costs()
        unit = int(costs.argmin())
        self.remove(unit, float(costs[unit]))
        return unit, float(costs[unit])

    def put_back(self, unit: int) -> Tensor:
        """Put a unit back; the cost of removing each remaining unit then, (K,)."""
        for matrix in self.matrices:
            matrix.put_back(unit)
        self.is_removed[unit] = False
        self.removed.remove(unit)
        costs = self.costs()
        self.total -= float(costs[unit])
        return costs

    def sweep(self, sweeps: int) -> None:
        """Swap single units until no swap lowers the cost, in at most `sweeps` rounds over all."""
        for _ in range(sweeps):
            better = False
            for unit in list(self.removed):
                before = self.total
                costs = self.put_back(unit)
                other = int(costs.argmin())
                if float(costs[unit] - costs[other]) <= GAIN * max(before, 0.0):
                    other = unit
                better = better or other != unit
                self.remove(other, float(costs[other]))
            if not better:
                return

    def shake(self, generator: torch.Generator, sweeps: int) -> None:
        """Put a few units back at random, remove another one at random and the rest by their cost, and swap; undone
        where that did not lower the total cost."""
        before, total = list(self.removed), self.total
        number = min(len(before), int(torch.randint(1, FEW + 1, (1,), generator=generator)))
        for place in torch.randperm(len(before), generator=generator)[:number].tolist():
            self.put_back(before[place])
        others = [unit for unit in range(self.size) if unit not in before]
        unit = others[int(torch.randint(len(others), (1,), generator=generator))]
        self.remove(unit, float(self.costs()[unit]))
        for _ in range(number - 1):
            self.remove_cheapest()
        self.sweep(sweeps)
        if not self.total < total * (1 - GAIN):
            for unit in set(self.removed) - set(before):
                self.put_back(unit)
            for unit in before:
                if not self.is_removed[unit]:
                    self.remove(unit, float(self.costs()[unit]))


def damped(gram: Tensor, damping: float) -> Tensor:
    """`G + D` with D = `damping` times the mean diagonal of G on the columns and about 0 on the constant.

    Args:
        gram: G, (n + 1, n + 1), the constant last, on which D is as small as an inverse allows.
        damping: a number, in parts of the mean diagonal of G.
    """
    diagonal = gram.diagonal()[:-1]
    extra = torch.zeros_like(gram.diagonal())
    extra[:-1] = damping * diagonal.mean() if len(diagonal) else 0.0
    extra[-1] = 1e-12 * gram[-1, -1]
    return gram + torch.diag(extra)
