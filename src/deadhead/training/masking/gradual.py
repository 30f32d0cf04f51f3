"""`Gradual`: pruning in rounds while the caller's loop trains."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from deadhead.data.calibration import read
from deadhead.data.losses import as_loss
from deadhead.errors import DataError
from deadhead.graph.network import Network
from deadhead.progress import Progress
from deadhead.pruning.pruned import Pruned
from deadhead.training.aside import aside
from deadhead.training.masking.masks import Masks
from deadhead.training.masking.schedule import WEIGHTS, Remaining, Schedule
from deadhead.training.wrapped import distributed_wrapper

CUT = ("end", "as it goes")


@dataclass(frozen=True)
class Round:
    """One round of a gradual prune.

    Attributes:
        epoch: how many epochs were done.
        step: how many steps were done.
        remaining: what the schedule asked to remain.
        closed: {group: how many units were closed now}.
        units: how many units are open now.
        weights: how many single weights are closed now.
        seconds: what the round took.
    """

    epoch: int
    step: int
    remaining: Remaining
    closed: dict[str, int]
    units: int
    weights: int
    seconds: float


class Gradual:
    """Prune a network in rounds while it trains in the caller's own loop.

    After the epochs or steps of a schedule, units (or single weights) are scored on a few batches, closed, and their
    means given to their consumers' biases; training goes on with what is open. Reading the batches leaves the random
    state as it was, so that a run without pruning from the same seed sees the same samples.

    Args:
        model: the module, or a `Network` traced from it; it is trained and pruned in place.
        optimizer: the optimizer that trains it, or several.
        data: batches to choose on, `(inputs, targets)` or the dicts that the model takes: a loader, or a list of a few
            batches; up to `samples` samples are read in each round.
        loss: a name, a torch.nn loss, or a callable (outputs, batch) to a loss for each sample.
        schedule: what remains after which epoch or step, `deadhead.Schedule`.
        criterion: what units are ranked by (`mrs` by default), or single weights (`magnitude` by default).
        cut: "end": units are closed, and cut by `finish`; "as it goes": they are cut in every round, so that the rest
            of the training is faster. Optimizer and module remain the same objects.
        compensate: what makes up for closed units, as in `Masks.prune`.
        samples: the maximum number of samples that are read in each round.
        seed: of whatever is drawn at random.
        example: what the module is called with; by default the inputs of the first batch.
        only: prune only the groups whose module name matches one of these patterns.
        exclude: do not prune the groups whose module name matches one of these patterns.
        distributed: whether other processes train the same network in step, as in `Masks`.
        progress: called with (step, done, total).
        options: further options of `Masks.prune`: criterion_options=, normalize=, round_to=, min_units=, ...

    Attributes:
        masks: the masks.
        epochs, steps: how many are done.
        rounds: what each round did.

    Source:
        Evci (2018), sections 2.2 and 4.2; Zhu and Gupta (2017).

    Example:
        >>> import deadhead as dh
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(2, 10), nn.ReLU(), nn.Linear(10, 2))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> data = [(torch.randn(16, 2), torch.randint(2, (16,))) for _ in range(4)]
        >>> gradual = Gradual(model, optimizer, data, loss="cross_entropy", schedule=Schedule({1: 0.8, 2: 0.4}))
        >>> for epoch in range(3):
        ...     for inputs, targets in data:
        ...         optimizer.zero_grad()
        ...         nn.functional.cross_entropy(model(inputs), targets).backward()
        ...         optimizer.step()
        ...         gradual.step()
        ...     gradual.epoch()
        >>> [round.units for round in gradual.rounds], gradual.finish().model[0].out_features
        ([8, 4], 4)
    """

    UNDISTURBED = True

    def __init__(
        self,
        model: nn.Module | Network,
        optimizer: Optimizer | Sequence[Optimizer],
        data: Iterable[Any],
        *,
        loss: Any,
        schedule: Schedule | Mapping[int, Remaining],
        criterion: str | None = None,
        cut: str = "end",
        compensate: str = "mean",
        samples: int = 512,
        seed: int = 0,
        example: Any = None,
        only: Sequence[str] = (),
        exclude: Sequence[str] = (),
        distributed: bool | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> None:
        if cut not in CUT:
            raise DataError(f"There is no cut={cut!r}; units are cut at the {CUT[0]!r} or {CUT[1]!r}.")
        if isinstance(data, Iterator):  # asked without iter(), for which a loader draws a random number
            raise DataError("data is read in every round, and this iterator can be read once: give a list or a loader.")
        self.data, self.loss = data, loss
        self.schedule = schedule if isinstance(schedule, Schedule) else Schedule(schedule)
        if distributed is None:
            distributed = distributed_wrapper(model) is not None
        if cut == "as it goes" and distributed:
            raise DataError(
                'DistributedDataParallel cannot follow a cut of its module, so that cut="as it goes" does not go with '
                'it; give cut="end".'
            )
        with aside():
            first = read(data, samples=2, labels_to_model=as_loss(loss).labels_to_model, batch_axis=_axis(model))
            if example is None and not isinstance(model, Network):
                example = first[0].inputs
            self.masks = Masks(model, optimizer, example=example, only=only, exclude=exclude, distributed=distributed)
            if self.schedule.budget != WEIGHTS:
                self.masks.prepare(first, progress)
        self.cut = cut
        self.epochs = self.steps = 0
        self.rounds: list[Round] = []
        self.progress = progress
        self._options = {"criterion": criterion, "samples": samples, "seed": seed, **options}
        if self.schedule.budget != WEIGHTS:
            self._options["compensate"] = compensate

    def step(self) -> None:
        """Say that the optimizer made a step; a round is due where the schedule counts steps and says so."""
        self.steps += 1
        if self.schedule.every == "step":
            self._reach(self.steps)

    def epoch(self) -> None:
        """Say that an epoch is done; a round is due where the schedule counts epochs and says so."""
        self.epochs += 1
        if self.schedule.every == "epoch":
            self._reach(self.epochs)

    def _reach(self, when: int) -> None:
        remaining = self.schedule.at(when)
        if remaining is None:
            return
        start, masks = time.perf_counter(), self.masks
        with aside():
            options = {**self._options, **self.schedule.options(remaining)}
            new = masks.prune(self.data, loss=self.loss, progress=self.progress, **options)
            if self.cut == "as it goes" and new:
                masks.cut(inplace=True, progress=self.progress)
        done = Round(
            self.epochs,
            self.steps,
            remaining,
            {name: len(units) for name, units in new.items()},
            sum(int((~units).sum()) for units in masks.units.values()),
            sum(int((~keep).sum()) for keep in masks.keep.values()),
            time.perf_counter() - start,
        )
        self.rounds.append(done)

    def finish(self, *, test: Iterable[Any] | None = None) -> Pruned:
        """End: cut what is closed and not cut yet, and report from the intact network on.

        The module and the optimizer of the training are left as they are with cut="end", where the result is a copy;
        with "as it goes" the result is the module itself.

        Args:
            test: data that no decision saw, to report on.
        """
        inplace = self.cut == "as it goes"
        with aside():
            pruned = self.masks.cut(self.data, loss=self.loss, test=test, inplace=inplace, progress=self.progress)
        self.masks.stop()
        return pruned

    def state_dict(self) -> dict[str, Any]:
        """The masks and where the schedule stands: for a checkpoint beside the module's and the optimizer's."""
        return {
            "masks": self.masks.state_dict(),
            "epochs": self.epochs,
            "steps": self.steps,
            "rounds": [asdict(each) for each in self.rounds],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; call it before the module's and the optimizer's own `load_state_dict`."""
        self.masks.load_state_dict(state["masks"])
        self.epochs, self.steps = state["epochs"], state["steps"]
        self.rounds = [Round(**each) for each in state["rounds"]]


def _axis(model: nn.Module | Network) -> int:
    return model.batch_axis if isinstance(model, Network) else 0
