"""Batches to train on, in an order that depends on a seed and the epoch alone, and samples held out from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from deadhead.data.calibration import Batch, as_batch, choose, count, read
from deadhead.errors import DataError
from deadhead.graph.pytree import take
from deadhead.text import counted
from deadhead.training.randomness import number_of
from deadhead.training.recovering.loaders import Loader, split_loader

BATCH_SIZE = 64
"""Samples of a batch where the data is in memory."""


class Source(Protocol):
    """Where batches come from."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from the one with the index `start` on; the same whenever it is asked for."""

    def in_order(self) -> Iterator[Batch]:
        """All batches once, always the same, to measure on."""

    def steps(self) -> int | None:
        """The number of batches of an epoch, or the most that there are; None where it is not known."""

    def generators(self) -> Sequence[torch.Generator]:
        """Generators of the caller's that are drawn from."""


@dataclass(frozen=True)
class Pool:
    """Samples in memory, shuffled anew in every epoch.

    Attributes:
        parts: the samples; those of one part have equal shapes, so that they fit into one batch.
        batch_size: the number of samples of a batch.
        seed: of the order.
    """

    parts: list[Batch]
    batch_size: int
    seed: int

    @staticmethod
    def of(batches: Sequence[Batch], batch_size: int, seed: int) -> Pool:
        """The samples of batches; raises `DataError` where there are none, or inputs are not finite."""
        if not count(batches):
            raise DataError("data holds no samples; give at least 2, one to train on and one to hold out.")
        for tensor in (each for batch in batches for each in take(batch.inputs)[0]):
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise DataError("data holds inputs that are not finite (NaN or infinity); clean the inputs first.")
        return Pool(joined(batches), batch_size, seed)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the one with the index `start` on."""
        order = torch.Generator().manual_seed(number_of(self.seed, "order", number))
        groups = [
            (part, rows)
            for part in self.parts
            for rows in _groups(torch.randperm(part.rows, generator=order), self.batch_size)
        ]
        places = range(len(groups))
        if len(self.parts) > 1:
            places = torch.randperm(len(groups), generator=order).tolist()  # type: ignore[assignment]
        for place in places[start:]:
            yield choose(*groups[place])

    def in_order(self) -> Iterator[Batch]:
        """All samples once."""
        for part in self.parts:
            for rows in torch.split(torch.arange(part.rows), self.batch_size):
                yield choose(part, rows)

    def steps(self) -> int:
        """The number of batches of an epoch."""
        return sum(len(_groups(torch.arange(part.rows), self.batch_size)) for part in self.parts)

    def generators(self) -> Sequence[torch.Generator]:
        """None: the order is drawn from a generator of its own."""
        return ()

    def split(self, fraction: float) -> tuple[Pool, Pool]:
        """Two pools, the second with this fraction of the samples, drawn by the seed, at least one."""
        total = count(self.parts)
        held = torch.zeros(total, dtype=torch.bool)
        held[drawn(total, fraction, self.seed)] = True
        parts: tuple[list[Batch], list[Batch]] = ([], [])
        for batch, mask in zip(self.parts, torch.split(held, [part.rows for part in self.parts]), strict=True):
            for part, chosen in zip(parts, (~mask, mask), strict=True):
                if chosen.any():
                    part.append(choose(batch, chosen.nonzero()[:, 0]))
        return Pool(parts[0], self.batch_size, self.seed), Pool(parts[1], self.batch_size, self.seed)


def drawn(total: int, fraction: float, seed: int) -> Tensor:
    """The indices of the samples that are held out of `total`: a fraction, drawn by `seed`, at least one.

    Raises:
        DataError: where nothing is left to train on.
    """
    wanted = max(1, round(fraction * total))
    if wanted >= total:
        raise DataError(
            f"held_out={fraction:g} of {counted(total, 'sample')} leaves none to train on; give more samples, or "
            "held_out=0."
        )
    generator = torch.Generator().manual_seed(number_of(seed, "held out"))
    return torch.randperm(total, generator=generator)[:wanted].sort().values


def _groups(order: Tensor, size: int) -> list[Tensor]:
    groups = list(torch.split(order, size))
    # Batch norm cannot train on a single sample, so a last batch of one joins its neighbour.
    if len(groups) > 1 and len(groups[-1]) == 1 < size:
        groups[-2:] = [torch.cat(groups[-2:])]
    return groups


def joined(batches: Sequence[Batch]) -> list[Batch]:
    """As few batches as hold the samples of `batches`: those with equal containers, types and shapes in one."""
    kinds: list[tuple[Any, list[Batch]]] = []
    for index, batch in enumerate(batches):
        kind = _kind(batch) or index
        alike = next((members for other, members in kinds if other == kind), None)
        if alike is None:
            kinds.append((kind, [batch]))
        else:
            alike.append(batch)
    return [_join(members) for _, members in kinds]


def _pieces(batch: Batch) -> list[tuple[Any, int]]:
    """What a batch is made of, each with the axis of its samples."""
    if isinstance(batch.raw, (tuple, list)):
        return [(batch.raw[0], batch.batch_axis), *((each, 0) for each in batch.raw[1:])]
    return [(batch.raw, batch.batch_axis)]


def _kind(batch: Batch) -> Any:
    """What batches must have in common to be joined; None where a tensor does not belong to single samples."""
    kind: list[Any] = []
    for piece, axis in _pieces(batch):
        tensors, structure = take(piece)
        for tensor in tensors:
            if tensor.dim() <= axis or tensor.shape[axis] != batch.rows:
                return None
            kind.append((tensor.dtype, tensor.shape[:axis], tensor.shape[axis + 1 :]))
        kind.append(structure.template)
    return kind


def _join(batches: Sequence[Batch]) -> Batch:
    first = batches[0]
    if len(batches) == 1:
        return first
    parts = []
    for index, (piece, axis) in enumerate(_pieces(first)):
        columns = zip(*(take(_pieces(batch)[index][0])[0] for batch in batches), strict=True)
        parts.append(take(piece)[1].fill([torch.cat(column, axis) for column in columns]))
    raw = tuple(parts) if isinstance(first.raw, (tuple, list)) else parts[0]
    return as_batch(raw, labels_to_model=first.labels_to_model, batch_axis=first.batch_axis)


def sources(
    data: Any, held_out: Any, batch_size: int | None, seed: int, labels_to_model: bool = False, batch_axis: int = 0
) -> tuple[Source, Source | None]:
    """What is trained on, and what is held out.

    Tensors (inputs, a tuple of inputs and targets, a mapping) and lists of batches are in memory and shuffled sample by
    sample; an iterator that runs once is read into memory; a loader, or another iterable that can be read
    again, is read anew in every epoch and never held.

    Args:
        data: tensors, an iterable of batches, or a data set.
        held_out: a fraction of the samples, drawn by the seed; other data; or 0 for none.
        batch_size: the samples of a batch where they are in memory; None for `BATCH_SIZE`.
        seed: of what is drawn.
        labels_to_model: whether the model is called with the `labels` of a mapping.
        batch_axis: the axis of the inputs along which the samples lie.

    Raises:
        DataError: where there are no samples, or they cannot be held out.
    """
    how: dict[str, Any] = {"labels_to_model": labels_to_model, "batch_axis": batch_axis}
    if batch_size is not None and batch_size < 1:
        raise DataError(f"batch_size={batch_size} asks for no samples; give at least 1.")
    source = _source(data, batch_size, seed, how)
    if not isinstance(held_out, (int, float)):
        return source, _source(held_out, None, seed, how)
    if not 0 <= held_out < 1:
        raise DataError(f"held_out={held_out:g} is no fraction of the samples; give one from 0 up to 1, or data.")
    if not held_out:
        return source, None
    return (
        source.split(held_out) if isinstance(source, Pool) else split_loader(source, lambda n: drawn(n, held_out, seed))
    )


def _source(data: Any, batch_size: int | None, seed: int, how: Mapping[str, Any]) -> Source:
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        return Loader(DataLoader(data, batch_size or BATCH_SIZE, shuffle=True), seed, how)
    if isinstance(data, (Tensor, Mapping, tuple)):
        return Pool.of([as_batch(data, **how)], batch_size or BATCH_SIZE, seed)
    if isinstance(data, list):
        return Pool.of([as_batch(each, **how) for each in data], batch_size or BATCH_SIZE, seed)
    if not isinstance(data, Iterable) or isinstance(data, (str, Iterator)):
        return Pool.of(read(data, samples=None, **how), batch_size or BATCH_SIZE, seed)
    if batch_size is not None:
        raise DataError(
            f"batch_size={batch_size} was given with a {type(data).__name__}, which makes batches of its own; leave it "
            "out, or give tensors."
        )
    return Loader(data, seed, how)
