"""Gradual pruning inside `transformers.Trainer`: `PruningCallback`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from deadhead.errors import DataError
from deadhead.files import write_together
from deadhead.integrations.driver import Driver, base_of, imported, reshape
from deadhead.integrations.own_loss import own_loss
from deadhead.pruning.pruned import Pruned
from deadhead.training.masking.gradual import Gradual
from deadhead.training.masking.schedule import Remaining, Schedule

LIBRARY = ("transformers",)
FILE = "deadhead.pt"
"""What a checkpoint's folder has of the pruning."""
ROUNDING = 1e-6
"""How far a number of epochs may be from a whole one."""


class PruningCallback(base_of(LIBRARY, "TrainerCallback")):  # type: ignore[misc]
    """Prune a model gradually while `transformers.Trainer` trains it.

    Args:
        schedule: what remains of the intact network after which epoch or step (of the optimizer).
        data: batches to choose on, mappings that the model takes, with `labels`: a list of a few batches, or a loader
            of its own, since the trainer's would lose its place.
        loss: a loss for each sample, as in `deadhead.Gradual`; by default that of which the model's own loss is the
            mean, found on the first sample (cross-entropy, of the next position too, squared error, binary
            cross-entropy). "model" takes the model's own number for a batch: enough for criteria that need no loss of
            single samples (activation_std, activation_mean, magnitude, random), and refused by mrs.
        options: those of `deadhead.Gradual`: criterion=, compensate=, samples=, only=, exclude=, seed=, ... With
            cut="as it goes" the model itself becomes smaller as training goes on.

    Attributes:
        gradual: the `deadhead.Gradual` that prunes; None before training begins.
        pruned: the result, `Pruned`; None before training ends.

    Raises:
        DeadheadError: transformers is not installed.

    Source:
        Evci (2018), section 4.2, for pruning in rounds during training.

    Example:
        >>> batches = [{"input_ids": torch.zeros(2, 4, dtype=torch.long), "labels": torch.tensor([0, 1])}]
        >>> callback = PruningCallback({1: 0.8, 2: 0.5}, batches, only=["*intermediate*"])
        >>> Trainer(model, args, train_dataset=rows, callbacks=[callback]).train()  # doctest: +SKIP
        >>> callback.pruned.save("smaller")  # doctest: +SKIP
    """

    def __init__(
        self, schedule: Schedule | Mapping[int, Remaining], data: Iterable[Any], loss: Any = None, **options: Any
    ) -> None:
        imported(LIBRARY, LIBRARY[0])
        super().__init__()
        self._driver = Driver(schedule, data, loss, options)
        self._checkpoint: Path | None = None
        self._model: nn.Module | None = None

    @property
    def gradual(self) -> Gradual | None:
        """What prunes; None before training begins."""
        return self._driver.gradual

    @property
    def pruned(self) -> Pruned | None:
        """The result; None before training ends."""
        return self._driver.pruned

    def resume(self, model: nn.Module, checkpoint: str | Path) -> None:
        """Give the intact model the shapes of a checkpoint, before a trainer is made of it that resumes from there.

        Needed where units were cut as it goes or biases were added, whose shapes the trainer's own loading would
        refuse, and where the checkpoint lies elsewhere than in the trainer's output folder.

        Args:
            model: the intact model, changed in place.
            checkpoint: the folder that `trainer.train(resume_from_checkpoint=...)` will get.

        Raises:
            DataError: no pruning was saved there.
        """
        self._checkpoint = Path(checkpoint)
        reshape(model, _read(self._checkpoint))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin, or go on from the checkpoint that the trainer resumes from."""
        if args.load_best_model_at_end:
            raise DataError(
                "load_best_model_at_end would put earlier weights, of units that are closed since, into the pruned "
                "model; set it to False."
            )
        self._model, driver = kwargs["model"], self._driver
        if state.global_step > 0:
            folder = self._checkpoint or Path(args.output_dir) / f"checkpoint-{state.global_step}"
            driver.state = _read(folder)
        with self._as_it_is():
            if driver.loss is None:
                driver.loss, driver.data = own_loss(self._model, driver.data)
            driver.begin(self._model, [_unwrapped(kwargs["optimizer"])], args.world_size > 1)
        self._catch_up(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count a step of the optimizer."""
        with self._as_it_is():
            self._driver.begun.step()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count an epoch, where it is a whole one."""
        self._catch_up(state)

    def _catch_up(self, state: Any) -> None:
        """Count the epochs that the trainer has done; a checkpoint may lie between a last step and the end of its
        epoch."""
        gradual = self._driver.begun
        with self._as_it_is():
            while (state.epoch or 0.0) + ROUNDING >= gradual.epochs + 1:
                gradual.epoch()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Add how many units are open and how many weights are closed."""
        if self.gradual is None:
            return
        for each in [logs, *state.log_history[-1:]]:
            if isinstance(each, dict):
                each.update(self._driver.numbers())

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the state of the pruning into the checkpoint's folder."""
        if args.should_save:
            buffer = io.BytesIO()
            torch.save(self._driver.begun.state_dict(), buffer)
            write_together({Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE: buffer.getvalue()})

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Cut what is closed: `pruned`."""
        with self._as_it_is():
            self._driver.end()

    @contextlib.contextmanager
    def _as_it_is(self) -> Iterator[None]:
        """A context in which the model has its own `forward`, without the one of mixed precision that accelerate puts
        before it."""
        attributes = vars(self._model)
        wrapped = attributes.pop("forward", None) if "_original_forward" in attributes else None
        try:
            yield
        finally:
            if wrapped is not None:
                attributes["forward"] = wrapped


def _unwrapped(optimizer: Any) -> Optimizer:
    """The optimizer inside that of accelerate."""
    while not isinstance(inner := getattr(optimizer, "optimizer", None), type(None)):
        optimizer = inner
    return optimizer  # type: ignore[no-any-return]


def _read(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    if not path.exists():
        raise DataError(
            f"Training goes on from {folder}, where no pruning was saved; name the folder by "
            "callback.resume(model, checkpoint), or begin anew."
        )
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
