"""How a recovery trains: its settings, and how learning rates go."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from deadhead.errors import DataError

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda part: 1.0,
    "linear": lambda part: 1.0 - part,
    "cosine": lambda part: 0.5 * (1.0 + math.cos(math.pi * part)),
}
"""What the learning rate is multiplied by, as a function of the part of the training that is done."""


@dataclass(frozen=True)
class Settings:
    """How a recovery trains; the arguments of `recover` of the same names.

    Raises:
        DataError: one is out of range.
    """

    epochs: int
    targets: str
    temperature: float
    lr: float | None
    schedule: str | Callable[[float], float]
    batch_size: int | None
    held_out: Any
    patience: int | None
    clip: float | None
    seed: int
    folder: Path | None
    save_every: int

    def __post_init__(self) -> None:
        for name in ("epochs", "temperature", "lr", "batch_size", "patience", "clip", "save_every"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise DataError(f"{name}={value:g} is out of range; give a number above 0.")
        if self.targets not in ("labels", "intact"):
            raise DataError(f'There are no targets {self.targets!r}; give "labels" or "intact".')
        if isinstance(self.schedule, str) and self.schedule not in SCHEDULES:
            names = ", ".join(SCHEDULES)
            raise DataError(f"There is no schedule {self.schedule!r}; the names are {names}, or give a function.")
        if self.patience is not None and isinstance(self.held_out, (int, float)) and not self.held_out:
            raise DataError("patience= needs held-out samples; give held_out= a fraction or data.")

    def factor(self, part: float) -> float:
        """What learning rates are multiplied by where this part of the training is done."""
        return (SCHEDULES[self.schedule] if isinstance(self.schedule, str) else self.schedule)(part)

    def texts(self) -> dict[str, str]:
        """All that decides which weights come out, as text."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        del values["folder"], values["save_every"]
        if not isinstance(self.held_out, (int, float)):
            values["held_out"] = "data"
        if not isinstance(self.schedule, str):
            values["schedule"] = getattr(self.schedule, "__name__", type(self.schedule).__name__)
        return {name: str(value) for name, value in values.items()}
