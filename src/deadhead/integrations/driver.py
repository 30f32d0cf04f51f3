"""What callbacks of all training libraries share: they make a `Gradual` when training begins, and drive it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from deadhead.cut.surgery import Surgery, operate, remember, surgery_behind
from deadhead.errors import DataError, DeadheadError
from deadhead.pruning.pruned import Pruned
from deadhead.training.masking.gradual import Gradual
from deadhead.training.masking.schedule import Remaining, Schedule


class Driver:
    """A `Gradual` that begins when its model and optimizer are known.

    Args:
        schedule: what remains after which epoch or step.
        data: batches to choose on.
        loss: as for `Gradual`.
        options: those of `Gradual`.

    Attributes:
        gradual: what prunes; None before training begins.
        pruned: the result; None before training ends.
        state: of a checkpoint, with which the next training goes on.
    """

    def __init__(
        self,
        schedule: Schedule | Mapping[int, Remaining],
        data: Iterable[Any],
        loss: Any,
        options: Mapping[str, Any],
    ) -> None:
        self.schedule, self.data, self.loss, self.options = schedule, data, loss, dict(options)
        self.gradual: Gradual | None = None
        self.pruned: Pruned | None = None
        self.state: Mapping[str, Any] | None = None

    def begin(self, model: nn.Module, optimizers: Sequence[Optimizer], distributed: bool) -> Gradual:
        """Begin, or go on from the state of a checkpoint."""
        self.gradual = Gradual(
            model, optimizers, self.data, loss=self.loss, schedule=self.schedule,
            **{"distributed": distributed, **self.options},
        )  # fmt: skip
        if self.state is not None:
            self.gradual.load_state_dict(self.state)
            self.state = None
        return self.gradual

    @property
    def begun(self) -> Gradual:
        """What prunes."""
        if self.gradual is None:
            raise DataError("Training has not begun, so that nothing prunes yet; give the callback to a trainer.")
        return self.gradual

    def numbers(self) -> dict[str, float]:
        """What a log shows beside the loss."""
        masks = self.begun.masks
        found = {"units_open": float(sum(int((~units).sum()) for units in masks.units.values()))}
        closed = sum(int((~keep).sum()) for keep in masks.keep.values())
        return {**found, "weights_closed": float(closed)}

    def end(self) -> Pruned:
        """End, with the smaller model."""
        self.pruned = self.begun.finish()
        return self.pruned


def reshape(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Give an intact module the shapes that a checkpoint of pruning says, so that its weights can be loaded.

    Args:
        module: the module, changed in place; one that was cut in the same way is left as it is.
        state: what `Gradual.state_dict` gave.
    """
    surgery = Surgery.from_json(state["masks"]["surgery"])
    if surgery != Surgery() and surgery != surgery_behind(module):
        operate(module, surgery)
        remember(module, surgery)


def imported(names: Sequence[str], pip: str) -> Any:
    """The first of several modules that is installed; one that is imported already comes before others.

    Raises:
        DeadheadError: none is.
    """
    for name in sorted(names, key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise DeadheadError(f"This callback needs {names[0].partition('.')[0]}, which is not installed: pip install {pip}.")


def base_of(names: Sequence[str], attribute: str) -> Any:
    """The class that a callback is of, where the library is installed."""
    try:
        return getattr(imported(names, ""), attribute)
    except DeadheadError:
        return object
