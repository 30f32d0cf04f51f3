"""`recover`: training after a cut, on labels or towards the intact network's outputs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from deadhead.data.losses import NAMED_LOSSES, TEMPERATURE, Loss, as_loss
from deadhead.errors import DataError
from deadhead.progress import Progress
from deadhead.pruning.pruned import Pruned
from deadhead.training.aside import in_mode
from deadhead.training.randomness import random_state_kept
from deadhead.training.recovering.batches import sources
from deadhead.training.recovering.objective import Objective
from deadhead.training.recovering.recipe import Settings
from deadhead.training.recovering.recovered import Recovered
from deadhead.training.recovering.recovery import Recovery, set_rates
from deadhead.training.undisturbed import Held

LEARNING_RATE = 3e-3
"""Of AdamW, where no optimizer is given."""


@torch.inference_mode(False)
@torch.enable_grad()
def recover(
    pruned_or_model: Pruned | nn.Module,
    data: Any,
    *,
    epochs: int,
    targets: str = "labels",
    intact: nn.Module | None = None,
    loss: Any = None,
    optimizer: Optimizer | None = None,
    lr: float | None = None,
    schedule: str | Callable[[float], float] | None = None,
    batch_size: int | None = None,
    held_out: Any = 0.1,
    patience: int | None = None,
    temperature: float = TEMPERATURE,
    clip: float | None = None,
    folder: str | os.PathLike[str] | None = None,
    save_every: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> Recovered:
    """Train a pruned network, in place, on labels or towards the outputs of the intact network (distillation).

    The weights of the epoch with the lowest loss on held-out samples are put into the network at the end; those samples
    are never trained on. Modes, learning rates and random state are as before at the end, and gradients are None. Where
    an error or Ctrl-C ends it, network and optimizer are as they were at the start.

    With `folder`, all that the run is made of is written after every epoch and every `save_every` batches, and the same
    call, in another process say, goes on from there: order and random numbers depend on seed, epoch and batch alone, so
    that the weights at the end are those of a run that was not ended, to the bit.

    Args:
        pruned_or_model: what `prune` returned, or a module.
        data: a tuple (inputs, targets), inputs or a mapping of tensors, or a list of batches, which stay in memory and
            are shuffled sample by sample; an iterator that runs once, which is read into memory; or a data loader or
            another iterable that can be read again, which is read anew in every epoch, in its own order drawn from
            `seed`.
        epochs: how often the data is gone through.
        targets: "labels": lower `loss` on the data's targets; "intact": lower the distance from the outputs of
            `intact`, without labels. See `distillation`.
        intact: the network before the cut, with targets="intact"; it is not changed.
        loss: a name, a torch.nn loss, or a callable (outputs, batch) to a loss per sample; by default that of the
            prune, and cross_entropy for a module. With targets="intact" it says how outputs are compared.
        optimizer: what trains the network; by default the one that was cut along with it. Where there is none, or
            several, it is AdamW without weight decay, which recovers at every rate of `benchmarks/recovery.py`, where
            SGD fails at the high ones.
        lr: the learning rate; by default the optimizer's, 0.003 for the default one. A small network may recover more
            at 0.01; large pretrained ones need the low rate that they are fine-tuned with.
        schedule: what the learning rate is multiplied by: "cosine" (to 0, the default without an optimizer), "linear"
            (to 0), "constant" (the default with one), or a function of the part of the training that is done.
        batch_size: samples of a batch where data is in memory; by default 64. Loaders make batches of their own.
        held_out: the fraction of samples that are held out, drawn by `seed`; or other data; or 0, which returns the
            last epoch.
        patience: stop after so many epochs in a row without a lower held-out loss; by default never.
        temperature: what logits are divided by in distillation.
        clip: the maximum norm of all gradients together; by default they are not clipped.
        folder: where checkpoints are written; by default nowhere.
        save_every: batches between two checkpoints within an epoch.
        seed: of order, augmentation, dropout and held-out samples.
        progress: called with (step, done, total), in batches of all epochs.

    Returns:
        `Recovered`: the network, the history of losses and accuracies, and which epoch is the best.

    Raises:
        DataError: an argument is out of range, there are no samples, or they cannot be held out.
        LossError: the loss does not fit outputs and targets. A loss that is not finite ends the training, and
            `Recovered.stopped` says so.
        LoadError: the folder holds another recovery.

    Source:
        Hinton et al. (2015) for distillation; Evci (2018), section 4.2, for training between and after cuts.

    Example:
        >>> import deadhead as dh
        >>> inputs = torch.randn(200, 2)
        >>> data = (inputs, (inputs[:, 0] > 0).long())
        >>> model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
        >>> pruned = dh.prune(model, [data], loss="cross_entropy", units=0.25)
        >>> recovered = recover(pruned, data, epochs=5, lr=0.05)
        >>> recovered.model is pruned.model, recovered.best.held_out_loss < recovered.history[0].held_out_loss
        (True, True)
    """
    pruned = pruned_or_model if isinstance(pruned_or_model, Pruned) else None
    model = pruned_or_model.model if isinstance(pruned_or_model, Pruned) else pruned_or_model
    if not isinstance(model, nn.Module):
        raise DataError(
            f"recover needs what prune returned, or a torch module, and this is a {type(model).__name__}; give one."
        )
    cut_along = None if pruned is None else pruned.optimizer
    given = optimizer or (cut_along if isinstance(cut_along, Optimizer) else None)
    settings = Settings(
        epochs, targets, temperature, lr, schedule or ("cosine" if given is None else "constant"), batch_size, held_out,
        patience, clip, seed, None if folder is None else Path(folder), save_every,
    )  # fmt: skip
    objective = Objective(_loss(loss, pruned), _teacher(model, targets, intact), temperature)
    trainer = _optimizer(model, given)
    labels_to_model = objective.loss.labels_to_model and objective.intact is None
    with random_state_kept():
        axis = pruned.batch_axis if pruned is not None else 0
        source, held = sources(data, held_out, batch_size, seed, labels_to_model, axis)
    rates = [float(group["lr"]) for group in trainer.param_groups]
    generators = [*source.generators(), *(held.generators() if held is not None else ())]
    before = Held(model, trainer)
    try:
        if lr is not None:
            set_rates(trainer, [lr] * len(rates))
        with random_state_kept(*generators), in_mode(objective.intact or nn.Identity(), training=False):
            at = Recovery(model, trainer, objective, source, held, settings, progress).run()
    except BaseException:
        before.restore()
        raise
    set_rates(trainer, rates)
    model.zero_grad(set_to_none=True)
    return Recovered(model, tuple(at.history), at.best_epoch, at.stopped, pruned)


def _loss(loss: Any, pruned: Pruned | None) -> Loss:
    """The loss that is given, or that of the prune."""
    if loss is not None or pruned is None:
        return as_loss("cross_entropy" if loss is None else loss)
    name = pruned.report.loss_name
    if name not in (*NAMED_LOSSES, "model"):
        raise DataError(f"loss= is needed: the prune's was {name}, which its result does not hold; give the same.")
    return as_loss(name)


def _teacher(model: nn.Module, targets: str, intact: nn.Module | None) -> nn.Module | None:
    """The network whose outputs are the targets; None where labels are."""
    if targets == "labels":
        if intact is not None:
            raise DataError('intact= is read with targets="intact" alone; give both, or leave it out.')
        return None
    if intact is None:
        raise DataError(
            'targets="intact" needs intact=, the network before the cut: the result of a prune does not hold it, so '
            "that its memory can be freed."
        )
    if {id(each) for each in intact.parameters()} & {id(each) for each in model.parameters()}:
        raise DataError(
            "intact= shares parameters with the network that is trained, so that it would change along with it; give a "
            "copy of the network from before the cut."
        )
    return intact


def _optimizer(model: nn.Module, optimizer: Optimizer | None) -> Optimizer:
    """The optimizer that is given, or AdamW; raises `DataError` where it trains nothing of the model."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise DataError(
            f"No parameter of {type(model).__name__} requires a gradient, so that there is nothing to train; call "
            "model.requires_grad_()."
        )
    if optimizer is None:
        return torch.optim.AdamW(trained, LEARNING_RATE, weight_decay=0.0)
    own = {id(parameter) for parameter in trained}
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise DataError(
            f"The optimizer given holds no parameter of {type(model).__name__}; give the one that trains it, or leave "
            "it out."
        )
    return optimizer
