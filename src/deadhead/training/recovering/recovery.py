"""A recovery that runs: its steps, what is measured after each epoch, and the checkpoint from which it goes on."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deadhead.data.calibration import Batch
from deadhead.errors import LoadError
from deadhead.files import json_text, write_together
from deadhead.graph.network import device_of
from deadhead.progress import Progress
from deadhead.training.aside import in_mode
from deadhead.training.randomness import seed_all
from deadhead.training.recovering.batches import Source
from deadhead.training.recovering.checkpoint import (
    copied,
    digest,
    load_checkpoint,
    optimizer_state,
    put,
    put_optimizer_state,
    save_checkpoint,
    tensors_of,
)
from deadhead.training.recovering.objective import Objective, measured
from deadhead.training.recovering.recipe import Settings
from deadhead.training.recovering.recovered import Epoch

CHECKPOINT, HISTORY = "recovery.safetensors", "history.json"
CHECKED_EVERY = 20
"""Steps after which the loss is looked at on an accelerator, where each look waits for it."""


@dataclass
class At:
    """How far a recovery is.

    Attributes:
        epoch: the index of the epoch that is trained.
        step: the index of its next batch.
        summed: the sum of the losses of its samples so far.
        samples: how many those are.
        seconds: the duration of the epoch so far.
        history: what was measured.
        best_epoch: the epoch whose weights are `best`.
        best: the weights that are returned.
        stopped: why training ended early.
        is_finished: whether it ended.
    """

    best: dict[str, Tensor]
    epoch: int = 0
    step: int = 0
    summed: float = 0.0
    samples: int = 0
    seconds: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    stopped: str | None = None
    is_finished: bool = False


@dataclass
class Recovery:
    """One recovery.

    Attributes:
        model: what is trained.
        optimizer: what trains it.
        objective: the loss.
        source: what is trained on.
        held: what is held out, or None.
        settings: how.
        progress: called with (step, done, total), in batches.
    """

    model: nn.Module
    optimizer: Optimizer
    objective: Objective
    source: Source
    held: Source | None
    settings: Settings
    progress: Progress | None = None

    def __post_init__(self) -> None:
        self.device = device_of(self.model)
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.steps = self.source.steps()
        self.call = {
            **self.settings.texts(),
            "model": type(self.model).__name__,
            "loss": self.objective.loss.name,
            "optimizer": type(self.optimizer).__name__,
            "learning rates": str(self.rates),
            "batches": str(self.steps),
        }
        closure = inspect.signature(type(self.optimizer).step).parameters.get("closure")
        self.needs_closure = closure is not None and closure.default is inspect.Parameter.empty

    def run(self) -> At:
        """Train to the end, from a checkpoint where there is one, and put the best weights into the model."""
        at = self._resumed() or self._started()
        with in_mode(self.model, training=True):
            while not at.is_finished:
                self._epoch(at)
                at.is_finished = at.stopped is not None or at.epoch == self.settings.epochs
                self._save(at)
        put(self.model, at.best)
        return at

    def _started(self) -> At:
        begin = time.perf_counter()
        if self.settings.folder is not None:
            self.call["start"] = digest(tensors_of(self.model))
        loss, right = self._measured()
        at = At(copied(self.model))
        at.history.append(Epoch(0, None, loss, right, time.perf_counter() - begin))
        return at

    def _measured(self) -> tuple[float | None, float | None]:
        """Loss and accuracy of the held-out samples; neither where there are none."""
        if self.held is None:
            return None, None
        seed_all(self.settings.seed, "measuring")
        return measured(self.objective, self.model, self.held.in_order(), self.device)

    def _epoch(self, at: At) -> None:
        """Train the rest of an epoch and measure the network after it."""
        begin = time.perf_counter() - at.seconds
        settings = self.settings
        summed = torch.tensor(at.summed, dtype=torch.float64, device=self.device)
        self._report(at)
        for batch in self.source.epoch(at.epoch, at.step):
            seed_all(settings.seed, "step", at.epoch, at.step)
            self._set_rates(at)
            summed += self._step(batch.to(self.device))
            at.step += 1
            at.samples += batch.rows
            self._report(at)
            is_saved = settings.folder is not None and at.step % settings.save_every == 0
            if is_saved or self.device.type == "cpu" or at.step % CHECKED_EVERY == 0:
                at.summed, at.seconds = summed.item(), time.perf_counter() - begin
                if not math.isfinite(at.summed):
                    break
                if is_saved:
                    self._save(at)
        at.summed = summed.item()
        if not math.isfinite(at.summed):
            at.stopped = _not_finite("training loss", at.epoch + 1)
            return
        loss, right = self._measured()
        if loss is not None and not math.isfinite(loss):
            at.stopped = _not_finite("held-out loss", at.epoch + 1)
            return
        self._note(at, Epoch(at.epoch + 1, at.summed / at.samples, loss, right, time.perf_counter() - begin))

    def _note(self, at: At, epoch: Epoch) -> None:
        """Add an epoch to the history, keep its weights where they are the best, and go to the next."""
        at.history.append(epoch)
        best, patience = at.history[at.best_epoch].held_out_loss, self.settings.patience
        if best is None or epoch.held_out_loss is None or not best <= epoch.held_out_loss:
            at.best_epoch, at.best = epoch.number, copied(self.model)
        elif patience is not None and epoch.number - at.best_epoch >= patience and epoch.number < self.settings.epochs:
            at.stopped = (
                f"Training stopped after epoch {epoch.number}: the held-out loss has not been lower than after epoch "
                f"{at.best_epoch} for {patience} epochs."
            )
        at.epoch, at.step, at.summed, at.samples, at.seconds = at.epoch + 1, 0, 0.0, 0, 0.0

    def _set_rates(self, at: At) -> None:
        part = (at.epoch + (at.step / self.steps if self.steps else 0.0)) / self.settings.epochs
        set_rates(self.optimizer, [rate * self.settings.factor(min(part, 1.0)) for rate in self.rates])

    def _step(self, batch: Batch) -> Tensor:
        """One step of the optimizer; the sum of the losses of the batch before it."""
        sums: list[Tensor] = []

        def losses() -> Tensor:
            self.model.zero_grad(set_to_none=True)
            each, _ = self.objective(self.model, batch)
            sums.append(each.detach().double().sum())
            mean = each.mean()
            torch.autograd.backward(mean)
            if self.settings.clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
            return mean

        if self.needs_closure:
            self.optimizer.step(losses)  # type: ignore[arg-type]
        else:
            losses()
            self.optimizer.step()
        return sums[0]

    def _report(self, at: At) -> None:
        if self.progress is not None:
            steps = self.steps or 0
            total = steps * self.settings.epochs
            self.progress("recover", min(at.epoch * steps + at.step, total) if total else at.step, total)

    def _save(self, at: At) -> None:
        """Write the checkpoint: whole, in one rename."""
        if self.settings.folder is None:
            return
        facts = {**vars(at), "history": [asdict(epoch) for epoch in at.history]}
        self.call["result"] = digest(at.best) if at.is_finished else ""
        value = {"at": facts, "call": self.call}
        if not at.is_finished:
            value |= {"model": copied(self.model), "optimizer": optimizer_state(self.optimizer)}
        save_checkpoint(self.settings.folder / CHECKPOINT, value)
        text = json_text({"history": facts["history"], "best": at.best_epoch, "stopped": at.stopped}, indent=1)
        write_together({self.settings.folder / HISTORY: text})

    def _resumed(self) -> At | None:
        """Where an earlier run of the same call was, with model and optimizer as they were; None without one."""
        folder = self.settings.folder
        if folder is None or not (folder / CHECKPOINT).exists():
            return None
        saved = load_checkpoint(folder / CHECKPOINT)
        try:
            self._check_call(saved["call"], folder)
            at = At(**{**saved["at"], "history": [Epoch(**epoch) for epoch in saved["at"]["history"]]})
            if not at.is_finished:
                put(self.model, saved["model"])
                put_optimizer_state(self.optimizer, saved["optimizer"])
        except (KeyError, TypeError, ValueError) as error:
            raise LoadError(f"{folder} holds no recovery that can go on: {error}; give another folder.") from error
        self.call = saved["call"]
        return at

    def _check_call(self, saved: Mapping[str, str], folder: Path) -> None:
        for what, value in self.call.items():
            if saved.get(what) != value:
                raise LoadError(
                    f"{folder} holds another recovery, with {what} {saved.get(what)} where it is {value} now: give "
                    "another folder, or the same arguments."
                )
        if digest(tensors_of(self.model)) not in (saved["start"], saved["result"]):
            raise LoadError(
                f"{folder} holds the recovery of a network with other weights: give another folder, or the network "
                "that it began with."
            )


def set_rates(optimizer: Optimizer, rates: list[float]) -> None:
    """Set the learning rate of each group of an optimizer."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _not_finite(what: str, epoch: int) -> str:
    return (
        f"Training stopped in epoch {epoch}: the {what} is not finite (NaN or infinity); the best weights before it "
        "are kept. Lower lr, or give clip=1."
    )
