"""Calibration data: any iterable of batches, read once, kept on the CPU, a part of its samples held out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from deadhead.errors import DataError
from deadhead.graph.pytree import as_call, take
from deadhead.text import counted

HELD_OUT = 0.2
"""The fraction of the samples that scores and compensation do not see."""

LABELS = "labels"


@dataclass(frozen=True)
class Batch:
    """One batch of samples; made by `as_batch`.

    Attributes:
        inputs: what the model is called with.
        targets: what the loss compares with, samples along axis 0; None where the data has none.
        raw: the batch as the user's data gave it, which a loss of the user's own receives.
        rows: the number of samples.
        labels_to_model: whether the labels of a mapping are among the inputs.
        batch_axis: the axis of the inputs along which the samples lie.
    """

    inputs: Any
    targets: Any
    raw: Any
    rows: int
    labels_to_model: bool = False
    batch_axis: int = 0

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on `device`."""
        inputs, targets, raw = (_move(part, device) for part in (self.inputs, self.targets, self.raw))
        return replace(self, inputs=inputs, targets=targets, raw=raw)


def _move(value: Any, device: torch.device) -> Any:
    tensors, structure = take(value)
    return structure.fill([tensor.to(device) for tensor in tensors])


@dataclass(frozen=True)
class Calibration:
    """Calibration data in two parts.

    Attributes:
        fit: what scores and compensation are computed on.
        held_out: what they are checked on.
    """

    fit: list[Batch]
    held_out: list[Batch]

    @property
    def rows(self) -> int:
        """The number of samples of both parts."""
        return count(self.fit) + count(self.held_out)


def count(batches: Sequence[Batch]) -> int:
    """The number of samples of all batches."""
    return sum(batch.rows for batch in batches)


def as_batch(raw: Any, *, labels_to_model: bool = False, batch_axis: int = 0) -> Batch:
    """Read a batch of a user's data: (inputs, targets), (inputs,), a mapping of keyword arguments, or bare inputs.

    Args:
        raw: the batch; of a mapping, `labels` are the targets.
        labels_to_model: whether the model is called with `labels` too, as models that compute their own loss are.
        batch_axis: the axis of the inputs along which the samples lie; those of targets lie along axis 0.

    Raises:
        DataError: where it is none of these, or inputs and targets have different numbers of samples.

    Example:
        >>> as_batch((torch.zeros(3, 2), torch.zeros(3))).rows
        3
    """
    targets: Any = None
    if isinstance(raw, Mapping):
        inputs: Any = {key: value for key, value in raw.items() if labels_to_model or key != LABELS}
        targets = raw.get(LABELS)
    elif isinstance(raw, (tuple, list)):
        if not 1 <= len(raw) <= 2:
            raise DataError(
                f"A batch is (inputs, targets), a mapping, or inputs alone, and this one is a {type(raw).__name__} of "
                f"{len(raw)}: put several inputs into a tuple of their own."
            )
        inputs, targets = raw[0], (raw[1] if len(raw) == 2 else None)
    else:
        inputs = raw
    tensors = take(as_call(inputs))[0]
    rows = next((tensor.shape[batch_axis] for tensor in tensors if tensor.dim() > batch_axis), None)
    if rows is None:
        raise DataError(
            f"A batch holds no tensor with a batch axis {batch_axis}, along which its samples would lie; give tensors, "
            "or tuples or dicts of them."
        )
    for tensor in take(targets)[0]:
        if tensor.dim() == 0 or tensor.shape[0] != rows:
            raise DataError(
                f"A batch has {counted(rows, 'sample')} of inputs and targets of shape {tuple(tensor.shape)}: give one "
                "target for each sample, along axis 0."
            )
    return Batch(inputs, targets, raw, rows, labels_to_model, batch_axis)


def choose(batch: Batch, index: Tensor) -> Batch:
    """The samples `index` of a batch."""

    def pick(value: Any, axis: int) -> Any:
        tensors, structure = take(value)
        return structure.fill(
            [t.index_select(axis, index) if t.dim() > axis and t.shape[axis] == batch.rows else t for t in tensors]
        )

    batch_axis = batch.batch_axis
    if isinstance(batch.raw, (tuple, list)):
        parts = [pick(batch.raw[0], batch_axis), *(pick(part, 0) for part in batch.raw[1:])]
        raw = type(batch.raw)(parts) if type(batch.raw) in (tuple, list) else tuple(parts)
    else:
        raw = pick(batch.raw, batch_axis)
    return as_batch(raw, labels_to_model=batch.labels_to_model, batch_axis=batch_axis)


def _copied(raw: Any) -> Any:
    """A copy on the CPU that a loader which reuses its buffers cannot change."""
    tensors, structure = take(raw)
    return structure.fill([tensor.detach().to("cpu", copy=True) for tensor in tensors])


def read(
    data: Iterable[Any], *, samples: int | None = 4096, labels_to_model: bool = False, batch_axis: int = 0
) -> list[Batch]:
    """Read up to `samples` samples of `data` as batches on the CPU.

    Args:
        data: any iterable of batches; read once, and no further than needed.
        samples: the maximum number of samples; None reads all.
        labels_to_model: whether the model is called with the `labels` of a mapping too.
        batch_axis: the axis of the inputs along which the samples lie.

    Raises:
        DataError: where there are no samples, a batch cannot be read, or inputs are not finite.
    """
    if isinstance(data, (Tensor, Mapping, str)) or not isinstance(data, Iterable):
        raise DataError(
            f"data must be an iterable of batches, this is a {type(data).__name__}; put one batch into a list: "
            "[(inputs, targets)]."
        )
    if samples is not None and samples < 1:
        raise DataError(f"samples={samples} asks for no samples; give at least 2.")
    batches: list[Batch] = []
    wanted = samples
    for raw in data:
        batch = as_batch(_copied(raw), labels_to_model=labels_to_model, batch_axis=batch_axis)
        if wanted is not None and batch.rows > wanted:
            batch = choose(batch, torch.arange(wanted))
        if batch.rows:
            batches.append(batch)
            wanted = None if wanted is None else wanted - batch.rows
        if wanted is not None and wanted <= 0:
            break
    if not batches:
        raise DataError(
            "data holds no samples; a one-shot iterator that was read before is empty the second time: give a list or "
            "a loader."
        )
    for batch in batches:
        for tensor in take(batch.inputs)[0]:
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise DataError("data holds inputs that are not finite (NaN or infinity); clean the inputs first.")
    return batches


def calibrate(batches: Sequence[Batch], *, seed: int = 0) -> Calibration:
    """Hold out a fifth of the samples, chosen by `seed`, whatever batches they came in.

    Raises:
        DataError: where there are fewer than two samples.
    """
    total = count(batches)
    if total < 2:
        raise DataError(
            "data holds a single sample, and at least two are needed, one to decide on and one to check with: give "
            "more samples."
        )
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(total, dtype=torch.bool)
    held[torch.randperm(total, generator=generator)[: max(1, round(HELD_OUT * total))]] = True
    parts: tuple[list[Batch], list[Batch]] = ([], [])
    start = 0
    for batch in batches:
        mask = held[start : start + batch.rows]
        start += batch.rows
        for part, chosen in zip(parts, (~mask, mask), strict=True):
            if chosen.any():
                index = chosen.nonzero()[:, 0]
                part.append(choose(batch, index))
    return Calibration(*parts)
