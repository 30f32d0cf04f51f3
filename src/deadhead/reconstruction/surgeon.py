"""The optimal brain surgeon for units: what it costs to take off blocks of columns when the others take over.

For one consumer, `J(W) = tr(S E[(W a~ - y)(W a~ - y)^T])`, a~ the columns it reads and a one, y what is wanted, S a
weight of its outputs. With `G = E[a~ a~^T]`, damped, and W the best weights, taking off block k, and letting the other
columns take over, costs `tr(S W_k ([G^-1]_kk)^-1 W_k^T)`, and changes W and G^-1 by one block step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SWEEPS = 3
"""How often the local search goes over what was removed, at most."""
TRIES = 16
"""How often a few units are put back at random, to leave a place that no single swap improves."""
FEW = 4
"""At most so many are put back at once."""
WORK = 2e10
"""Multiply-adds that the search may take, about: a minute of one core at most; large groups are left as greedy."""
GAIN = 1e-6
"""A swap has to lower the cost by so much of itself."""


@dataclass
class Side:
    """One matrix that reads the group: `gram` (n, n), damped and symmetric, float64; `target` (o, n), the products of
    the wanted outputs, weighted by the root of S, with the columns; `units` (n,) the unit of each column or -1;
    `free` (n,) says which columns are there at all."""

    gram: Tensor
    target: Tensor
    units: Tensor
    free: Tensor

    def cost(self, weights: Tensor) -> float:
        """`J(W)`, but for what no W changes, for W times the root of S."""
        return (torch.einsum("oi,ij,oj->", weights, self.gram, weights) - 2 * (weights * self.target).sum()).item()


class _State:
    """The inverse of the Gram matrix of the columns that are left, and the best weights on them, zero elsewhere."""

    def __init__(self, side: Side, size: int) -> None:
        self.side = side
        there = side.free.nonzero()[:, 0]
        whole = inverse(side.gram[there][:, there])
        self.inverse = torch.zeros_like(side.gram)
        self.inverse[there[:, None], there] = whole
        self.weights = side.target @ self.inverse
        columns = [((side.units == unit) & side.free).nonzero()[:, 0] for unit in range(size)]
        self.columns = columns
        widths = sorted({len(each) for each in columns} - {0})
        self._kinds = [
            (torch.tensor([u for u in range(size) if len(columns[u]) == w], device=side.gram.device), w) for w in widths
        ]
        self._blocks = [torch.stack([columns[int(u)] for u in units]) for units, _ in self._kinds]
        self._costs: Tensor | None = None  # until the state changes

    def costs(self, size: int) -> Tensor:
        """What each unit would cost, shape (K,); units that are gone cost nonsense."""
        if self._costs is not None:
            return self._costs
        found = torch.zeros(size, dtype=self.inverse.dtype, device=self.inverse.device)
        for (units, width), block in zip(self._kinds, self._blocks, strict=True):
            inner = self.inverse[block[:, :, None], block[:, None, :]]
            read = self.weights[:, block].movedim(0, 1)  # (units, o, columns)
            if width == 1:
                found[units] += read.square().sum((1, 2)) / inner[:, 0, 0].clamp(min=1e-300)
            else:
                alive = inner.diagonal(dim1=1, dim2=2).amin(1) > 0
                safe = torch.where(alive[:, None, None], inner, torch.eye(width).to(inner))
                factor, failed = torch.linalg.cholesky_ex(safe)
                half = torch.linalg.solve_triangular(factor, read.movedim(1, 2), upper=False)
                found[units] += torch.where(failed == 0, half.square().sum((1, 2)), torch.inf)
        self._costs = found
        return found

    def remove(self, unit: int) -> None:
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
        block = self.columns[unit]
        if not len(block):
            return
        self._costs = None
        reach = self.inverse @ self.side.gram[:, block]  # zero where columns are gone
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
    """The inverse of a symmetric positive definite matrix, scaled to a unit diagonal on the way."""
    scale = gram.diagonal().clamp(min=1e-300).rsqrt()
    scaled = gram * scale[:, None] * scale
    factor, failed = torch.linalg.cholesky_ex(scaled)
    found = torch.linalg.pinv(scaled, hermitian=True) if failed else torch.cholesky_inverse(factor)
    return found * scale[:, None] * scale


@dataclass(frozen=True)
class Choice:
    """Units that are removed.

    Attributes:
        order: the units, each time the one next that costs least of them.
        costs: what each costs at its turn.
        remaining: (K,), what each of the others would cost next; infinity for those removed.
        total: what all of them cost.
        weights: the best weights for each side then, times the root of S.
    """

    order: list[int]
    costs: list[float]
    remaining: Tensor
    total: float
    weights: list[Tensor]

    def scores(self) -> Tensor:
        """Half the costs as scores (K,), float64: never falling along the order of removal, the others after it."""
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
    """Take off `count` of `size` units, each time the one that costs least, and then search around it: swap single
    ones as long as that lowers the cost of all, and `tries` times put back a few at random and take off as many anew.
    `extra` (K,) is what a unit costs besides at its removal, whatever else is gone.

    One removal is optimal; several are greedy, and the search only ever lowers their cost.
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
    return Choice(order, costs, search.costs(), search.total, [state.weights for state in search.states])


def _in_turn(search: _Search, units: Sequence[int]) -> tuple[list[int], list[float]]:
    """The order in which these units are removed, each time the one of them that costs least, and what each costs."""
    order, costs, waiting = [], [], set(units)
    while waiting:
        found = search.costs()
        unit = min(waiting, key=lambda each: float(found[each]))
        search.remove(unit, float(found[unit]))
        order.append(unit)
        costs.append(float(found[unit]))
        waiting.remove(unit)
    return order, costs


class _Search:
    """The units that are gone, in the states of all sides, and what that costs in `total`."""

    def __init__(self, sides: Sequence[Side], size: int, extra: Tensor | None) -> None:
        self.size = size
        self.states = [_State(side, size) for side in sides]
        device = self.states[0].inverse.device if self.states else torch.device("cpu")
        nothing = torch.zeros(size, dtype=torch.float64, device=device)
        self.extra = nothing if extra is None else extra.to(nothing)
        self.gone = torch.zeros(size, dtype=torch.bool, device=device)
        self.removed: list[int] = []
        self.total = 0.0

    def costs(self) -> Tensor:
        found = self.extra.clone()
        for state in self.states:
            found += state.costs(self.size)
        return found.masked_fill(self.gone, torch.inf)

    def remove(self, unit: int, cost: float) -> None:
        for state in self.states:
            state.remove(unit)
        self.gone[unit] = True
        self.removed.append(unit)
        self.total += cost

    def remove_cheapest(self) -> tuple[int, float]:
        found = self.costs()
        unit = int(found.argmin())
        self.remove(unit, float(found[unit]))
        return unit, float(found[unit])

    def put_back(self, unit: int) -> Tensor:
        """Put a unit back; what each would cost now."""
        for state in self.states:
            state.put_back(unit)
        self.gone[unit] = False
        self.removed.remove(unit)
        found = self.costs()
        self.total -= float(found[unit])
        return found

    def sweep(self, sweeps: int) -> None:
        """Swap single units until no swap helps, or so many times over all."""
        for _ in range(sweeps):
            better = False
            for unit in list(self.removed):
                before = self.total
                found = self.put_back(unit)
                other = int(found.argmin())
                if float(found[unit] - found[other]) <= GAIN * max(before, 0.0):
                    other = unit
                better = better or other != unit
                self.remove(other, float(found[other]))
            if not better:
                return

    def shake(self, generator: torch.Generator, sweeps: int) -> None:
        """Put a few units back at random, take off another one at random and as many as before by what they cost, and
        swap; undone where that did not lower the cost."""
        before, total = list(self.removed), self.total
        few = min(len(before), int(torch.randint(1, FEW + 1, (1,), generator=generator)))
        for place in torch.randperm(len(before), generator=generator)[:few].tolist():
            self.put_back(before[place])
        others = [unit for unit in range(self.size) if unit not in before]
        unit = others[int(torch.randint(len(others), (1,), generator=generator))]
        self.remove(unit, float(self.costs()[unit]))
        for _ in range(few - 1):
            self.remove_cheapest()
        self.sweep(sweeps)
        if not self.total < total * (1 - GAIN):
            for unit in set(self.removed) - set(before):
                self.put_back(unit)
            for unit in before:
                if not self.gone[unit]:
                    self.remove(unit, float(self.costs()[unit]))


def damped(gram: Tensor, damping: float) -> Tensor:
    """`G + D`, D = `damping` times the mean diagonal of G on the columns and 0 on the constant, the last one; and so
    much on the constant as it takes to be invertible."""
    diagonal = gram.diagonal()[:-1]
    extra = torch.zeros_like(gram.diagonal())
    extra[:-1] = damping * diagonal.mean() if len(diagonal) else 0.0
    extra[-1] = 1e-12 * gram[-1, -1]
    return gram + torch.diag(extra)
