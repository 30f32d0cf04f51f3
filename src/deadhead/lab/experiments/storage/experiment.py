"""Pruned weights zeroed, stored as a sparse matrix, or cut: memory, disk, and time to use and to train."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from deadhead.lab.experiments.registry import experiment
from deadhead.lab.experiments.storage.claims import CLAIMS, TAKEAWAY
from deadhead.lab.experiments.storage.figures import PICTURES
from deadhead.lab.models import small_cnn
from deadhead.lab.networks.mnist_cnn import Parts, batches, epoch, parts
from deadhead.progress import Progress, track
from deadhead.training import Masks, Storage, storage
from deadhead.training.forms.sparse import Sparse

Net = Any
UNITS = {"conv1": 4, "conv2": 7, "fc1": 26}
"""What Evci (2018), table 4.2, leaves of 8, 16 and 64 units: 4,019 of 20,522 parameters."""


@dataclass(frozen=True)
class Settings:
    """Settings. What is stored and timed depends on shapes and zeros, and not on how well a network does, so that it
    is trained for one epoch alone.

    Args:
        images: training images; 0 is all.
        batch_size: of a step of training.
        learning_rate: of plain SGD.
        sparsities: shares of the weights that are zero, smallest magnitudes first, all layers in one ranking.
        sizes: samples of a call that is timed.
        repeats: measurements of each form, in turn; medians are kept.
        steps: of training that are timed at once.
    """

    images: int = 20000
    batch_size: int = 32
    learning_rate: float = 0.05
    sparsities: tuple[float, ...] = (0.5, 0.8, 0.9)
    sizes: tuple[int, ...] = (1, 64)
    repeats: int = 31
    steps: int = 5


QUICK = {"images": 320, "sparsities": (0.5, 0.9), "sizes": (64,), "repeats": 2, "steps": 1}


@experiment("storage", Settings, claims=CLAIMS, pictures=PICTURES, quick=QUICK, takeaway=TAKEAWAY)
def storage_forms(settings: Settings, seed: int, progress: Progress | None) -> dict[str, Any]:
    """What a pruned small CNN costs as zeros, in compressed sparse rows, and as a smaller dense network: bytes in
    memory and on disk, seconds of a forward pass and of an epoch of training.

    Single weights are pruned by magnitude; units, 4-7-26 of 8-16-64, by the mean replacement saliency. Durations are
    medians of measurements in turn, seconds of one core.
    """
    data = parts(1000, settings.images)
    net: Net = small_cnn(seed=seed)  # in torch's own memory format
    optimizer, order = torch.optim.SGD(net.parameters(), lr=settings.learning_rate), torch.Generator().manual_seed(seed)
    ticks = track(progress, "training", range(len(data.train[1]) // settings.batch_size))
    for _ in epoch(net, optimizer, data.train, settings.batch_size, order):
        next(ticks, None)
    found: dict[str, Any] = {"sparse": {}}
    for share in track(progress, "sparse forms", settings.sparsities):
        found["sparse"][f"{share:g}"] = single_weights(settings, net, data, share)
        found[f"sparse_time_less_dense_at_{share:g}"] = found["sparse"][f"{share:g}"]["sparse_over_dense"][-1] - 1
    last = found["sparse"][f"{max(settings.sparsities):g}"]
    found |= units(settings, net, data)
    found |= {
        "output_difference": [last["sparse_difference"], found["cut_difference"]],
        "zeroed_time_less_dense": last["zeroed_over_dense"][-1] - 1,
        "sparse_bytes_less_zeroed": last["sparse_bytes"] / last["zeroed_bytes"] - 1,
        "sparse_time_less_zeroed": last["sparse_over_zeroed"][-1] - 1,
    }
    return found


def single_weights(s: Settings, net: Net, data: Parts, share: float) -> dict[str, Any]:
    """Bytes and durations of a network with so many of its weights at zero.

    Args:
        s: settings.
        net: the trained network; a copy of it is pruned.
        data: the parts of MNIST.
        share: of the weights.
    """
    zeroed = copy.deepcopy(net)
    with Masks(zeroed, None, example=data.train[0][:2]) as masks:
        masks.prune(weights=1 - share, scope="all")
    forms = storage(zeroed, example=data.test[0][: max(s.sizes)], batches=s.sizes, repeats=1)
    models = {"dense": net, "zeroed": zeroed, "sparse": Sparse(zeroed)}
    seconds = in_turn(models, data.test[0], s.sizes, s.repeats)
    return {
        "seconds": seconds,
        "zeroed_over_dense": _ratios(seconds, "zeroed", "dense"),
        "sparse_over_zeroed": _ratios(seconds, "sparse", "zeroed"),
        "sparse_over_dense": _ratios(seconds, "sparse", "dense"),
        "sparse_difference": forms["sparse"].difference,
        **{f"{form}_bytes": forms[form].memory_bytes for form in ("zeroed", "sparse")},
        "bytes": _bytes(forms),
    }


def _ratios(seconds: Mapping[str, list[float]], one: str, other: str) -> list[float]:
    return [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]


def _bytes(forms: Storage) -> dict[str, dict[str, int]]:
    return {row.form: {"memory": row.memory_bytes, "disk": row.disk_bytes} for row in forms.rows}


def units(s: Settings, net: Net, data: Parts) -> dict[str, Any]:
    """Bytes and durations of a network without units, closed and cut, and of training the smaller one.

    Args:
        s: settings.
        net: the trained network; a copy of it is pruned.
        data: the parts of MNIST.
    """
    closed = copy.deepcopy(net)
    masks = Masks(closed, None, example=data.test[0][: max(s.sizes)])
    masks.prune(batches(data.train, 512), loss="cross_entropy", units=UNITS, criterion="mrs")
    smaller = masks.cut()
    forms = storage(closed, masks, pruned=smaller, batches=s.sizes, repeats=1)
    times = in_turn(
        {"zeroed": closed, "sparse": Sparse(closed), "cut": smaller.model}, data.test[0], s.sizes, s.repeats
    )
    with torch.no_grad():
        intact, pruned = (each(data.test[0][:64]) for each in (net, closed))
    steps = {name: _training(model, s, data) for name, model in (("dense", net), ("cut", smaller.model))}
    seconds = _medians(steps, s.repeats)
    epoch_steps = 60000 / s.batch_size / s.steps
    return {
        "cut_difference": forms["cut"].difference,
        "difference_to_intact": float((intact - pruned).abs().max() / intact.abs().max()),
        "cut_parameters": forms["cut"].parameters,
        "cut_bytes_less_zeroed": forms["cut"].memory_bytes / forms["zeroed"].memory_bytes - 1,
        "cut_over_zeroed": _ratios(times, "cut", "zeroed"),
        "cut_time_less_zeroed": _ratios(times, "cut", "zeroed")[-1] - 1,
        "unit_seconds": times,
        "epoch_seconds": {name: each * epoch_steps for name, each in seconds.items()},
        "epoch_time_less_dense": seconds["cut"] / seconds["dense"] - 1,
        "unit_bytes": _bytes(forms),
        "multiply_adds_left": smaller.report.after.macs / smaller.report.before.macs,
    }


def in_turn(models: Mapping[str, Net], inputs: Any, sizes: Sequence[int], repeats: int) -> dict[str, list[float]]:
    """The median seconds of a forward pass of each model with so many samples, measured in turn.

    Args:
        models: by name.
        inputs: samples.
        sizes: samples of a call.
        repeats: measurements.
    """
    found: dict[str, list[float]] = {name: [] for name in models}
    with torch.no_grad():
        for size in sizes:
            times = 20 if size == 1 else 2
            calls = {name: _calling(model, inputs[:size], times) for name, model in models.items()}
            for name, seconds in _medians(calls, repeats).items():
                found[name].append(seconds / times)
    return found


def _calling(model: Net, inputs: Any, times: int) -> Callable[[], None]:
    def call() -> None:
        for _ in range(times):
            model(inputs)

    return call


def _training(model: Net, s: Settings, data: Parts) -> Callable[[], None]:
    """Some steps of training of a copy of a model."""
    mine = copy.deepcopy(model).requires_grad_(True)
    optimizer = torch.optim.SGD(mine.parameters(), lr=s.learning_rate)
    x, y = (each[: s.batch_size] for each in data.train)

    def call() -> None:
        for _ in range(s.steps):
            optimizer.zero_grad()
            functional.cross_entropy(mine(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return call


def _medians(calls: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """The median seconds of calls, in turn: of this thread, so that other processes on the core do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.thread_time()
            call()
            seconds[name].append(time.thread_time() - start)
    return {name: statistics.median(each) for name, each in seconds.items()}
