"""The baseline input that activations are compared with: zeros, given, or the mean of data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deadhead.data.calibration import read
from deadhead.errors import RelevanceError
from deadhead.graph.network import Network
from deadhead.graph.pytree import as_call, take
from deadhead.graph.trace import batch_size
from deadhead.relevance.program import Program


def baseline_of(given: Any, network: Network, program: Program, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors of the baseline input, with as many samples as the inputs.

    Args:
        given: None for zeros, and 0 for ids that choose embeddings, where other integers and masks stay as they are; an
            input with as many samples or one; or a list of batches, whose mean it is.
        network: the traced network.
        program: its program.
        tensors: the tensors of the inputs.

    Raises:
        RelevanceError: if shapes do not fit, or a mean of ids is asked for.
    """
    if given is None:
        return [
            _blank(tensor, chooses(program, node)) for node, tensor in zip(program.graph.inputs, tensors, strict=True)
        ]
    found = _mean(given, network) if isinstance(given, list) else take(as_call(given))[0]
    if len(found) != len(tensors):
        raise RelevanceError(
            f"The baseline has {len(found)} tensors, the inputs have {len(tensors)}; give one for each."
        )
    return [
        _fitted(each.to(tensor.device), tensor, network.batch_axis) for each, tensor in zip(found, tensors, strict=True)
    ]


def _blank(tensor: Tensor, chooses: bool) -> Tensor:
    return torch.zeros_like(tensor) if tensor.is_floating_point() or chooses else tensor


def chooses(program: Program, node: Any) -> bool:
    """Whether an integer input reaches an embedding by being moved alone."""
    reached = {node}
    for operation in program.operations:
        if operation.kind and any(key in reached for key in operation.live):
            if operation.kind == "embedding":
                return True
            reached.add(operation.key)
    return False


def _fitted(baseline: Tensor, tensor: Tensor, axis: int) -> Tensor:
    if baseline.dim() == tensor.dim() - 1:
        baseline = baseline.unsqueeze(axis)
    try:
        return baseline.to(tensor.dtype).expand_as(tensor).contiguous()
    except RuntimeError as error:
        raise RelevanceError(
            f"The baseline has shape {tuple(baseline.shape)}, the inputs {tuple(tensor.shape)}; it needs that "
            "shape, or one sample."
        ) from error


def _mean(data: list[Any], network: Network) -> list[Tensor]:
    sums: list[Tensor] = []
    rows = 0
    for batch in read(data, samples=None, batch_axis=network.batch_axis):
        tensors = network.flatten(batch.inputs)
        if not all(each.is_floating_point() for each in tensors):
            raise RelevanceError(
                "The baseline is a list of batches, but ids and masks have no mean; give one input instead."
            )
        count = batch_size(tensors, network.batch_axis)
        parts = [each.double().sum(network.batch_axis, keepdim=True) for each in tensors]
        sums = parts if not sums else [a + b for a, b in zip(sums, parts, strict=True)]
        rows += count
    return [each / rows for each in sums]
