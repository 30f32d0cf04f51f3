"""What training after a cut lowers: the loss on labels, or the distance from the intact network's outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.data.calibration import Batch
from deadhead.data.losses import Loss, accuracy, as_loss
from deadhead.errors import LossError
from deadhead.graph.network import device_of
from deadhead.graph.pytree import as_call, take
from deadhead.training.aside import in_mode


@dataclass(frozen=True)
class Objective:
    """A loss of each sample, on labels where `intact` is None, else by distillation.

    Attributes:
        loss: the loss on labels; for distillation it says how outputs are compared.
        intact: the network whose outputs are to be met.
        temperature: what logits are divided by in distillation.
    """

    loss: Loss
    intact: nn.Module | None = None
    temperature: float = 1.0

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Any]:
        """The loss of each sample, shape (samples,), and the model's outputs.

        Args:
            model: the network that is trained.
            batch: samples on the model's device.
        """
        outputs = run(model, batch)
        if self.intact is None:
            return self.loss.per_sample(outputs, batch), outputs
        device = device_of(self.intact)
        with torch.no_grad():
            wanted = _moved(run(self.intact, batch.to(device)), next(iter(_floats(outputs)), torch.empty(0)).device)
        return distillation(outputs, wanted, batch, self.loss, self.temperature), outputs

    def accuracy(self, outputs: Any, batch: Batch) -> Tensor | None:
        """The accuracy of each sample, shape (samples,); None where there are no classes to compare with."""
        if self.loss.name == "model" and isinstance(batch.targets, Tensor) and batch.targets.dim() > 1:
            return None  # the model shifts such labels itself, or not: the outputs beside them are not known
        return accuracy(outputs, batch)


def distillation(outputs: Any, wanted: Any, batch: Batch, loss: Loss, temperature: float) -> Tensor:
    """How far a network's outputs are from those of another, for each sample, shape (samples,).

    For classes, with o and o* the logits and T the temperature, the mean over positions of

        T^2 KL(softmax(o* / T) || softmax(o / T)),

    and the same with sigmoid, summed over outputs, for `binary_cross_entropy`; T^2 keeps the gradient's size. For any
    other loss, the mean of the squared differences of the outputs, for a callable over all tensors that the model
    returns.

    Args:
        outputs: of the network that is trained, in any container.
        wanted: of the intact network, in the same container.
        batch: the samples; positions whose target is -100 do not count.
        loss: says whether outputs are classes; for the model's own loss, integer labels say so.
        temperature: T, at least above 0; large values compare logits, small ones the predictions.

    Raises:
        LossError: where outputs cannot be compared sample by sample.

    Source:
        Hinton et al. (2015), sections 2 and 2.1.

    Example:
        >>> batch = Batch(torch.zeros(1, 2), torch.tensor([0]), None, 1)
        >>> logits, like = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
        >>> distillation(logits, like, batch, as_loss("cross_entropy"), 1.0)
        tensor([0.1109])
    """
    if loss.is_rowwise:
        return loss.divergence(outputs, wanted, batch, temperature)
    targets = batch.targets
    if loss.name == "model" and isinstance(targets, Tensor) and targets.dtype in (torch.int64, torch.int32):
        return as_loss("cross_entropy").divergence(outputs, wanted, batch, temperature)
    pairs = list(zip(_floats(outputs), _floats(wanted), strict=False))
    pairs = [(a, b) for a, b in pairs if a.shape == b.shape and a.dim() and a.shape[0] == batch.rows]
    if not pairs:
        raise LossError(
            "The two networks return no tensor of equal shape with an entry for each sample, so that their outputs "
            'cannot be compared; recover with targets="labels".'
        )
    return torch.stack([(a - b).reshape(batch.rows, -1).square().mean(1) for a, b in pairs]).mean(0)


def _floats(outputs: Any) -> Iterator[Tensor]:
    """The floating-point tensors among outputs but for a loss."""
    if isinstance(outputs, Mapping):
        outputs = {name: value for name, value in outputs.items() if name != "loss"}
    return (tensor for tensor in take(outputs, opaque=True)[0] if tensor.is_floating_point())


def _moved(outputs: Any, device: torch.device) -> Any:
    tensors, structure = take(outputs, opaque=True)
    return structure.fill([tensor.to(device) for tensor in tensors])


def run(model: nn.Module, batch: Batch) -> Any:
    """The outputs of a model for a batch, in the mode that it is in."""
    args, kwargs = as_call(batch.inputs)
    return model(*args, **kwargs)


def measured(
    objective: Objective, model: nn.Module, batches: Iterable[Batch], device: torch.device
) -> tuple[float, float | None]:
    """The mean loss and accuracy over samples, in evaluation mode without gradients; None without classes.

    Args:
        objective: the loss.
        model: what is measured.
        batches: the samples.
        device: where the model lies.
    """
    total, right, samples, has_classes = 0.0, 0.0, 0, True
    with torch.no_grad(), in_mode(model, training=False):
        for batch in batches:
            moved = batch.to(device)
            losses, outputs = objective(model, moved)
            hits = objective.accuracy(outputs, moved)
            total += losses.double().sum().item()
            right += 0.0 if hits is None else hits.double().sum().item()
            has_classes = has_classes and hits is not None
            samples += batch.rows
    return total / samples, right / samples if has_classes else None
