"""The oracle: the unit whose removal costs least goes, again and again, by the loss itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from deadhead.data.calibration import count
from deadhead.data.losses import as_loss
from deadhead.data.opened import opened
from deadhead.errors import BudgetError, DataError
from deadhead.files import write_together
from deadhead.gates.batched import Stacked
from deadhead.graph.network import Network
from deadhead.progress import Progress, track
from deadhead.select.brute_force.closing import closing_work
from deadhead.select.brute_force.race import Race
from deadhead.select.brute_force.search import Search, Unit
from deadhead.select.plan import Plan, plan_of


@dataclass
class Removal:
    """The order in which units were removed, and the mean loss: `losses[0]` of the intact network, `losses[t]` after t
    removals. `passes` counts the losses of single samples that were computed, in passes over the data; `work` the
    multiply-adds of linear and convolutional layers, in forward passes over the data: a replay from the middle is less
    than one."""

    order: list[Unit] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    passes: float = 0.0
    work: float = 0.0

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
    confidence: float = 0.9,
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
    passes, made cheaper by replaying from the middle. Otherwise the units race (`race.py`): each is
    looked at on a few rows, drawn by how far its change of the loss can have moved since it was last looked at there;
    who is worse than the best is out, and the others are looked at on more rows, until one is left or no other can be
    better by more than `tolerance` times the loss. `confidence` is that of all comparisons of a unit with the best in a
    round together, with estimates taken as normal. Memory is that of a few numbers for each unit and row.

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
    most = sum(group.size - group.minimum for group in groups)
    wanted = most if remove is None else round(remove * total) if isinstance(remove, float) else remove
    if not 1 <= wanted <= most:
        raise BudgetError(f"remove={remove} asks for {wanted} of {total} units; between 1 and {most} can go.")
    search: Search = (
        Exact(network, groups, asked, batches)
        if exact
        else Race(network, groups, asked, batches, seed=seed, tolerance=tolerance, confidence=confidence)
    )
    told = {"model": type(network.module).__name__, "units": [(g.name, g.size) for g in groups], "rows": count(batches)}
    told |= {"loss": asked.name, "exact": exact, "seed": seed, "tolerance": tolerance, "confidence": confidence}
    intact = search.intact()
    told |= {"intact": intact}  # tells other weights, or other data, of the same sizes
    result = _resumed(checkpoint, told, search)
    if not result.losses:
        result.losses.append(intact)
    for _ in track(progress, "oracle", range(len(result.order), wanted)):
        unit, after = search.next(result.order)
        result.order.append(unit)
        result.losses.append(after)
        result.passes, result.work = search.passes, search.work
        _write(checkpoint, told, search, result)
    return result


def _resumed(checkpoint: str | os.PathLike[str] | None, told: dict[str, Any], search: Search) -> Removal:
    """What a checkpoint holds, if there is one of this very run."""
    if checkpoint is None or not Path(checkpoint).exists():
        return Removal()
    try:
        with safe_open(str(checkpoint), "pt") as held:
            state = json.loads(held.metadata()["state"])
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
        result = Removal(
            [(str(name), int(unit)) for name, unit in state["order"]], state["losses"], state["passes"], state["work"]
        )
        same = state["run"] == json.loads(json.dumps(told))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{checkpoint} holds no state of an oracle; give another path or remove it.") from error
    if not same or tensors.keys() != search.state().keys():
        raise DataError(f"{checkpoint} is of another run (model, data, loss or options); give another path.")
    search.restore(tensors)
    search.passes, search.work = result.passes, result.work
    return result


def _write(checkpoint: str | os.PathLike[str] | None, told: dict[str, Any], search: Search, result: Removal) -> None:
    """Write the state of a run, so that a kill leaves the one of the round before."""
    if checkpoint is not None:
        state = json.dumps({"run": told, **asdict(result)})
        write_together({Path(checkpoint): save(search.state(), {"state": state})})


class Exact(Search):
    """Every unit that is left, on all rows."""

    def next(self, order: Sequence[Unit]) -> tuple[Unit, float]:
        gates, left = self.gates(order), self.left(order)
        totals = {name: torch.zeros(len(units), dtype=torch.float64) for name, units in left.items()}
        for batch in self.batches:
            stacked = Stacked(gates, batch, self.groups, self.parts)
            tensors, traced = gates.traced(batch.to(self.network.device()))
            self.work += batch.rows / self.rows
            for name, units in left.items():
                totals[name] += stacked.closing(name, units).double().sum(1).cpu()
                part = self.parts.of(traced, name, tensors)
                self.work += len(units) * closing_work(traced, part, name) * batch.rows / self.rows
        self.passes += sum(map(len, left.values())) + 1
        best = min(left, key=lambda name: totals[name].min().item())
        place = int(totals[best].argmin())
        return (best, left[best][place]), totals[best][place].item() / self.rows
