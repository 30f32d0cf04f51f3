"""Racing for the unit whose removal costs least: who looks worse is out, and the others are looked at on more rows.

A race estimates how the mean loss changes without each unit from what the change was on each row when it was last
looked at, and from how that has moved on a few rows. These are drawn for each unit by itself, with a probability that
goes with how far its change can have moved there, which makes the estimate as exact as on several times as many rows
drawn alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from deadhead.data.calibration import Batch, choose
from deadhead.data.losses import Loss
from deadhead.gates.gates import Gates
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from deadhead.select.brute_force.closing import ClosingLosses
from deadhead.select.brute_force.search import Search, Unit

FEWEST = 16
"""The rows on which every unit is looked at in each round; fewer would not tell how far a unit's change spreads."""
GROWTH = 1.5
"""How many times as many rows the units that are left are looked at next: a small step loses little when the one before
almost told them apart."""
ANYWHERE = 0.1
"""What is added to how far each row can have moved, as a share of the mean: no row is left out that moves although
nothing foretold it."""
PRIOR = 32
"""As how many rows of a unit's own the spread of all units counts: of a few rows with heavy tails, the spread is mostly
found too small."""
TINY = 1e-30
"""Keeps quotients of zeros finite."""


class Race(Search):
    """The units in question, on as many rows as it takes.

    `changes[u, n]` is how the loss of row n changed without unit u when that was last looked at, NaN before. For a loss
    that is quadratic in the gates, the removal of v moves the change by `h_uv`, which is at most `sqrt(h_uu h_vv)`. So
    what a row can have moved since is thought to go with `s_un = sqrt(|changes[u, n]| sum_v |change_vn|)`, over the
    units v that went since; of a change never looked at, the mean loss and the row's stand in its place. Rows are drawn
    without replacement by order sampling (the smallest r_n / s_un first, r uniform), and with inclusion probability
    `pi_n = min(1, k s_un)` the mean change is `mean_n changes[u, n] + sum_drawn (now - changes[u, n]) / (pi_n rows)`.
    Its error is that of Hajek for such draws, the spread of `(now - changes) / s` weighed with the median of all units.
    """

    def __init__(
        self,
        network: Network,
        groups: Sequence[Group],
        loss: Loss,
        batches: Sequence[Batch],
        *,
        seed: int,
        tolerance: float,
        confidence: float,
    ) -> None:
        super().__init__(network, groups, loss, batches)
        self.tolerance, self.confidence, self.seed = tolerance, confidence, seed
        self.place = {unit: i for i, unit in enumerate((g.name, u) for g in groups for u in range(g.size))}
        self.changes = torch.full((len(self.place), self.rows), math.nan)
        self.seen = torch.zeros(len(self.place), self.rows)
        self.losses = torch.zeros(self.rows, dtype=torch.float64)
        self.moved = torch.zeros(self.rows)

    def intact(self) -> float:
        self.losses = self._intact()
        self.moved = self.losses.abs().float()
        self.passes += 1
        self.work += 1
        return self.losses.mean().item()

    def state(self) -> dict[str, Tensor]:
        return {"changes": self.changes, "seen": self.seen, "losses": self.losses, "moved": self.moved}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.changes, self.seen, self.losses, self.moved = (state[name] for name in self.state())

    def next(self, order: Sequence[Unit]) -> tuple[Unit, float]:
        units = [(name, unit) for name, numbers in self.left(order).items() for unit in numbers]
        generator = torch.Generator().manual_seed(self.seed + len(order))
        ranks = torch.rand(self.rows, generator=generator, dtype=torch.float64)
        gates, looks, wanted, spread = self.gates(order), self._looks(units), 0, math.nan
        z = NormalDist().inv_cdf(1 - (1 - self.confidence) / max(1, len(units) - 1))  # Bonferroni: all comparisons hold
        enough = self.tolerance * abs(self.losses.mean().item())
        while wanted < self.rows and len(looks.units) > 1:
            wanted = max(FEWEST, math.ceil(GROWTH * wanted))
            wanted = wanted if 2 * wanted <= self.rows else self.rows
            self._look(gates, looks, ranks, wanted)
            change, error, scale, free = self._estimates(looks)
            if math.isnan(spread):
                spread = (error / scale.clamp(min=TINY)).median().item()
            error = ((free * error.square() + PRIOR * (spread * scale).square()) / (free + PRIOR)).sqrt()
            best = int(change.argmin())
            ahead = change[best] - change + z * (error.square() + error[best].square()).sqrt()
            stays = (ahead > enough) & (wanted < self.rows)
            stays[best] = True
            self._keep(looks.of(~stays))
            looks = looks.of(stays)
        self._look(gates, looks, ranks, self.rows)
        self._keep(looks)
        after = torch.empty_like(self.losses)
        after[looks.rows[0]] = looks.losses[0]
        self.moved += (after - self.losses).abs().float()
        self.losses = after
        return looks.units[0], after.mean().item()

    def _looks(self, units: list[Unit]) -> Looks:
        """No looks yet, at each of the units."""
        places = torch.tensor([self.place[unit] for unit in units])
        known = self.changes[places].abs().nan_to_num(nan=self.losses.abs().mean().item())
        size = known.mul_(self.moved - self.seen[places]).sqrt_()
        size += ANYWHERE * size.mean(1, keepdim=True) + TINY
        rows, losses = torch.zeros(len(units), 0, dtype=torch.long), torch.zeros(len(units), 0, dtype=torch.float64)
        return Looks(units, places, size, rows, losses)

    def _look(self, gates: Gates, looks: Looks, ranks: Tensor, wanted: int) -> None:
        """Look at each unit on `wanted` rows, those where it was looked at included."""
        done = looks.rows.shape[1]
        rows = (ranks / looks.size).topk(wanted, largest=False).indices
        losses = self._losses(gates, looks.units, rows[:, done:])
        looks.rows, looks.losses = rows, torch.cat([looks.losses, losses], 1)

    def _keep(self, looks: Looks) -> None:
        """Remember what the looks have shown."""
        now = looks.losses - self.losses[looks.rows]
        self.changes[looks.places[:, None], looks.rows] = now.float()
        self.seen[looks.places[:, None], looks.rows] = self.moved[looks.rows]

    def _estimates(self, looks: Looks) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For each unit: the change of the mean loss without it; its standard error; what the error is if the change
        has moved by `s_n` on each row; and how many of the rows were left to chance."""
        before = self.changes[looks.places].nan_to_num_()
        chance = inclusion(looks.size, looks.rows)
        moved = looks.losses - self.losses[looks.rows] - before.gather(1, looks.rows)
        total, error, free = horvitz_thompson(moved, chance)
        scale = ((1 - chance) * (looks.size.gather(1, looks.rows) / chance).square()).sum(1).sqrt()
        return before.mean(1, dtype=torch.float64) + total / self.rows, error / self.rows, scale / self.rows, free

    def _losses(self, gates: Gates, units: Sequence[Unit], rows: Tensor) -> Tensor:
        """The loss without each unit on its rows, in the shape of `rows`: (units, rows each)."""
        found = torch.zeros(rows.numel(), dtype=torch.float64)
        numbers = torch.tensor([number for _, number in units])[:, None].expand_as(rows).flatten()
        names = list(dict.fromkeys(name for name, _ in units))
        group = torch.tensor([names.index(name) for name, _ in units])[:, None].expand_as(rows).flatten()
        start, flat = 0, rows.flatten()
        for batch in self.batches:
            inside = ((flat >= start) & (flat < start + batch.rows)).nonzero()[:, 0]
            if len(inside):
                distinct, place = (flat[inside] - start).unique(return_inverse=True)  # type: ignore[no-untyped-call]
                closing = ClosingLosses(gates, choose(batch, distinct), self.groups, self.parts)
                asked: list[int] = group[inside].unique().tolist()  # type: ignore[no-untyped-call]
                closing.hold([names[which] for which in asked])
                for which in asked:
                    mine = group[inside] == which
                    losses = closing.closing(names[which], numbers[inside[mine]], place[mine])
                    found[inside[mine]] = losses.double().cpu()
                self.passes += closing.computed / self.rows
                self.work += closing.work / self.rows
            start += batch.rows
        return found.reshape(rows.shape)


@dataclass
class Looks:
    """Looks at units in one round: their `places` among all; `size` is `s_n` of each unit, (units, all rows); `losses`
    were found on `rows`, (units, rows each)."""

    units: list[Unit]
    places: Tensor
    size: Tensor
    rows: Tensor
    losses: Tensor

    def of(self, which: Tensor) -> Looks:
        """The looks at some of the units."""
        units = [unit for unit, mine in zip(self.units, which.tolist(), strict=True) if mine]
        return Looks(units, self.places[which], self.size[which], self.rows[which], self.losses[which])


def inclusion(size: Tensor, rows: Tensor) -> Tensor:
    """The probability of each of `rows`, (units, rows each), to be drawn by size, (units, all rows): `min(1, k size)`,
    with k such that they sum up to as many rows as were drawn."""
    wanted = rows.shape[1]
    if wanted == size.shape[1]:
        return torch.ones(rows.shape, dtype=torch.float64)
    largest = size.topk(wanted).values.double()
    rest = size.sum(1, keepdim=True, dtype=torch.float64) - largest.cumsum(1) + largest
    fewer = wanted - torch.arange(wanted)
    certain = (fewer * largest <= rest).int().argmax(1, keepdim=True)
    return (size.gather(1, rows) * (fewer[certain] / rest.gather(1, certain))).clamp(max=1)


def horvitz_thompson(values: Tensor, chance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each line of values that were drawn: the sum over all rows, its standard error (Hajek's, for draws of a fixed
    number of rows), and how many of the draws were left to chance."""
    expanded, doubt = values / chance, 1 - chance
    free = (doubt > 0).sum(1)
    middle = (doubt * expanded).sum(1, keepdim=True) / doubt.sum(1, keepdim=True).clamp(min=TINY)
    variance = (doubt * (expanded - middle).square()).sum(1) * free / (free - 1).clamp(min=1)
    return expanded.sum(1), variance.sqrt(), free
