"""The loss that a model of transformers computes itself, as one for each sample: found by comparison."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deadhead.data.calibration import LABELS, as_batch, choose, read
from deadhead.data.losses import IGNORED, as_loss
from deadhead.errors import DataError, DeadheadError, LossError
from deadhead.graph.trace import untouched

NAMES = ("cross_entropy", "mse", "binary_cross_entropy")
TOLERANCE = 1e-3
"""How far a loss may be from the model's own, relative to it, to be taken for the same."""


@dataclass(frozen=True)
class Shifted:
    """Batches whose labels are those of the next position, as causal language models compare them.

    Args:
        data: mappings with `labels` of shape (samples, positions).
    """

    data: Iterable[Any]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.data:
            yield {**batch, LABELS: shift(batch[LABELS])}


def shift(labels: Tensor) -> Tensor:
    """The labels of the next position; the last position has none.

    Args:
        labels: (samples, positions).

    Example:
        >>> shift(torch.tensor([[5, 6, 7]])).tolist()
        [[6, 7, -100]]
    """
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def own_loss(model: nn.Module, data: Iterable[Any]) -> tuple[str, Iterable[Any]]:
    """The named loss of each sample that the model's own loss is the mean of, and the data that it reads.

    The model is called with the labels of one sample; of `cross_entropy`, the same of the next position (causal
    language models), `mse` and `binary_cross_entropy` the one that gives what the model gave is taken.

    Args:
        model: it is left as it was.
        data: mappings with `labels`, which the model can be called with.

    Returns:
        The name of the loss, and the data, with labels shifted where the model shifts them.

    Raises:
        DataError: the data has no labels.
        LossError: the model gives no loss, or it is none of these.
    """
    sample = _sample_of(data)
    device = next(model.parameters()).device
    with untouched(model):
        outputs = model(**{name: value.to(device) for name, value in sample.items()})
    own = outputs.get("loss") if isinstance(outputs, Mapping) else None
    if own is None:
        raise LossError(f"{type(model).__name__} gives no loss when it is called with labels; give loss=.")
    logits = {"logits": outputs["logits"].float().cpu()}
    candidates = [(name, sample[LABELS], data) for name in NAMES]
    if sample[LABELS].dim() == 2:
        candidates.append(("cross_entropy", shift(sample[LABELS]), Shifted(data)))
    for name, labels, given in candidates:
        try:
            value = as_loss(name).per_sample(logits, as_batch({**sample, LABELS: labels}))
        except (DeadheadError, RuntimeError):
            continue  # it does not fit these labels
        if name == "binary_cross_entropy":  # a sum over outputs here, a mean in torch
            value = value / logits["logits"][0].numel()
        if abs(float(value) - float(own)) <= TOLERANCE * max(abs(float(own)), TOLERANCE):
            return name, given
    raise LossError(
        f"The loss that {type(model).__name__} computes itself is none of {', '.join(NAMES)}; give loss=, a callable "
        "(outputs, batch) to a loss for each sample."
    )


def _sample_of(data: Iterable[Any]) -> dict[str, Tensor]:
    """The first sample as a batch of one."""
    raw = read(data, samples=1)[0].raw
    if not isinstance(raw, Mapping) or not isinstance(raw.get(LABELS), Tensor):
        raise DataError("data must be mappings with labels, as the model is called with in training.")
    return dict(choose(as_batch(raw), torch.tensor([0])).raw)
