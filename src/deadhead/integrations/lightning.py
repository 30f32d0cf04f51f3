"""Gradual pruning inside Lightning's trainer: `PruningCallback`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from deadhead.integrations.driver import Driver, base_of, imported, reshape
from deadhead.pruning.pruned import Pruned
from deadhead.training.masking.gradual import Gradual
from deadhead.training.masking.schedule import Remaining, Schedule

LIBRARY = ("lightning.pytorch", "pytorch_lightning")


class PruningCallback(base_of(LIBRARY, "Callback")):  # type: ignore[misc]
    """Prune a module gradually while Lightning trains it, by its own `training_step`.

    Its state is part of Lightning's checkpoints, and `trainer.fit(..., ckpt_path=...)` goes on with it.

    Args:
        schedule: what remains of the intact network after which epoch or step (of the optimizer).
        data: batches to choose on, `(inputs, targets)` or mappings: a list of a few batches, or a loader.
        loss: a name, a torch.nn loss, or a callable (outputs, batch) to a loss for each sample.
        part: the name of the submodule that is pruned and that `data` is for; by default the LightningModule itself,
            with its `forward`.
        options: those of `deadhead.Gradual`: criterion=, compensate=, samples=, only=, exclude=, seed=, ... With
            cut="as it goes" the module itself becomes smaller as training goes on.

    Attributes:
        gradual: the `deadhead.Gradual` that prunes; None before training begins.
        pruned: the result, `Pruned`; None before training ends.

    Raises:
        DeadheadError: Lightning is not installed.

    Source:
        Evci (2018), section 4.2, for pruning in rounds during training.

    Example:
        >>> callback = PruningCallback({1: 0.8, 2: 0.5}, batches, "cross_entropy", part="model")  # doctest: +SKIP
        >>> Trainer(max_epochs=3, callbacks=[callback]).fit(module, loader)  # doctest: +SKIP
        >>> callback.pruned.save("smaller")  # doctest: +SKIP
    """

    def __init__(
        self,
        schedule: Schedule | Mapping[int, Remaining],
        data: Iterable[Any],
        loss: Any,
        *,
        part: str = "",
        **options: Any,
    ) -> None:
        imported(LIBRARY, "lightning")
        super().__init__()
        self._driver, self._part = Driver(schedule, data, loss, options), part
        self._steps = 0

    @property
    def gradual(self) -> Gradual | None:
        """What prunes; None before training begins."""
        return self._driver.gradual

    @property
    def pruned(self) -> Pruned | None:
        """The result; None before training ends."""
        return self._driver.pruned

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Let the module take the shapes of the checkpoint that training goes on from, before its weights are loaded:
        the module's own hook is the one place where Lightning shows the checkpoint before that."""
        if stage != "fit":
            return
        own = pl_module.on_load_checkpoint

        def on_load_checkpoint(checkpoint: dict[str, Any]) -> None:
            state = checkpoint.get("callbacks", {}).get(self.state_key)
            if state:
                reshape(self._pruned_part(pl_module), state)
            own(checkpoint)

        pl_module.on_load_checkpoint = on_load_checkpoint

    def _pruned_part(self, pl_module: nn.Module) -> nn.Module:
        return pl_module.get_submodule(self._part)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin, or go on from a checkpoint."""
        vars(pl_module).pop("on_load_checkpoint", None)
        self._driver.begin(self._pruned_part(pl_module), trainer.optimizers, trainer.world_size > 1)
        self._steps = trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Count a step, where an optimizer made one."""
        if trainer.global_step > self._steps:
            self._steps = trainer.global_step
            self._driver.begun.step()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Count an epoch, and log how many units are open and how many weights are closed."""
        self._driver.begun.epoch()
        pl_module.log_dict(self._driver.numbers())

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Cut what is closed: `pruned`."""
        self._driver.end()

    def state_dict(self) -> dict[str, Any]:
        """The state of the pruning, for Lightning's checkpoints."""
        return {} if self.gradual is None else self.gradual.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint when training begins."""
        self._driver.state = state_dict or None
