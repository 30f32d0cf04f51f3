"""Whether a traced graph computes what its module computes, at several numbers of samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.errors import TraceError
from deadhead.graph.graph import Graph
from deadhead.graph.nodes import where
from deadhead.graph.pytree import Structure, take
from deadhead.graph.trace import batch_size, has_rows, rows_of, untouched
from deadhead.graph.units.registry import has_rule
from deadhead.text import counted

REFUSED_ABOVE = 1e-4
"""Relative difference between graph and module above which a trace is refused."""
COMPARED_AT = (1, 2, 3)
"""The numbers of samples at which graph and module are compared."""


def check_free_axes(
    graph: Graph, tensors: Sequence[Tensor], free: Sequence[Collection[int]], batch_axis: int, name: str
) -> None:
    """Refuse a graph whose batch axis, or another axis that has to be free, has its size fixed.

    Args:
        graph: the traced graph.
        tensors: the inputs that it was traced with.
        free: for each input the axes that have to be free beside the batch axis.
        batch_axis: the axis along which the samples lie.
        name: the class of the module, for the error.

    Raises:
        TraceError: with the op that fixed the batch size, where one is suspected.
    """
    samples = batch_size(list(tensors), batch_axis)
    for node, example, axes in zip(graph.inputs, tensors, free, strict=True):
        value = node.meta["val"]
        if has_rows(example, batch_axis, samples) and not _is_free(value.shape[batch_axis]):
            raise TraceError(
                f"{name} has its batch size fixed by its forward: axis {batch_axis} of its inputs cannot vary"
                f"{_suspect(graph, samples)}; look for int(x.size(0)), len(x), a literal batch size or an if on it, or "
                "set batch_axis."
            )
        for axis in axes:
            if not _is_free(value.shape[axis]):
                raise TraceError(f"{name} has the size of axis {axis} of its inputs fixed by its forward.")


def difference_from_module(
    graph: Graph,
    state: Mapping[str, Tensor],
    module: nn.Module,
    call: Structure,
    tensors: list[Tensor],
    batch_axis: int,
) -> float:
    """The largest relative difference between the outputs of a graph and of its module, at 1, 2 and 3 samples.

    Args:
        graph: the traced graph.
        state: parameters and buffers by name.
        module: what was traced; it is left as it was.
        call: the structure of the module's arguments.
        tensors: the inputs that the graph was traced with.
        batch_axis: the axis along which the samples lie.

    Raises:
        TraceError: where one of them fails, shapes differ, or values differ by more than `REFUSED_ABOVE`.
    """
    name, largest = type(module).__name__, 0.0
    for samples in COMPARED_AT:
        index = torch.arange(samples) % batch_size(tensors, batch_axis)
        chosen = rows_of(tensors, batch_axis, index)
        args, kwargs = call.fill([tensor.clone() for tensor in chosen])
        try:
            with untouched(module):
                expected, _ = take(module(*args, **kwargs), opaque=True)
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.rand(1)  # random numbers other than the module's, so that a random forward shows
                found = graph.run(chosen, state)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise TraceError(
                f"{name} fails on {counted(samples, 'sample')}: {type(error).__name__}: {reason}."
            ) from error
        for ours, theirs in zip(found, expected, strict=True):
            largest = max(largest, _difference(ours, theirs, samples, name))
    return largest


def _difference(found: Tensor, expected: Tensor, samples: int, name: str) -> float:
    """The relative difference of one output; raises `TraceError` where it is another one."""
    count = counted(samples, "sample")
    if found.shape != expected.shape:
        raise TraceError(
            f"The graph of {name} gives {tuple(found.shape)} at {count}, the module {tuple(expected.shape)}: its "
            "forward depends on the number of samples in a way that tracing cannot follow."
        )
    if not expected.is_floating_point():
        return 0.0
    difference = relative_difference(found, expected)
    if not difference <= REFUSED_ABOVE:
        raise TraceError(
            f"The graph of {name} differs from the module by {difference:.1e} relative at {count}: its forward is "
            "random in evaluation mode, or depends on the number of samples or on something else that tracing cannot "
            "see."
        )
    return difference


def _suspect(graph: Graph, samples: int) -> str:
    """The first op that was given the number of samples as a number, with its line, for an error."""
    for node in graph.calls:
        for arg in node.args[1:]:
            if isinstance(arg, (list, tuple)) and samples in arg:
                lines = (node.meta.get("stack_trace") or "").strip().splitlines()
                place = f", {' '.join(line.strip() for line in lines[-2:])}" if len(lines) > 1 else ""
                return f" ({where(node)}{place})"
    return "".join(f" (perhaps by {where(node)})" for node in graph.calls if not has_rule(node))[:120]


def _is_free(size: Any) -> bool:
    """Whether a traced size can be anything from 2 on."""
    if not isinstance(size, torch.SymInt):
        return False
    bounds = size.node.shape_env.bound_sympy(size.node.expr)
    return bool(bounds.lower <= 2 and bounds.upper > 2**31)


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """The relative difference max |found - expected| / max |expected|; 0 for two zeros or two empty tensors.

    Example:
        >>> relative_difference(torch.tensor([1.0, 2.2]), torch.tensor([1.0, 2.0]))
        0.1000...
    """
    if not expected.numel():
        return 0.0
    found, expected = found.detach().double(), expected.detach().double()
    largest = expected.abs().max().item()
    if torch.equal(found.isnan(), expected.isnan()) and expected.isnan().any():
        found, expected = found.nan_to_num(), expected.nan_to_num()
        largest = expected.abs().max().item()
    difference = (found - expected).abs().max().item()
    if difference == 0:
        return 0.0
    return difference / largest if largest else float("inf")
