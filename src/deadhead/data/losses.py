"""Losses: a name, a torch.nn loss or a callable, as one number for each sample."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deadhead.data.calibration import Batch
from deadhead.errors import LossError
from deadhead.text import counted

IGNORED = -100
"""The class of a target that does not count, as in torch."""


TEMPERATURE = 4.0
"""What logits are divided by where predictions are compared: of a class that is all but certain, predictions say little
about the logits."""


def _squared_difference(outputs: Any, wanted: Any, batch: Batch, temperature: float = TEMPERATURE) -> Tensor:
    """The mean over each sample's outputs of the squared difference from those that are wanted."""
    values, like = prediction_of(outputs), prediction_of(wanted)
    if not values.is_floating_point() or values.dim() == 0 or values.shape[0] != batch.rows:
        raise LossError(
            f"Outputs of shape {tuple(values.shape)} have no entry for each of {counted(batch.rows, 'sample')}, so "
            "that they cannot be compared sample by sample."
        )
    return (values - like).reshape(batch.rows, -1).square().mean(1)


@dataclass(frozen=True)
class Loss:
    """A loss of each sample of a batch; made by `as_loss`.

    Attributes:
        name: what errors and reports call it.
        function: (outputs, batch) to the losses, or to one number where `is_per_sample` is False.
        is_per_sample: False where the model returns its own loss: one number for the whole batch, which stands for
            each sample.
        labels_to_model: whether the model is called with the labels, so that it computes the loss itself.
        sampled: (outputs, batch, generator) to a loss of each sample against targets drawn from the model's own
            predictive distribution, so that the mean of the outer products of its gradients is the Gauss-Newton matrix
            of the loss; None where that distribution is not known.
        is_rowwise: whether the loss of a sample depends on that sample alone, however many there are.
        divergence: (outputs, wanted outputs, batch, temperature=4) to how far those of each sample are apart, 0 where
            they are equal: by softened predictions where the loss reads outputs as predictions, else by the mean of
            squares. Raises
            `LossError` where there is no tensor with an entry for each sample to compare.
    """

    name: str
    function: Callable[[Any, Batch], Tensor]
    is_per_sample: bool = True
    labels_to_model: bool = False
    sampled: Callable[[Any, Batch, torch.Generator], Tensor] | None = None
    is_rowwise: bool = False
    divergence: Callable[..., Tensor] = _squared_difference

    def per_sample(self, outputs: Any, batch: Batch) -> Tensor:
        """The loss of each sample, shape (samples,), in the outputs' own precision.

        Raises:
            LossError: where the function gives no tensor, or not one number for each sample.
        """
        value = self.function(outputs, batch)
        if not isinstance(value, Tensor):
            raise LossError(
                f"The loss {self.name} gave a {type(value).__name__}; it must give a tensor with a loss per sample."
            )
        if not self.is_per_sample:
            return value.reshape(()).expand(batch.rows)
        if value.dim() == 0 or value.shape[0] != batch.rows:
            raise LossError(
                f"The loss {self.name} gave shape {tuple(value.shape)} for {counted(batch.rows, 'sample')}: it must "
                'give one loss per sample; most losses do with reduction="none".'
            )
        return value.reshape(batch.rows, -1).mean(1)


def logits_of(outputs: Any, name: str) -> Tensor:
    """The tensor that a named loss reads: the output itself, its `logits`, or the first of several.

    Raises:
        LossError: where there is none.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        if "logits" in outputs:
            return outputs["logits"]  # type: ignore[no-any-return]
        outputs = tuple(outputs.values())
    if isinstance(outputs, (tuple, list)) and outputs and isinstance(outputs[0], Tensor):
        return outputs[0]
    raise LossError(
        f"The loss {name} reads a tensor, a mapping with logits or a tuple, and this model returns a "
        f"{type(outputs).__name__}; give a callable (outputs, batch) instead."
    )


def prediction_of(outputs: Any) -> Tensor:
    """The tensor in which outputs of two networks are compared: what a named loss reads, whatever loss they carry."""
    if isinstance(outputs, Mapping):
        outputs = {name: value for name, value in outputs.items() if name != "loss"}
    return logits_of(outputs, "of the comparison")


def _targets(batch: Batch, name: str) -> Tensor:
    if not isinstance(batch.targets, Tensor):
        raise LossError(
            f"The loss {name} needs targets, and the data has none: give batches of (inputs, targets), or mappings "
            "with labels."
        )
    return batch.targets


def _class_axis_second(logits: Tensor, targets: Tensor, batch: Batch) -> Tensor:
    """Logits with their classes on axis 1, as torch's cross-entropy wants them; mappings carry them last."""
    last = targets.shape == logits.shape[:-1]
    second = logits.dim() > 1 and targets.shape == logits.shape[:1] + logits.shape[2:]
    if last and logits.dim() > 2 and (not second or isinstance(batch.raw, Mapping)):
        return logits.movedim(-1, 1)
    return logits


def _mean_over_counted(losses: Tensor, counts: Tensor | None) -> Tensor:
    """The mean loss of each sample over its targets that are not ignored."""
    losses = losses.flatten(1) if losses.dim() > 1 else losses[:, None]
    if counts is None:
        return losses.mean(1)
    counts = counts.reshape(losses.shape).to(losses.dtype)
    return (losses * counts).sum(1) / counts.sum(1).clamp(min=1)


def _check_classes(logits: Tensor, targets: Tensor, ignored: int) -> None:
    """Raise `LossError` where targets are no classes of these logits."""
    if logits.dim() < 2:
        raise LossError(
            f"cross_entropy needs logits of shape (samples, classes), and this model gives {tuple(logits.shape)}: give "
            "another loss."
        )
    if targets.is_floating_point():
        if targets.shape != logits.shape:
            raise LossError(
                f"cross_entropy got targets of type {targets.dtype} and shape {tuple(targets.shape)}: give classes as "
                f"integers, or probabilities of shape {tuple(logits.shape)}."
            )
        return
    if targets.dtype == torch.bool or targets.shape != logits.shape[:1] + logits.shape[2:]:
        raise LossError(
            f"cross_entropy got targets of type {targets.dtype} and shape {tuple(targets.shape)} for logits of shape "
            f"{tuple(logits.shape)}: give one class for each sample or position."
        )
    given = targets[targets != ignored]
    classes = logits.shape[1]
    if given.numel() and (given.min() < 0 or given.max() >= classes):
        worst = int(given.max() if given.max() >= classes else given.min())
        raise LossError(
            f"A target is class {worst}, and the model gives {counted(classes, 'class', 'classes')}, 0 to "
            f"{classes - 1}: check the labels, or the size of the last layer."
        )


def _entropy(outputs: Any, batch: Batch, module: nn.Module | None = None) -> Tensor:
    name = "cross_entropy"
    logits, targets = logits_of(outputs, name), _targets(batch, name)
    logits = _class_axis_second(logits, targets, batch)
    classes = not targets.is_floating_point()
    ignored = getattr(module, "ignore_index", IGNORED)
    _check_classes(logits, targets, ignored)
    if classes:
        targets = targets.long()
    values = module(logits, targets) if module is not None else F.cross_entropy(logits, targets, reduction="none")
    return _mean_over_counted(values, targets != ignored if classes else None)


def _flat(outputs: Any, batch: Batch, name: str) -> tuple[Tensor, Tensor]:
    values, targets = logits_of(outputs, name), _targets(batch, name)
    if values.shape != targets.shape and values.numel() == targets.numel():
        targets = targets.reshape(values.shape)
    if values.shape != targets.shape:
        raise LossError(
            f"The loss {name} cannot compare outputs of shape {tuple(values.shape)} with targets of shape "
            f"{tuple(targets.shape)}: give targets of the outputs' shape."
        )
    return values.reshape(batch.rows, -1), targets.reshape(batch.rows, -1).to(values.dtype)


def _mean_squares(outputs: Any, batch: Batch) -> Tensor:
    values, targets = _flat(outputs, batch, "mse")
    return (values - targets).square().mean(1)


def _half_squares(outputs: Any, batch: Batch) -> Tensor:
    values, targets = _flat(outputs, batch, "squared_error")
    return 0.5 * (values - targets).square().sum(1)


def _binary(outputs: Any, batch: Batch) -> Tensor:
    values, targets = _flat(outputs, batch, "binary_cross_entropy")
    return F.binary_cross_entropy_with_logits(values, targets, reduction="none").sum(1)


def _own(outputs: Any, batch: Batch) -> Tensor:
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if not isinstance(loss, Tensor):
        raise LossError(
            'loss="model" needs a model that returns its own loss, and this one returned none: check that the batches '
            "are mappings with labels."
        )
    return loss


def _sampled_entropy(outputs: Any, batch: Batch, generator: torch.Generator) -> Tensor:
    logits, targets = logits_of(outputs, "cross_entropy"), _targets(batch, "cross_entropy")
    logits = _class_axis_second(logits, targets, batch)
    classes = logits.detach().movedim(1, -1)
    if not torch.isfinite(classes).all():
        raise LossError(
            "The model's outputs are not finite (NaN or infinity) on this data; check the weights and the inputs."
        )
    chances = classes.reshape(-1, classes.shape[-1]).double().softmax(-1).cpu()
    drawn = torch.multinomial(chances, 1, generator=generator).to(logits.device).reshape(classes.shape[:-1])
    values = F.cross_entropy(logits, drawn, reduction="none").reshape(batch.rows, -1)
    # Positions are independent draws, so their mean's gradients add up as those of a sum over them, scaled.
    return _mean_over_counted(values, None if targets.is_floating_point() else targets != IGNORED)


def _sampled_squares(scale: Callable[[int], float]) -> Callable[[Any, Batch, torch.Generator], Tensor]:
    def sampled(outputs: Any, batch: Batch, generator: torch.Generator) -> Tensor:
        values = logits_of(outputs, "squared error").reshape(batch.rows, -1)
        noise = torch.randn(values.shape, generator=generator).to(values)
        return (values * noise).sum(1) * scale(values.shape[1])

    return sampled


def _sampled_binary(outputs: Any, batch: Batch, generator: torch.Generator) -> Tensor:
    values = logits_of(outputs, "binary_cross_entropy").reshape(batch.rows, -1)
    drawn = (torch.rand(values.shape, generator=generator).to(values) < values.detach().sigmoid()).to(values)
    return F.binary_cross_entropy_with_logits(values, drawn, reduction="none").sum(1)


def _class_divergence(outputs: Any, wanted: Any, batch: Batch, temperature: float = TEMPERATURE) -> Tensor:
    """T^2 times the Kullback-Leibler divergence of softmax(o / T) from softmax(o* / T), mean over counted targets; all
    count where the data has none."""
    targets = batch.targets if isinstance(batch.targets, Tensor) else None
    pair = [prediction_of(each) for each in (outputs, wanted)]
    if pair[0].dim() < 2 or pair[0].shape != pair[1].shape:
        raise LossError(
            f"Predictions of shapes {tuple(pair[0].shape)} and {tuple(pair[1].shape)} cannot be compared class by "
            "class: give networks with the same outputs, (samples, classes), or another loss."
        )
    if targets is not None:
        pair = [_class_axis_second(each, targets, batch) for each in pair]
    elif isinstance(batch.raw, Mapping):
        pair = [each.movedim(-1, 1) for each in pair]
    logits, like = ((each / temperature).log_softmax(1) for each in pair)
    values = F.kl_div(logits, like, reduction="none", log_target=True).sum(1) * temperature**2
    counts = None if targets is None or targets.is_floating_point() else targets != IGNORED
    return _mean_over_counted(values, counts)


def _binary_divergence(outputs: Any, wanted: Any, batch: Batch, temperature: float = TEMPERATURE) -> Tensor:
    """T^2 times the Kullback-Leibler divergence of sigmoid(o / T) from sigmoid(o* / T), summed over outputs."""
    values, like = (prediction_of(each).reshape(batch.rows, -1) / temperature for each in (outputs, wanted))
    across, own = (F.binary_cross_entropy_with_logits(x, like.sigmoid(), reduction="none") for x in (values, like))
    return (across - own).sum(1) * temperature**2


DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": _class_divergence,
    "binary_cross_entropy": _binary_divergence,
}


SAMPLED: dict[str, Callable[[Any, Batch, torch.Generator], Tensor]] = {
    "cross_entropy": _sampled_entropy,
    "mse": _sampled_squares(lambda outputs: (2 / outputs) ** 0.5),
    "squared_error": _sampled_squares(lambda outputs: 1.0),
    "binary_cross_entropy": _sampled_binary,
}


NAMED_LOSSES: dict[str, Callable[[Any, Batch], Tensor]] = {
    "cross_entropy": _entropy,
    "mse": _mean_squares,
    "squared_error": _half_squares,
    "binary_cross_entropy": _binary,
}


def as_loss(loss: Any) -> Loss:
    """Make a loss per sample from a name, a `torch.nn` loss, or a callable.

    With o the outputs of a sample and t its targets, `cross_entropy` is the mean over its targets that are not ignored;
    `mse` the mean over outputs of (o - t)^2; `squared_error` is 1/2 sum (o - t)^2; `binary_cross_entropy` sums over the
    outputs, which are logits; `model` is the loss that the model returns itself.

    Args:
        loss: a name, a `torch.nn` loss, or a callable (outputs, batch) to a loss per sample.

    Raises:
        LossError: for anything else.

    Source:
        Wolfe et al. (2016), appendix A, for `squared_error`.

    Example:
        >>> as_loss("mse").name
        'mse'
    """
    if isinstance(loss, Loss):
        return loss
    if loss == "model":
        return Loss("model", _own, is_per_sample=False, labels_to_model=True)
    if isinstance(loss, str):
        if loss not in NAMED_LOSSES:
            raise LossError(
                f"There is no loss {loss!r}; the names are {', '.join([*NAMED_LOSSES, 'model'])}, or give a callable."
            )
        return Loss(
            loss,
            NAMED_LOSSES[loss],
            sampled=SAMPLED.get(loss),
            is_rowwise=True,
            divergence=DIVERGENCES.get(loss, _squared_difference),
        )
    if isinstance(loss, nn.modules.loss._Loss):
        return _of_module(loss)
    if callable(loss):
        name = getattr(loss, "__name__", type(loss).__name__)
        return Loss(name, lambda outputs, batch: loss(outputs, batch.raw))
    raise LossError(f"loss must be a name, a torch.nn loss or a callable, not a {type(loss).__name__}.")


def _of_module(loss: nn.modules.loss._Loss) -> Loss:
    """The loss per sample of a `torch.nn` loss, whatever its reduction."""
    module = copy.copy(loss)
    module.reduction = "none"
    name = type(loss).__name__
    if isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss)):
        plain = isinstance(loss, nn.CrossEntropyLoss) and loss.weight is None and not loss.label_smoothing
        return Loss(
            name,
            lambda outputs, batch: _entropy(outputs, batch, module),
            sampled=_sampled_entropy if plain else None,
            is_rowwise=True,
            divergence=_class_divergence,
        )
    return Loss(
        name,
        lambda outputs, batch: module(logits_of(outputs, name), _targets(batch, name)),
        sampled=SAMPLED["mse"] if isinstance(loss, nn.MSELoss) else None,
        is_rowwise=True,
    )


def accuracy(outputs: Any, batch: Batch) -> Tensor | None:
    """For each sample the fraction of targets whose class has the largest logit, shape (samples,); None without
    classes."""
    try:
        logits, targets = logits_of(outputs, "accuracy"), _targets(batch, "accuracy")
    except LossError:
        return None
    if targets.is_floating_point() or logits.dim() < 2 or targets.dtype == torch.bool:
        return None
    logits = _class_axis_second(logits, targets, batch)
    if logits.shape[:1] + logits.shape[2:] != targets.shape:
        return None
    return _mean_over_counted((logits.argmax(1) == targets).to(torch.float32), targets != IGNORED)
