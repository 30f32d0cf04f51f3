"""The oracle: the unit whose removal costs least goes, again and again, by the loss itself."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from deadhead.calibration import Batch, choose, count
from deadhead.errors import BudgetError, DataError
from deadhead.gates import Gates
from deadhead.graph.network import Network
from deadhead.graph.units import Group
from deadhead.losses import Loss, as_loss
from deadhead.progress import Progress, track
from deadhead.scores.criterion import opened
from deadhead.select.plan import Plan, plan_of
from deadhead.stacked import Parts, Stacked

FIRST = 0.01
"""The share of the rows on which the units of a race first meet in a round."""
FEWEST = 16
"""No race begins on fewer rows."""
Unit = tuple[str, int]


@dataclass
class Removal:
    """The order in which units were removed, and the mean loss: `losses[0]` of the intact network, `losses[t]` after t
    removals. `passes` counts the losses of single samples that were computed, in passes over the data."""

    order: list[Unit] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    passes: float = 0.0

    def plan(self, removed: int) -> Plan:
        """The plan that removes the first units of the order."""
        return plan_of(self.order[:removed])


@torch.inference_mode(False)
def oracle(
    model_or_network: nn.Module | Network,
    data: Iterable[Any],
    *,
    loss: Any,
    remove: int | float | None = None,
    exact: bool = True,
    tolerance: float = 1e-3,
    confidence: float = 0.95,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    samples: int | None = 4096,
    seed: int = 0,
    progress: Progress | None = None,
) -> Removal:
    """Remove the unit without which the loss is smallest, then the next, until `remove` units are gone: an integer
    counts them, a fraction is of all; None goes on until one unit of each group is left.

    `exact` looks at every unit that is left on all rows in every round: the order of the plain loop over masked forward
    passes, made cheaper by replaying from the middle (`stacked.py`). Otherwise the units race: after a first round on
    all rows, they meet on a few that are drawn by their weight, by how much more the loss changes without each than
    when it was last looked at, in paired differences; who is worse than the best at `confidence` is out, and the others
    meet on twice as many rows, until one is left or no other can be better by more than `tolerance` times the loss.
    Differences are taken as normal, and each comparison for itself, so `confidence` is nominal. Memory is that of a
    number for each unit and row.

    With `checkpoint`, the state is written there after every round, and a run that was stopped goes on from it with the
    same result. Raises `BudgetError` where nothing can be removed, `DataError` for a checkpoint of another run.

    Source: 002 section 3.1 and Algorithm 2 with brute force; racing as the design has it.

    >>> model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> data = [(torch.randn(32, 2), torch.randint(2, (32,)))]
    >>> found = oracle(model, data, loss="cross_entropy", remove=2)
    >>> len(found.order), len(found.losses)
    (2, 3)
    """
    asked = as_loss(loss)
    if not asked.is_per_sample and not exact:
        raise DataError('A race compares the losses of samples, and loss="model" gives one for the batch.')
    if not 0.5 < confidence < 1 or tolerance < 0:
        raise DataError("confidence must lie between 0.5 and 1, and tolerance must not be negative.")
    _, batches, network = opened(model_or_network, data, asked, samples)
    groups = network.select(only, exclude)
    total = sum(group.size for group in groups)
    most = sum(group.size - group.least for group in groups)
    wanted = most if remove is None else round(remove * total) if isinstance(remove, float) else remove
    if not 1 <= wanted <= most:
        raise BudgetError(f"remove={remove} asks for {wanted} of {total} units; between 1 and {most} can go.")
    ends = (
        Exact(network, groups, asked, batches)
        if exact
        else Race(network, groups, asked, batches, seed, tolerance, NormalDist().inv_cdf(confidence))
    )
    told = {"model": type(network.module).__name__, "units": [(g.name, g.size) for g in groups], "rows": count(batches)}
    told |= {"loss": asked.name, "exact": exact, "seed": seed, "tolerance": tolerance, "confidence": confidence}
    intact = ends.intact()
    told |= {"intact": intact}  # tells other weights, or other data, of the same sizes
    result = _resumed(checkpoint, told, ends)
    if not result.losses:
        result.losses.append(intact)
    for _ in track(progress, "oracle", range(len(result.order), wanted)):
        unit, after = ends.next(result.order)
        result.order.append(unit)
        result.losses.append(after)
        result.passes = ends.passes
        _write(checkpoint, told, ends, result)
    return result


def _resumed(checkpoint: str | os.PathLike[str] | None, told: dict[str, Any], ends: Exact) -> Removal:
    """What a checkpoint holds, if there is one of this very run."""
    if checkpoint is None or not Path(checkpoint).exists():
        return Removal()
    try:
        with safe_open(str(checkpoint), "pt") as held:
            state = json.loads(held.metadata()["state"])
            changes = held.get_tensor("changes") if "changes" in held.keys() else None  # noqa: SIM118
        result = Removal([(str(name), int(unit)) for name, unit in state["order"]], state["losses"], state["passes"])
        same = state["run"] == json.loads(json.dumps(told))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{checkpoint} holds no state of an oracle; give another path or remove it.") from error
    if not same:
        raise DataError(f"{checkpoint} is of another run (model, data, loss or options); give another path.")
    ends.passes, ends.changes, ends.loss_now = result.passes, changes, result.losses[-1]
    return result


def _write(checkpoint: str | os.PathLike[str] | None, told: dict[str, Any], ends: Exact, result: Removal) -> None:
    """Write the state of a run beside and rename it."""
    if checkpoint is None:
        return
    path = Path(checkpoint)
    beside = path.with_name(path.name + ".part")
    tensors = {} if ends.changes is None else {"changes": ends.changes}
    save_file(tensors, beside, {"state": json.dumps({"run": told, **asdict(result)})})
    os.replace(beside, path)


class Exact:
    """Every unit that is left, on all rows."""

    def __init__(self, network: Network, groups: Sequence[Group], loss: Loss, batches: Sequence[Batch]) -> None:
        self.network, self.groups, self.loss, self.batches = network, groups, loss, batches
        self.rows, self.passes, self.parts = count(batches), 0.0, Parts(network)
        self.changes: Tensor | None = None
        self.loss_now = 0.0

    def intact(self) -> float:
        with torch.no_grad():
            gates = Gates(self.network, self.loss)
            return sum(gates.loss({}, batch).double().sum().item() for batch in self.batches) / self.rows

    def left(self, order: Sequence[Unit]) -> dict[str, list[int]]:
        """The units of each group that can go, in the network without those of `order`."""
        gone = set(order)
        found = {group.name: [u for u in range(group.size) if (group.name, u) not in gone] for group in self.groups}
        return {group.name: found[group.name] for group in self.groups if len(found[group.name]) > group.least}

    def stacked(self, order: Sequence[Unit], batch: Batch) -> Stacked:
        closed = plan_of(order).alpha(self.network.groups)
        return Stacked(Gates(self.network, self.loss, closed=closed), batch, self.groups, self.parts)

    def next(self, order: Sequence[Unit]) -> tuple[Unit, float]:
        """The unit that goes next, and the mean loss without it."""
        left = self.left(order)
        totals = {name: torch.zeros(len(units), dtype=torch.float64) for name, units in left.items()}
        for batch in self.batches:
            stacked = self.stacked(order, batch)
            for name, units in left.items():
                totals[name] += stacked.closing(name, units).double().sum(1).cpu()
        self.passes += sum(map(len, left.values())) + 1
        best = min(left, key=lambda name: totals[name].min().item())
        place = int(totals[best].argmin())
        return (best, left[best][place]), totals[best][place].item() / self.rows


class Race(Exact):
    """The units in question, on as many rows as it takes.

    `changes[u, n]` is how the loss of row n changed without unit u when that was last looked at: in the first round,
    all are. The mean change now is the mean of what is known, and of how that has changed on rows that are drawn, those
    more often on which the least important units, and the one that went last, change the loss most.
    """

    def __init__(
        self,
        network: Network,
        groups: Sequence[Group],
        loss: Loss,
        batches: Sequence[Batch],
        seed: int,
        tolerance: float,
        z: float,
    ) -> None:
        super().__init__(network, groups, loss, batches)
        self.tolerance, self.z, self.seed = tolerance, z, seed
        self.place = {unit: i for i, unit in enumerate((g.name, u) for g in groups for u in range(g.size))}
        self.starts = list(itertools.accumulate([0, *(batch.rows for batch in batches)]))

    def next(self, order: Sequence[Unit]) -> tuple[Unit, float]:
        active = [(name, unit) for name, units in self.left(order).items() for unit in units]
        everything = torch.arange(self.rows)
        if self.changes is None:
            self.changes = torch.zeros(len(self.place), self.rows, dtype=torch.float64)
            intact = self._look(order, active, everything)[1]
            best = min(active, key=lambda unit: self._known(unit).sum().item())
            return best, (intact + self._known(best)).mean().item()
        generator = torch.Generator().manual_seed(self.seed + len(order))
        odds = self._odds(active, order)
        means = {unit: self._known(unit).mean().item() for unit in active}
        moved = {unit: torch.zeros(0, dtype=torch.float64) for unit in active}
        weights, best, wanted = torch.zeros(0, dtype=torch.float64), active[0], self.first
        while len(active) > 1:
            if 2 * wanted > self.rows:
                self._look(order, active, everything)
                best = min(active, key=lambda unit: self._known(unit).sum().item())
                break
            rows = torch.multinomial(odds, wanted - len(weights), replacement=True, generator=generator)
            before = {unit: self._known(unit)[rows].clone() for unit in active}
            changes, intact = self._look(order, active, rows)
            weights = torch.cat([weights, 1 / (self.rows * odds[rows])])
            for unit in active:
                moved[unit] = torch.cat([moved[unit], changes[unit] - before[unit]])
            now = {unit: means[unit] + (weights * moved[unit]).mean().item() for unit in active}
            best = min(active, key=now.__getitem__)
            ahead = {
                unit: now[best] - now[unit] + self.z * _error(weights * (moved[unit] - moved[best]))
                for unit in active
                if unit != best
            }
            active = [best, *(unit for unit, bound in ahead.items() if bound > 0)]
            if max(ahead.values()) <= self.tolerance * self.loss_now:
                break
            wanted *= 2
        intact = self._look(order, [best], everything)[1]
        return best, (intact + self._known(best)).mean().item()

    @property
    def first(self) -> int:
        return max(FEWEST, round(FIRST * self.rows))

    def _known(self, unit: Unit) -> Tensor:
        assert self.changes is not None
        return self.changes[self.place[unit]]

    def _odds(self, active: Sequence[Unit], order: Sequence[Unit]) -> Tensor:
        """How likely each row is drawn."""
        found = torch.stack([self._known(unit) for unit in active])
        least = found.mean(1).argsort()[: max(2, len(active) // 4)]
        size = found[least].square().mean(0).sqrt() + self._known(order[-1]).abs()
        return 0.8 * size / size.sum().clamp(min=1e-300) + 0.2 / self.rows

    def _look(self, order: Sequence[Unit], units: Sequence[Unit], rows: Tensor) -> tuple[dict[Unit, Tensor], Tensor]:
        """How the losses of some rows change without each of `units`, which is kept, and the losses as they are."""
        changes = {unit: torch.zeros(len(rows), dtype=torch.float64) for unit in units}
        intact = torch.zeros(len(rows), dtype=torch.float64)
        for batch, start in zip(self.batches, self.starts, strict=False):
            mine = ((rows >= start) & (rows < start + batch.rows)).nonzero()[:, 0]
            if not len(mine):
                continue
            index = rows[mine] - start
            whole = len(index) == batch.rows and bool((index == torch.arange(batch.rows)).all())
            stacked = self.stacked(order, batch if whole else choose(batch, index))
            intact[mine] = stacked.intact.double().cpu()
            for name in dict.fromkeys(name for name, _ in units):
                numbers = [number for group, number in units if group == name]
                for number, losses in zip(numbers, stacked.closing(name, numbers).double().cpu(), strict=True):
                    changes[name, number][mine] = losses - intact[mine]
        for unit in units:
            self._known(unit)[rows] = changes[unit]
        self.passes += (len(units) + 1) * len(rows) / self.rows
        if len(rows) == self.rows:
            self.loss_now = intact.mean().item()
        return changes, intact


def _error(values: Tensor) -> float:
    """The standard error of a mean."""
    return math.sqrt(values.var().item() / len(values)) if len(values) > 1 else math.inf
