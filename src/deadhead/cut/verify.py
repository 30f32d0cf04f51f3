"""Verification: does the pruned network compute what its gated original computes?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deadhead.data.calibration import Batch
from deadhead.gates.state import PrunedState
from deadhead.graph.agreement import relative_difference
from deadhead.graph.pytree import take
from deadhead.progress import Progress, track

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}
PROOF = 10.0
"""A trial cut may differ by this many times the tolerance: a wrong cut differs by far more, rounding by less."""


def tolerance_of(module: nn.Module) -> float:
    """The largest relative difference that rounding explains, for the coarsest floating type among the parameters."""
    types = {parameter.dtype for parameter in module.parameters()}
    return max((TOLERANCE.get(each, 1e-5) for each in types), default=1e-5)


def verify(
    state: PrunedState,
    pruned: nn.Module,
    batches: Sequence[Batch],
    progress: Progress | None = None,
    *,
    renormalise: bool = True,
) -> float:
    """The largest difference between a pruned module and its gated original.

    Args:
        state: the intact network with the removed units closed and the compensation applied.
        pruned: the module that was cut.
        batches: the data that both are run on.
        progress: called with (step, done, total).
        renormalise: False: the normalisations of the original go over all units, removed ones too.

    Returns:
        max |pruned - gated| / max |gated| over the data, the maximum over output tensors; infinity where shapes differ.
    """
    worst = 0.0
    for batch in track(progress, "verify", batches):
        batch = batch.to(state.network.device())
        expected = floats(state.outputs(batch, renormalise=renormalise))
        found = floats(state.network.run_module(batch.inputs, pruned))
        if len(expected) != len(found):
            return float("inf")
        for ours, theirs in zip(found, expected, strict=True):
            if ours.shape != theirs.shape:
                return float("inf")
            difference = relative_difference(ours, theirs)
            worst = difference if not difference <= worst else worst
    return worst


def floats(outputs: object) -> list[Tensor]:
    """The floating-point tensors among the outputs of a module."""
    return [tensor for tensor in take(outputs, opaque=True)[0] if tensor.is_floating_point()]
