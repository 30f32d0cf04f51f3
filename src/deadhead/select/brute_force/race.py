"""A race for the unit without which the loss is smallest: units that are worse are dropped, the others are tried on
more samples.

A race estimates how the mean loss changes without each unit from the change on each sample when the unit was last tried
on it, and from how far that has moved on a few samples. These are drawn for each unit by itself, with a probability
proportional to how far its change can have moved there, which makes the estimate as exact as on several times as many
samples drawn uniformly.
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

MINIMUM_SAMPLES = 16
"""On how many samples every unit is tried in each round; fewer would not show how far a unit's change spreads."""
GROWTH = 1.5
"""On how many times as many samples the remaining units are tried next: a small factor costs little where the samples
before almost decided."""
FLOOR = 0.1
"""What is added to how far each sample can have moved, as a fraction of the mean, so that samples are drawn that move
although nothing predicted it."""
PRIOR = 32
"""As how many samples of a unit's own the spread over all units counts: the spread of a few samples with heavy tails is
mostly underestimated."""
TINY = 1e-30
"""Keeps quotients of zeros finite."""


class Race(Search):
    """The search that tries each unit on as many samples as it takes.

    For a loss that is quadratic in the gates, the removal of unit v moves the change of the loss without unit u by
    `h_uv`, which is at most `sqrt(h_uu h_vv)`. So the change on sample n is assumed to have moved since in proportion
    to `s_un = sqrt(|changes[u, n]| sum_v |change_vn|)`, over the units v removed since; for a change that was never
    tried, the mean loss and the sample's take its place. Samples are drawn without replacement by order sampling (the
    smallest r_n / s_un first, r uniform). With inclusion probability `pi_n = min(1, k s_un)`, the mean change of N
    samples is `mean_n changes[u, n] + sum_drawn (now - changes[u, n]) / (pi_n N)`. Its error is Hajek's for such draws,
    the spread of `(now - changes) / s` weighted with the median over all units.

    Attributes:
        changes: (units, samples): how the loss of a sample changed without a unit when that was last tried, NaN before.
        seen: (units, samples): `moved` of the sample at that time.
        losses: (samples,): the losses of the network as pruned so far.
        moved: (samples,): the sum of the absolute changes of each sample's loss by the removals so far.
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
        self.changes = torch.full((len(self.place), self.samples), math.nan)
        self.seen = torch.zeros(len(self.place), self.samples)
        self.losses = torch.zeros(self.samples, dtype=torch.float64)
        self.moved = torch.zeros(self.samples)

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
        units = [(name, unit) for name, numbers in self.removable(order).items() for unit in numbers]
        generator = torch.Generator().manual_seed(self.seed + len(order))
        ranks = torch.rand(self.samples, generator=generator, dtype=torch.float64)
        gates, trials, wanted, spread = self.gates(order), self._no_trials(units), 0, math.nan
        z = NormalDist().inv_cdf(1 - (1 - self.confidence) / max(1, len(units) - 1))  # Bonferroni: all comparisons hold
        enough = self.tolerance * abs(self.losses.mean().item())
        while wanted < self.samples and len(trials.units) > 1:
            wanted = max(MINIMUM_SAMPLES, math.ceil(GROWTH * wanted))
            wanted = wanted if 2 * wanted <= self.samples else self.samples
            self._try_on(gates, trials, ranks, wanted)
            change, error, scale, drawn = self._estimates(trials)
            if math.isnan(spread):
                spread = (error / scale.clamp(min=TINY)).median().item()
            error = ((drawn * error.square() + PRIOR * (spread * scale).square()) / (drawn + PRIOR)).sqrt()
            best = int(change.argmin())
            ahead = change[best] - change + z * (error.square() + error[best].square()).sqrt()
            may_be_best = (ahead > enough) & (wanted < self.samples)
            may_be_best[best] = True
            self._remember(trials.of(~may_be_best))
            trials = trials.of(may_be_best)
        self._try_on(gates, trials, ranks, self.samples)
        self._remember(trials)
        after = torch.empty_like(self.losses)
        after[trials.samples[0]] = trials.losses[0]
        self.moved += (after - self.losses).abs().float()
        self.losses = after
        return trials.units[0], after.mean().item()

    def _no_trials(self, units: list[Unit]) -> Trials:
        """The trials of each unit at the start of a round: none."""
        places = torch.tensor([self.place[unit] for unit in units])
        known = self.changes[places].abs().nan_to_num(nan=self.losses.abs().mean().item())
        size = known.mul_(self.moved - self.seen[places]).sqrt_()
        size += FLOOR * size.mean(1, keepdim=True) + TINY
        samples, losses = torch.zeros(len(units), 0, dtype=torch.long), torch.zeros(len(units), 0, dtype=torch.float64)
        return Trials(units, places, size, samples, losses)

    def _try_on(self, gates: Gates, trials: Trials, ranks: Tensor, wanted: int) -> None:
        """Try each unit on `wanted` samples, those on which it was tried before among them."""
        done = trials.samples.shape[1]
        samples = (ranks / trials.size).topk(wanted, largest=False).indices
        losses = self._losses(gates, trials.units, samples[:, done:])
        trials.samples, trials.losses = samples, torch.cat([trials.losses, losses], 1)

    def _remember(self, trials: Trials) -> None:
        """Remember the changes of the loss that trials have measured."""
        now = trials.losses - self.losses[trials.samples]
        self.changes[trials.places[:, None], trials.samples] = now.float()
        self.seen[trials.places[:, None], trials.samples] = self.moved[trials.samples]

    def _estimates(self, trials: Trials) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For each unit: the change of the mean loss without it; its standard error; what the error is if the change
        has moved by `s_n` on each sample; and how many of the samples were drawn by chance."""
        before = self.changes[trials.places].nan_to_num_()
        chance = inclusion(trials.size, trials.samples)
        moved = trials.losses - self.losses[trials.samples] - before.gather(1, trials.samples)
        total, error, drawn = horvitz_thompson(moved, chance)
        scale = ((1 - chance) * (trials.size.gather(1, trials.samples) / chance).square()).sum(1).sqrt()
        mean = before.mean(1, dtype=torch.float64) + total / self.samples
        return mean, error / self.samples, scale / self.samples, drawn

    def _losses(self, gates: Gates, units: Sequence[Unit], samples: Tensor) -> Tensor:
        """The loss without each unit on its samples, in the shape of `samples`: (units, samples each)."""
        losses = torch.zeros(samples.numel(), dtype=torch.float64)
        numbers = torch.tensor([number for _, number in units])[:, None].expand_as(samples).flatten()
        names = list(dict.fromkeys(name for name, _ in units))
        group = torch.tensor([names.index(name) for name, _ in units])[:, None].expand_as(samples).flatten()
        start, flat = 0, samples.flatten()
        for batch in self.batches:
            inside = ((flat >= start) & (flat < start + batch.rows)).nonzero()[:, 0]
            if len(inside):
                distinct, place = (flat[inside] - start).unique(return_inverse=True)  # type: ignore[no-untyped-call]
                closing = ClosingLosses(gates, choose(batch, distinct), self.groups, self.parts)
                asked: list[int] = group[inside].unique().tolist()  # type: ignore[no-untyped-call]
                closing.hold([names[which] for which in asked])
                for which in asked:
                    mine = group[inside] == which
                    closed = closing.closing(names[which], numbers[inside[mine]], place[mine])
                    losses[inside[mine]] = closed.double().cpu()
                self.passes += closing.computed / self.samples
                self.work += closing.work / self.samples
            start += batch.rows
        return losses.reshape(samples.shape)


@dataclass
class Trials:
    """The trials of units in one round.

    Attributes:
        units: the units.
        places: (units,): their places among all.
        size: (units, all samples): `s_n` of each unit.
        samples: (units, samples each): on which samples each unit was tried.
        losses: (units, samples each): the losses without it.
    """

    units: list[Unit]
    places: Tensor
    size: Tensor
    samples: Tensor
    losses: Tensor

    def of(self, which: Tensor) -> Trials:
        """The trials of some of the units."""
        units = [unit for unit, mine in zip(self.units, which.tolist(), strict=True) if mine]
        return Trials(units, self.places[which], self.size[which], self.samples[which], self.losses[which])


def inclusion(size: Tensor, samples: Tensor) -> Tensor:
    """The probabilities with which samples are drawn by size: `min(1, k size)`, with k such that those of all samples
    sum up to as many as were drawn.

    Args:
        size: (units, all samples).
        samples: (units, samples each), those that were drawn.

    Returns:
        (units, samples each).
    """
    wanted = samples.shape[1]
    if wanted == size.shape[1]:
        return torch.ones(samples.shape, dtype=torch.float64)
    largest = size.topk(wanted).values.double()
    rest = size.sum(1, keepdim=True, dtype=torch.float64) - largest.cumsum(1) + largest
    fewer = wanted - torch.arange(wanted)
    certain = (fewer * largest <= rest).int().argmax(1, keepdim=True)
    return (size.gather(1, samples) * (fewer[certain] / rest.gather(1, certain))).clamp(max=1)


def horvitz_thompson(values: Tensor, chance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The Horvitz-Thompson estimate of a sum over all samples, from values of those that were drawn.

    Args:
        values: (units, samples each), the values that were drawn.
        chance: (units, samples each), their inclusion probabilities.

    Returns:
        For each unit the sum, its standard error (Hajek's, for draws of a fixed number of samples), and how many of the
        samples were drawn by chance.
    """
    expanded, doubt = values / chance, 1 - chance
    drawn = (doubt > 0).sum(1)
    middle = (doubt * expanded).sum(1, keepdim=True) / doubt.sum(1, keepdim=True).clamp(min=TINY)
    variance = (doubt * (expanded - middle).square()).sum(1) * drawn / (drawn - 1).clamp(min=1)
    return expanded.sum(1), variance.sqrt(), drawn
