"""`Recovered`: what `recover` gives."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from deadhead.drawing import KEPT, REMOVED, canvas
from deadhead.files import json_text
from deadhead.pruning.pruned import Pruned
from deadhead.text import counted, table

SHOWN = 12
"""The most epochs that are printed; of more, the first, the best and the last."""


@dataclass(frozen=True)
class Epoch:
    """What was measured at the end of an epoch.

    Attributes:
        number: 1 for the first; 0 is the network before training.
        train_loss: the mean loss of the epoch's batches, each before its step, in train mode; None for 0.
        held_out_loss: the mean loss of the held-out samples, in evaluation mode; None without any.
        accuracy: of the held-out samples, a fraction; None without any or without classes.
        seconds: the duration of the epoch, measuring included.
    """

    number: int
    train_loss: float | None
    held_out_loss: float | None
    accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class Recovered:
    """What `recover` returns; printed, it is a table of the epochs.

    Attributes:
        model: the network that was trained, with the weights of the best epoch.
        history: what was measured before training and after each epoch.
        best_epoch: the epoch with the lowest held-out loss, 0 for the network before training; without held-out samples
            the last one.
        stopped: why training ended before its last epoch; None where it did not.
        pruned: the `Pruned` that was given, whose model this is; None for a module. Its report still describes the
            prune.

    Example:
        >>> print(Recovered(nn.Linear(1, 1), (Epoch(0, None, 0.9, 0.5, 0.0), Epoch(1, 0.8, 0.4, 0.75, 1.5)), 1))
        Linear: the best of 1 epoch is epoch 1, with held-out loss 0.4 (before: 0.9); 1.5 s
        epoch  training loss  held-out loss  accuracy  seconds
            0              -            0.9    50.0 %      0.0
            1            0.8            0.4    75.0 %      1.5
    """

    model: nn.Module
    history: tuple[Epoch, ...]
    best_epoch: int
    stopped: str | None = None
    pruned: Pruned | None = None

    @property
    def best(self) -> Epoch:
        """What was measured at the best epoch."""
        return self.history[self.best_epoch]

    def __str__(self) -> str:
        first, seconds = self.history[0], sum(epoch.seconds for epoch in self.history)
        measured = ""
        if self.best.held_out_loss is not None:
            measured = f", with held-out loss {self.best.held_out_loss:.4g} (before: {_number(first.held_out_loss)})"
        best = f"epoch {self.best_epoch}" if self.best_epoch else "the network before training"
        epochs = counted(len(self.history) - 1, "epoch")
        lines = [f"{type(self.model).__name__}: the best of {epochs} is {best}{measured}; {seconds:,.1f} s"]
        if self.stopped:
            lines.append(self.stopped)
        return "\n".join([*lines, self._table()])

    def _table(self) -> str:
        shown = list(self.history)
        if len(shown) > SHOWN:
            shown = [shown[number] for number in sorted({0, self.best_epoch, len(shown) - 1})]
        rows = [
            [
                str(epoch.number),
                _number(epoch.train_loss),
                _number(epoch.held_out_loss),
                "-" if epoch.accuracy is None else f"{100 * epoch.accuracy:.1f} %",
                f"{epoch.seconds:,.1f}",
            ]
            for epoch in shown
        ]
        headings = ["epoch", "training loss", "held-out loss", "accuracy", "seconds"]
        columns = [column for column in range(5) if column == 0 or any(row[column] != "-" for row in rows)]
        width = shutil.get_terminal_size((100, 24)).columns
        picked: Sequence[Sequence[str]] = [[row[column] for column in columns] for row in rows]
        return table([headings[column] for column in columns], picked, width, right=range(len(columns)))

    def to_json(self) -> str:
        """History, best epoch and the reason of an early end, as JSON."""
        return json_text(
            {"history": [asdict(epoch) for epoch in self.history], "best": self.best_epoch, "stopped": self.stopped}
        )

    def figure(self) -> Any:
        """A Matplotlib figure: training and held-out loss by epoch, the best one marked."""
        with canvas(5, 3) as whole:
            axes = whole.add_subplot()
            for name, colour, label in (
                ("train_loss", REMOVED, "training"),
                ("held_out_loss", KEPT, "held-out"),
            ):
                points = [(e.number, getattr(e, name)) for e in self.history if getattr(e, name) is not None]
                if points:
                    axes.plot(*zip(*points, strict=True), color=colour, marker=".", label=label)
            if self.best.held_out_loss is not None:
                axes.plot([self.best_epoch], [self.best.held_out_loss], "o", color=KEPT, mfc="none", label="best")
            axes.set_xlabel("epoch")
            axes.set_ylabel("mean loss of a sample")
            axes.legend(frameon=False)
        return whole


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
