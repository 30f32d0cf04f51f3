"""Verification: does the pruned network compute what its gated original computes?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deadhead.data.calibration import Batch
from deadhead.data.losses import Loss, as_loss
from deadhead.gates.gates import Gates
from deadhead.graph.network import Network, relative_difference
from deadhead.graph.pytree import take
from deadhead.progress import Progress, track
from deadhead.reconstruction.compensation import Compensation
from deadhead.select.plan import Plan

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}
PROOF = 10.0
"""A trial cut may differ by this many times the tolerance: a wrong cut differs by far more, rounding by less."""


def tolerance_of(module: nn.Module) -> float:
    """The largest relative difference that rounding explains, for the coarsest floating type among the parameters."""
    types = {parameter.dtype for parameter in module.parameters()}
    return max((TOLERANCE.get(each, 1e-5) for each in types), default=1e-5)


class Gated:
    """The intact network with the plan's units closed (reference zero) and the compensation applied. With
    `renormalise` off, normalisations go on over all units, those that are closed too."""

    def __init__(
        self,
        network: Network,
        plan: Plan,
        compensation: Compensation | None = None,
        loss: Loss | None = None,
        renormalise: bool = True,
    ) -> None:
        compensation = compensation or Compensation()
        self.network = network
        self.gates = Gates(
            network, loss or as_loss("mse"), state=compensation.full_state(network), added=compensation.added,
            renormalise=renormalise,
        )  # fmt: skip
        self.alpha = plan.alpha(network.groups)

    def outputs(self, batch: Batch) -> object:
        with torch.no_grad():
            return self.gates.outputs(self.alpha, batch)


def verify(gated: Gated, pruned: nn.Module, batches: Sequence[Batch], progress: Progress | None = None) -> float:
    """The largest difference between the pruned module and its gated original over the data, relative to the largest
    absolute output of the latter, for each output tensor."""
    worst = 0.0
    for batch in track(progress, "verify", batches):
        batch = batch.to(gated.network.device())
        expected = floats(gated.outputs(batch))
        found = floats(gated.network.run_module(batch.inputs, pruned))
        if len(expected) != len(found):
            return float("inf")
        for ours, theirs in zip(found, expected, strict=True):
            if ours.shape != theirs.shape:
                return float("inf")
            difference = relative_difference(ours, theirs)
            worst = difference if not difference <= worst else worst
    return worst


def floats(outputs: object) -> list[Tensor]:
    return [tensor for tensor in take(outputs, opaque=True)[0] if tensor.is_floating_point()]
