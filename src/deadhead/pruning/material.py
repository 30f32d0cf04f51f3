"""What a prune starts from: what it is judged on, and what of the network can be removed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from deadhead.cut.provable import Cutting, cuttable
from deadhead.data.calibration import Batch, Calibration, as_batch, calibrate, read
from deadhead.data.losses import Loss, as_loss, prediction_of
from deadhead.errors import CutError, DataError
from deadhead.graph.network import Network, trace
from deadhead.progress import Progress
from deadhead.pruning.messages import nothing
from deadhead.pruning.options import Options


class Clock:
    """The seconds of each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[step] = time.perf_counter() - start


@dataclass(frozen=True)
class Material:
    """What a prune is judged on.

    Attributes:
        loss: the loss of each sample.
        batches: all batches that were read.
        calibration: their samples in two parts, calibration and held-out.
        unseen: what the report measures on: the test data, or the held-out samples.
        is_test: whether that is test data.
    """

    loss: Loss
    batches: Sequence[Batch]
    calibration: Calibration
    unseen: Sequence[Batch]
    is_test: bool

    @classmethod
    def read(
        cls, data: Iterable[Any], test: Iterable[Any] | None, loss: Any, options: Options, batch_axis: int
    ) -> Material:
        """Read the data once, up to `options.samples` samples, and all of the test data."""
        judge = as_loss(loss)
        how: dict[str, Any] = {"labels_to_model": judge.labels_to_model, "batch_axis": batch_axis}
        batches = read(data, samples=options.samples, **how)
        calibration = calibrate(batches, seed=options.seed)
        unseen = calibration.held_out if test is None else read(test, samples=None, **how)
        return cls(judge, batches, calibration, unseen, test is not None)

    @classmethod
    def against_itself(cls, network: Network, batches: Sequence[Batch]) -> Material:
        """Judge by the squared error from the outputs that the network has now: what can be said without a loss."""
        targeted = []
        for batch in batches:
            wanted = prediction_of(network.run_module(batch.inputs)).detach().cpu()
            targeted.append(as_batch((batch.inputs, wanted), batch_axis=network.batch_axis))
        judge = replace(as_loss("mse"), name="squared error from the outputs before", sampled=None)
        return cls(judge, targeted, Calibration(list(targeted), list(targeted)), targeted, False)


@dataclass(frozen=True)
class Removable:
    """The network and what can be cut from it.

    Attributes:
        network: the traced network.
        cutting: the groups that can be cut, and the reason for each other one.
        widened: whether units of residual streams can be cut because nothing else can, without having been asked for.
    """

    network: Network
    cutting: Cutting
    widened: bool = False

    @classmethod
    def of(cls, network: Network, batches: Sequence[Batch], options: Options, progress: Progress | None) -> Removable:
        """Find what can be cut from a network by trial cuts; units of residual streams too where nothing else can be
        cut and the options do not forbid it.

        Raises:
            DataError: where a tensor of the network is not finite.
            CutError: where nothing can be cut.
        """
        for name, tensor in network.state().items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise DataError(
                    f"{name} is not finite (NaN or infinity), so that nothing can be computed with it; give a network "
                    "whose training did not diverge."
                )
        found = cls(network, cuttable(network, network.select(options.only, options.exclude), progress))
        if not found.cutting.groups and options.width is None and network.freed_by_width():
            wide = trace(network.module, network.example_call(), batch_axis=network.batch_axis, width=True)
            wide = wide.prepare(batches[0].inputs)
            found = cls(wide, cuttable(wide, wide.select(options.only, options.exclude), progress), widened=True)
        if not found.cutting.groups:
            raise CutError(nothing(found.network, found.cutting.refused))
        return found
