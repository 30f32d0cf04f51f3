"""Measuring a network: size, multiply-adds, latency, loss and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from deadhead.cut.saved import saved_tensors
from deadhead.data.calibration import Batch, choose, count
from deadhead.data.losses import Loss, accuracy
from deadhead.errors import LossError
from deadhead.graph.network import Network
from deadhead.graph.trace import untouched
from deadhead.progress import Progress, track
from deadhead.pruning.record import Measures

LATENCY_SECONDS = 0.3
"""The minimum time over which a latency is measured."""
LATENCY_SAMPLES = 64
"""The maximum number of samples of the pass whose latency is measured."""


def multiply_adds(network: Network, module: nn.Module, batch: Batch) -> int:
    """Count the multiply-adds of one sample with torch's own counter.

    Args:
        network: says how the module is called.
        module: the network's module, or a smaller one.
        batch: its first sample is what is run.
    """
    first = choose(batch, torch.zeros(1, dtype=torch.long))
    # Of the fused kernels of attention, torch's counter knows those of the GPU alone, and of grouped products none.
    grouped = [
        getattr(torch.ops.aten, "_grouped_mm", None),
        getattr(torch.ops.transformers, "grouped_mm_fallback", None),
    ]
    known = {op: _grouped_flops for op in grouped if op is not None}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=known) as counter:
        network.run_module(first.inputs, module)
    return int(counter.get_total_flops()) // 2


def _grouped_flops(x: Sequence[int], weight: Sequence[int], *args: Any, out_shape: Any = None, **options: Any) -> int:
    """Twice the multiply-adds of rows (t, i) with a matrix (i, o) of their expert each, out of (experts, i, o)."""
    return 2 * x[0] * weight[-2] * weight[-1]


def latency(network: Network, module: nn.Module, batch: Batch) -> tuple[float, int]:
    """Measure the latency of a forward pass in evaluation mode without gradients.

    Args:
        network: says how the module is called.
        module: the network's module, or a smaller one.
        batch: the samples; at most `LATENCY_SAMPLES` of them.

    Returns:
        The median seconds of a pass, and its number of samples.
    """
    samples = min(batch.rows, LATENCY_SAMPLES)
    args, kwargs = network.call(choose(batch, torch.arange(samples)).inputs)
    with untouched(module):
        timer = Timer("module(*args, **kwargs)", globals={"module": module, "args": args, "kwargs": kwargs})
        return float(timer.blocked_autorange(min_run_time=LATENCY_SECONDS).median), samples


def quality(
    network: Network, module: nn.Module, loss: Loss, batches: Sequence[Batch], progress: Progress | None = None
) -> tuple[float, float | None]:
    """Measure the mean loss and the accuracy over samples; None for an accuracy without classes.

    Args:
        network: says how the module is called.
        module: the network's module, or a smaller one.
        loss: the loss of each sample.
        batches: the samples.
        progress: called with (step, done, total).

    Raises:
        LossError: where the loss is not finite.
    """
    total, right, has_classes = 0.0, 0.0, True
    for batch in track(progress, "measuring", batches):
        moved = batch.to(network.device())
        outputs = network.run_module(moved.inputs, module)
        losses = loss.per_sample(outputs, moved)
        if not torch.isfinite(losses).all():
            raise LossError(
                f"The loss {loss.name} is not finite (NaN or infinity) for {type(module).__name__} on this data; check "
                "the weights, the inputs and the targets."
            )
        total += losses.double().sum().item()
        hits = accuracy(outputs, moved)
        has_classes = has_classes and hits is not None
        right += 0.0 if hits is None else hits.sum().item()
    samples = count(batches)
    return total / samples, right / samples if has_classes else None


def measure(
    network: Network,
    module: nn.Module,
    units: int,
    memory: int,
    loss: Loss,
    batches: Sequence[Batch],
    progress: Progress | None = None,
) -> Measures:
    """Measure size, multiply-adds, latency, loss and accuracy of a module.

    Args:
        network: says how the module is called.
        module: the network's module, or a smaller one.
        units: how many units it has, which the plan says.
        memory: how many bytes it takes, which the plan says.
        loss: the loss of each sample.
        batches: the samples.
        progress: called with (step, done, total).
    """
    mean_loss, right = quality(network, module, loss, batches, progress)
    seconds, samples = latency(network, module, batches[0])
    return Measures(
        units=units,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        macs=multiply_adds(network, module, batches[0]),
        bytes=len(safetensors.torch.save(saved_tensors(module))),
        memory=memory,
        latency=seconds,
        latency_rows=samples,
        loss=mean_loss,
        accuracy=right,
    )
