"""Data loaders read anew in every epoch, in an order that depends on a seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from deadhead.data.calibration import Batch, as_batch
from deadhead.errors import DataError
from deadhead.training.randomness import number_of, random_state_kept, seed_all


@dataclass(frozen=True)
class Loader:
    """A data loader, or another iterable that can be read again.

    Before an epoch begins and before each of its batches is fetched, python, numpy, torch and the loader's own
    generators are seeded for that place: shuffling and augmentation depend on nothing else.

    Attributes:
        data: the iterable.
        seed: of the order.
        how: keyword arguments of `as_batch`.
    """

    data: Iterable[Any]
    seed: int
    how: Mapping[str, Any]

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the one with the index `start` on; those before are loaded and dropped."""
        return self._batches(f"epoch {number}", start)

    def in_order(self) -> Iterator[Batch]:
        """All batches once, the same each time: shuffling and augmentation draw the same numbers."""
        return self._batches("measuring", 0)

    def _batches(self, name: str, start: int) -> Iterator[Batch]:
        self.seed_for(name)
        found, iterator = 0, iter(self.data)
        while True:
            seed_all(self.seed, name, found)
            try:
                raw = next(iterator)
            except StopIteration:
                break
            if found >= start:
                yield as_batch(raw, **self.how)
            found += 1
        if not found:
            raise DataError(f"data holds no samples: this {type(self.data).__name__} gave no batch in {name}.")

    def seed_for(self, name: str) -> None:
        """Seed every generator that the order is drawn from."""
        seed_all(self.seed, name)
        for place, generator in enumerate(self.generators()):
            generator.manual_seed(number_of(self.seed, name, place))

    def steps(self) -> int | None:
        """The number of batches that the loader says it has; None where it says none."""
        try:
            return len(self.data)  # type: ignore[arg-type]
        except TypeError:
            return None

    def generators(self) -> Sequence[torch.Generator]:
        """The generators of a data loader and of its samplers, where it has any."""
        batch_sampler = getattr(self.data, "batch_sampler", None)
        batch_sampler = getattr(batch_sampler, "whole", batch_sampler)
        holders = (
            self.data,
            getattr(self.data, "sampler", None),
            batch_sampler,
            getattr(batch_sampler, "sampler", None),
        )
        found = (getattr(holder, "generator", None) for holder in holders)
        return list({id(each): each for each in found if isinstance(each, torch.Generator)}.values())


class Without:
    """The batches of indices of a sampler, less those that are held out.

    Args:
        whole: the sampler of batches.
        held: the indices that are left out.

    Example:
        >>> list(Without([[0, 1, 2], [3, 4], [5]], {1, 3}))
        [[0, 2, 4], [5]]
    """

    def __init__(self, whole: Any, held: Collection[Any]) -> None:
        self.whole = whole
        self.held = held

    def __iter__(self) -> Iterator[list[Any]]:
        waiting: list[Any] = []
        is_short = False  # batch norm cannot train on a single sample, so a batch cut down to one joins its neighbour
        for batch in self.whole:
            kept = [index for index in batch if index not in self.held]
            cut_to_one = len(kept) == 1 < len(batch)
            if waiting and not (is_short or cut_to_one):
                yield waiting
                waiting = []
            is_short = cut_to_one and not waiting
            waiting += kept
        if waiting:
            yield waiting

    def __len__(self) -> int:
        return len(self.whole)


def split_loader(source: Any, draw: Callable[[int], Tensor]) -> tuple[Loader, Loader]:
    """Two loaders over the data set of one, the second with the samples that are held out.

    The first goes through the loader's own sampler, and leaves out what is held out: its batches are smaller by as
    much.

    Args:
        source: a `Loader` of a data loader whose data set has indices.
        draw: the number of samples to the places of those that are held out.

    Raises:
        DataError: where samples have no indices, so that they could not be told from those that are trained on.
    """
    loader = source.data
    plain = isinstance(loader, DataLoader) and type(loader).__iter__ is DataLoader.__iter__
    if not plain or isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        raise DataError(
            f"Samples cannot be held out from a {type(loader).__name__} that does not say which samples its batches "
            "hold; give held_out= other data, or 0."
        )
    with random_state_kept(*source.generators()):
        source.seed_for("held out")
        batches = list(loader.batch_sampler)
    known = sorted({index for batch in batches for index in batch})
    if not known:
        raise DataError("data holds no samples; give at least 2, one to train on and one to hold out.")
    held = [known[place] for place in draw(len(known)).tolist()]
    size = max(map(len, batches))
    chunks = [held[start : start + size] for start in range(0, len(held), size)]
    pair = (Without(loader.batch_sampler, set(held)), chunks)
    first, second = (Loader(_with_sampler(loader, sampler), source.seed, source.how) for sampler in pair)
    return first, second


def _with_sampler(loader: DataLoader[Any], batch_sampler: Any) -> DataLoader[Any]:
    """A loader of the same data set with another sampler of batches."""
    names = (
        "dataset", "num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context",
        "generator", "prefetch_factor", "persistent_workers", "pin_memory_device",
    )  # fmt: skip
    return DataLoader(batch_sampler=batch_sampler, **{name: getattr(loader, name) for name in names})
