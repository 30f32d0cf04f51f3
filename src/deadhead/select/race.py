"""Racing for the unit whose removal costs least: who looks worse is out, and the others are looked at on more rows.

A race estimates how the mean loss changes without each unit from what the change was on each row when it was last
looked at, and from how that has moved on a few rows. These are drawn for each unit by itself, with a probability that
goes with how far its change can have moved there, which makes the estimate as exact as on several times as many rows
drawn alike.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.calibration import Batch, choose, count
from deadhead.columns import CONVOLUTIONS, LINEAR
from deadhead.errors import LossError
from deadhead.gates import Gates
from deadhead.graph.labels import hint
from deadhead.graph.network import Network, Traced
from deadhead.graph.ops.registry import op_name
from deadhead.graph.units import Group
from deadhead.losses import Loss
from deadhead.select.plan import plan_of
from deadhead.stacked import MEMORY, Part, Parts, Stacked

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
Unit = tuple[str, int]


class Search(ABC):
    """The unit that goes next, round after round. `passes` counts losses of single samples, in passes over the data,
    `work` multiply-adds, in forward passes over the data."""

    def __init__(self, network: Network, groups: Sequence[Group], loss: Loss, batches: Sequence[Batch]) -> None:
        self.network, self.groups, self.loss, self.batches = network, groups, loss, batches
        self.rows, self.passes, self.work, self.parts = count(batches), 0.0, 0.0, Parts(network)

    @abstractmethod
    def next(self, order: Sequence[Unit]) -> tuple[Unit, float]:
        """The unit that goes next in the network without those of `order`, and the mean loss without it."""

    def intact(self) -> float:
        """The mean loss of the intact network: the first question of every search."""
        return self._intact().mean().item()

    def state(self) -> dict[str, Tensor]:
        """What a search has to hold, besides the order and the passes, to go on with the same result."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        assert state.keys() == self.state().keys()

    def left(self, order: Sequence[Unit]) -> dict[str, list[int]]:
        """The units of each group that can go, in the network without those of `order`."""
        gone = set(order)
        found = {group.name: [u for u in range(group.size) if (group.name, u) not in gone] for group in self.groups}
        return {group.name: found[group.name] for group in self.groups if len(found[group.name]) > group.least}

    def gates(self, order: Sequence[Unit]) -> Gates:
        return Gates(self.network, self.loss, closed=plan_of(order).alpha(self.network.groups))

    def _intact(self) -> Tensor:
        with torch.no_grad():
            gates = self.gates([])
            return torch.cat([gates.loss({}, batch).double().cpu() for batch in self.batches])


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
                apart = Apart(gates, choose(batch, distinct), self.groups, self.parts)
                asked: list[int] = group[inside].unique().tolist()  # type: ignore[no-untyped-call]
                apart.hold([names[which] for which in asked])
                for which in asked:
                    mine = group[inside] == which
                    losses = apart.closing(names[which], numbers[inside[mine]], place[mine])
                    found[inside[mine]] = losses.double().cpu()
                self.passes += apart.computed / self.rows
                self.work += apart.work / self.rows
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


class Apart:
    """The losses of a batch's samples, each with a unit of its own closed, from the middle of the network on.

    `computed` counts the losses, `work` the multiply-adds, in forward passes of one sample.
    """

    def __init__(self, gates: Gates, batch: Batch, groups: Sequence[Group], parts: Parts) -> None:
        self._gates, self._device = gates, gates.network.device()
        self._batch = batch.to(self._device)
        self._tensors, self._traced = gates.traced(self._batch)
        self._parts = {group.name: parts.of(self._traced, group.name, self._tensors) for group in groups}
        self._groups, self._known = groups, parts
        self._held: dict[fx.Node, Any] = {}
        self._whole = max(1, multiply_adds(self._traced.graph.calls))
        self.computed, self.work = 0, 0.0

    def hold(self, names: Sequence[str]) -> None:
        """Replay the network once, as far as the suffixes behind some groups need it."""
        kept: dict[fx.Node, Any] = {}
        for name in names:
            kept |= dict.fromkeys(self._parts[name].suffix.needed if self._stacks(name) else ())
        if kept:
            with torch.no_grad():
                edits = self._gates.edits(self._traced, {})
                self._traced.graph.run(self._tensors, self._gates.state, edits, until=list(kept), kept=kept)
            calls = self._traced.graph.calls
            last = max(place for place, node in enumerate(calls) if node in kept)
            self.work += self._batch.rows * multiply_adds(calls[: last + 1]) / self._whole
            self._held = kept

    def closing(self, name: str, units: Tensor, rows: Tensor) -> Tensor:
        """`L` of `rows[i]` with unit `units[i]` closed, for each i, once the group is held."""
        part = self._parts[name]
        with torch.no_grad():
            if self._stacks(name):
                self.computed += len(rows)
                self.work += len(rows) * multiply_adds(part.suffix.calls) / self._whole
                most = max(1, MEMORY // (4 * part.entries))
                chunks = zip(torch.split(units, most), torch.split(rows, most), strict=True)
                return torch.cat([self._chunk(name, part, *chunk) for chunk in chunks])
            found = torch.zeros(len(rows), dtype=torch.float64)
            for unit in units.unique().tolist():  # type: ignore[no-untyped-call]
                mine = (units == unit).nonzero()[:, 0]
                batch = choose(self._batch, rows[mine].to(self._device))
                stacked = Stacked(self._gates, batch, self._groups, self._known)
                found[mine] = stacked.closing(name, [unit])[0].double().cpu()
            self.computed += 2 * len(rows)  # the intact losses are computed on the way
            self.work += len(rows) * (1 + closing_work(self._traced, part, name))
            return found

    def _stacks(self, name: str) -> bool:
        """Whether the samples lie along the first axis of all that is read."""
        part, owners = self._parts[name], self._traced.rows.owners
        sites = self._traced.group(name).consumers
        return (
            part.stacks
            and self._gates.network.batch_axis == 0
            and all(part.suffix.owners[node] == "outer" for node in (*part.suffix.crossing, *part.suffix.needed))
            and all(owners.get((site.node, site.position)) == "outer" for site in sites)
        )

    def _chunk(self, name: str, part: Part, units: Tensor, rows: Tensor) -> Tensor:
        batch = choose(self._batch, rows.to(self._device))
        tensors = self._gates.network.flatten(batch.inputs)
        held = {node: _take(value, rows) for node, value in self._held.items()}
        held |= dict(zip(self._traced.graph.inputs, tensors, strict=True))
        alphas = torch.ones(len(units), self._traced.group(name).size)
        alphas[torch.arange(len(units)), units] = 0
        edits = self._gates.edits(self._traced, {name: alphas})
        outputs = part.suffix.run(held, tensors, self._gates.state, edits, 1, len(units))
        losses = self._gates.loss_function.per_sample(self._traced.output.fill(outputs), batch)
        if not torch.isfinite(losses).all():
            raise LossError(f"The loss {self._gates.loss_function.name} is not finite on this data.")
        return losses


def multiply_adds(nodes: Iterable[fx.Node]) -> int:
    """The multiply-adds of linear and convolutional nodes, and of products of activations, on the batch that was
    traced."""
    total = 0
    for node in nodes:
        name = op_name(node)
        if name in (*LINEAR, *CONVOLUTIONS, "bmm"):
            source = node.args[0 if name in ("linear", "mm", "matmul", "bmm") else 1]
            assert isinstance(source, fx.Node)
            read = source.meta["val"].shape
            each = math.prod(read[1:]) if name in CONVOLUTIONS else hint(read[-1])
            total += each * math.prod(hint(size) for size in node.meta["val"].shape)
    return total


def closing_work(traced: Traced, part: Part, name: str) -> float:
    """The multiply-adds of a sample's loss with one unit of a group closed, by `Stacked`, in forward passes."""
    whole, site = max(1, multiply_adds(traced.graph.calls)), part.moves
    if site is None or part.behind is None:
        return multiply_adds(part.suffix.calls) / whole
    columns = int((site.units >= 0).sum()) / traced.group(name).size
    return (multiply_adds([site.node]) * columns / len(site.units) + multiply_adds(part.behind.calls)) / whole


def _take(value: Any, rows: Tensor) -> Any:
    """The rows of an activation, or of each of several."""
    if isinstance(value, (tuple, list)):
        return type(value)(_take(each, rows) for each in value)
    return value.index_select(0, rows.to(value.device)) if isinstance(value, Tensor) and value.dim() else value


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
