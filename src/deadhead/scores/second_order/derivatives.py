"""Second derivatives by torch: attention and weight norm as plain operations, and an error where an op has none."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from deadhead.errors import DataError
from deadhead.gates.gates import Gates
from deadhead.graph.graph import Edits
from deadhead.graph.network import Traced
from deadhead.graph.nodes import op_name

_NO_DERIVATIVE = re.compile(r"derivative for '?([\w:.]+)'? is not implemented|([\w:.]+) is not differentiable")


class TwiceDifferentiable(Gates):
    """Gates that replay weight norm as plain operations: torch takes the norm in its fused one for a constant where it
    is differentiated twice."""

    def edits(self, traced: Traced, alpha: Mapping[str, Tensor]) -> Edits:
        """The edits of `Gates`, and one for each weight norm."""
        edits = super().edits(traced, alpha)
        edits.around.update((node, _weight_norm) for node in traced.graph.calls if op_name(node) == "_weight_norm")
        return edits


def _weight_norm(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Tensor:
    """`g v / |v|`, the norm over all axes but one, or all with -1."""
    v, g, *axis = args
    norm = torch.norm_except_dim(v, 2, axis[0] if axis else kwargs.get("dim", 0))
    return torch.mul(v, g / norm)


def no_second(name: str) -> DataError:
    """The error for something that has no second derivative."""
    return DataError(
        f"The second derivative of {name} is not known, which this network or its loss uses; choose a criterion "
        "without second derivatives: taylor1, loss_change or magnitude."
    )


@contextlib.contextmanager
def twice() -> Iterator[None]:
    """Attention in plain operations, which can be differentiated twice; an op that cannot be is refused by name."""
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    except RuntimeError as error:
        found = _NO_DERIVATIVE.search(str(error))
        if found is None:
            raise
        raise no_second(found[1] or found[2]) from error


def refuse_once_differentiable(gradients: Iterable[Tensor | None]) -> None:
    """Refuse functions marked once_differentiable: torch omits, without an error, second derivatives through them where
    it is asked for the derivatives by some tensors only."""
    waiting: list[Any] = [gradient.grad_fn for gradient in gradients if gradient is not None]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            if node.name() == "torch::autograd::Error":
                raise no_second("a function marked once_differentiable")
            waiting += [following for following, _ in node.next_functions]


def filled(found: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Derivatives, zero where there are none."""
    return [torch.zeros_like(each) if part is None else part for part, each in zip(found, like, strict=True)]


def derivatives(value: Tensor, by: Sequence[Tensor], create_graph: bool = False) -> list[Tensor]:
    """The derivatives of a number by some tensors, zero where it does not depend on them; the autograd graph is kept.

    Args:
        value: the number that is differentiated.
        by: the tensors by which it is.
        create_graph: whether the derivatives can be differentiated again.

    Returns:
        One tensor for each of `by`, of its shape.
    """
    if not value.requires_grad:
        return [torch.zeros_like(each) for each in by]
    return filled(torch.autograd.grad(value, by, create_graph=create_graph, retain_graph=True, allow_unused=True), by)
