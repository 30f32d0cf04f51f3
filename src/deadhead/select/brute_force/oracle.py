"""The oracle: remove the unit without which the loss is smallest, again and again, by brute force."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from deadhead.data.calibration import Batch, count
from deadhead.data.losses import Loss, as_loss
from deadhead.data.opened import opened
from deadhead.errors import BudgetError, DataError
from deadhead.files import write_together
from deadhead.gates.batched import Stacked
from deadhead.gates.gates import Gates
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from deadhead.progress import Progress, track
from deadhead.select.brute_force.closing import closing_work
from deadhead.select.brute_force.race import Race
from deadhead.select.brute_force.search import Search, Unit
from deadhead.select.plan import Plan, plan_of
from deadhead.text import counted


@dataclass
class Removal:
    """The order in which `oracle` removed units, and what that cost.

    Attributes:
        order: (group, unit), the first to be removed first.
        losses: the mean loss of the intact network, then after each removal.
        passes: the losses of single samples that were computed, in passes over the data.
        work: the multiply-adds of linear and convolutional layers, in forward passes over the data; a replay from the
            middle is less than one.

    Example:
        >>> Removal([("0", 3), ("0", 1)], [0.5, 0.6, 0.9]).plan(1).removed
        {'0': tensor([3])}
    """

    order: list[Unit] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    passes: float = 0.0
    work: float = 0.0

    def plan(self, removed: int) -> Plan:
        """The plan that removes the first `removed` units of the order; `deadhead.prune(..., plan=...)` takes it."""
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
    workers: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Removal:
    """Remove the unit without which the loss is smallest, then the next, and so on: brute force.

    With `exact`, every remaining unit is tried on all samples in every round, which gives the order of the plain loop
    over masked forward passes, at less cost by replays from the middle. Otherwise the units race: each is tried on a
    few samples, drawn by how far its change of the loss can have moved since it was last tried on them; units that are
    worse than the best are dropped, and the others are tried on more samples, until one remains or no other can be
    better by more than the tolerance. Memory is that of a few numbers for each unit and sample.

    Args:
        model_or_network: a module, traced with the first batch, or a `Network`; it is left as it was.
        data: any iterable of batches; read once.
        loss: a name, a torch.nn loss, or a callable (outputs, batch) to a loss per sample.
        remove: how many units are removed, or the fraction of all; None removes all but the minimum of each group.
        exact: whether every unit is tried on all samples; False: a race.
        tolerance: of a race: by how much another unit may be better than the one removed, as a fraction of the loss.
        confidence: of a race: the probability that all comparisons of a round with the best unit hold, with estimates
            taken as normal.
        only: remove units only of the groups whose module name matches one of these patterns.
        exclude: remove no units of the groups whose module name matches one of these patterns.
        checkpoint: a file to which the state is written after every round; a run that was stopped goes on from it with
            the same result.
        samples: the maximum number of samples of `data` that are read; None reads all.
        workers: without a race: how many batches are tried at the same time, each in a thread of its own; the result
            is the same to the bit.
        seed: of the draws of a race.
        progress: called with (step, done, total).

    Returns:
        `Removal`: the order, and the mean loss after each removal.

    Raises:
        BudgetError: where `remove` asks for more units than can be removed, or for none.
        DataError: where an argument is out of range, data cannot be read, or the checkpoint is of another run.
        LossError, TraceError: where the loss is not finite, or the model cannot be traced.

    Source:
        Wolfe et al. (2016), section 3.1 and Algorithm 2 with brute force.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
        >>> data = [(torch.randn(32, 2), torch.randint(2, (32,)))]
        >>> removal = oracle(model, data, loss="cross_entropy", remove=2)
        >>> len(removal.order), len(removal.losses)
        (2, 3)
    """
    asked = as_loss(loss)
    if not asked.is_per_sample and not exact:
        raise DataError(
            'A race compares the losses of samples, and loss="model" gives one for the batch: leave exact=True, or '
            "give another loss."
        )
    if not 0.5 < confidence < 1:
        raise DataError(f"confidence={confidence} is out of range: it lies between 0.5 and 1.")
    if tolerance < 0:
        raise DataError(f"tolerance={tolerance} is out of range: it is a number from 0 on.")
    if workers < 1:
        raise DataError(f"workers={workers} tries no batch at all: give at least 1.")
    _, batches, network = opened(model_or_network, data, asked, samples)
    groups = network.select(only, exclude)
    wanted = _number_of_removals(remove, groups)
    search: Search = (
        Exact(network, groups, asked, batches, workers)
        if exact
        else Race(network, groups, asked, batches, seed=seed, tolerance=tolerance, confidence=confidence)
    )
    intact = search.intact()
    run = {
        "model": type(network.module).__name__, "units": [(g.name, g.size) for g in groups], "rows": count(batches),
        "loss": asked.name, "exact": exact, "seed": seed, "tolerance": tolerance, "confidence": confidence,
        "intact": intact,  # another loss shows other weights, or other data, of the same sizes
    }  # fmt: skip
    result = _resumed(checkpoint, run, search)
    if not result.losses:
        result.losses.append(intact)
    for _ in track(progress, "oracle", range(len(result.order), wanted)):
        unit, after = search.next(result.order)
        result.order.append(unit)
        result.losses.append(after)
        result.passes, result.work = search.passes, search.work
        _write(checkpoint, run, search, result)
    return result


def _number_of_removals(remove: int | float | None, groups: Sequence[Group]) -> int:
    """How many units are to be removed."""
    total = sum(group.size for group in groups)
    maximum = sum(group.size - group.minimum for group in groups)
    wanted = maximum if remove is None else round(remove * total) if isinstance(remove, float) else remove
    if not 1 <= wanted <= maximum:
        raise BudgetError(
            f"remove={remove} asks for {wanted} of {counted(total, 'unit')}, and between 1 and {maximum} can "
            f"be removed."
        )
    return wanted


def _resumed(checkpoint: str | os.PathLike[str] | None, run: dict[str, Any], search: Search) -> Removal:
    """What a checkpoint holds, where there is one of this very run."""
    if checkpoint is None or not Path(checkpoint).exists():
        return Removal()
    try:
        with safe_open(str(checkpoint), "pt") as held:
            state = json.loads(held.metadata()["state"])
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
        result = Removal(
            [(str(name), int(unit)) for name, unit in state["order"]], state["losses"], state["passes"], state["work"]
        )
        same = state["run"] == json.loads(json.dumps(run))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{checkpoint} holds no state of an oracle; give another path or remove it.") from error
    if not same or tensors.keys() != search.state().keys():
        raise DataError(f"{checkpoint} is of another run (model, data, loss or options); give another path.")
    search.restore(tensors)
    search.passes, search.work = result.passes, result.work
    return result


def _write(checkpoint: str | os.PathLike[str] | None, run: dict[str, Any], search: Search, result: Removal) -> None:
    """Write the state of a run, so that a kill leaves the one of the round before."""
    if checkpoint is not None:
        state = json.dumps({"run": run, **asdict(result)})
        write_together({Path(checkpoint): save(search.state(), {"state": state})})


class Exact(Search):
    """The search that tries every remaining unit on all samples.

    Attributes:
        workers: how many batches are tried at the same time.
    """

    def __init__(
        self, network: Network, groups: Sequence[Group], loss: Loss, batches: Sequence[Batch], workers: int = 1
    ) -> None:
        super().__init__(network, groups, loss, batches)
        self.workers = workers

    def next(self, order: Sequence[Unit]) -> tuple[Unit, float]:
        gates, removable = self.gates(order), self.removable(order)
        totals = {name: torch.zeros(len(units), dtype=torch.float64) for name, units in removable.items()}
        for batch in self.batches:
            # What is replayed is found here, once: threads only read it.
            tensors, traced = gates.traced(batch.to(self.network.device()))
            self.work += batch.rows / self.samples
            for name, units in removable.items():
                part = self.parts.of(traced, name, tensors)
                self.work += len(units) * closing_work(traced, part, name) * batch.rows / self.samples
        for found in self._of_batches(gates, removable):
            for name, total in found.items():
                totals[name] += total
        self.passes += sum(map(len, removable.values())) + 1
        best = min(removable, key=lambda name: totals[name].min().item())
        place = int(totals[best].argmin())
        return (best, removable[best][place]), totals[best][place].item() / self.samples

    def _of_batches(self, gates: Gates, removable: Mapping[str, list[int]]) -> Iterator[dict[str, Tensor]]:
        """The summed loss of each batch without each unit, {group: (units,)}, batch after batch in their order."""

        @torch.inference_mode(False)
        def closed(batch: Batch) -> dict[str, Tensor]:
            stacked = Stacked(gates, batch, self.groups, self.parts)
            return {name: stacked.closing(name, units).double().sum(1).cpu() for name, units in removable.items()}

        if self.workers == 1 or len(self.batches) == 1:
            yield from map(closed, self.batches)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(closed, self.batches)
