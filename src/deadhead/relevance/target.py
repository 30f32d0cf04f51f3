"""The target of an attribution: which number of the output is explained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from deadhead.errors import RelevanceError
from deadhead.graph.pytree import take

Target = int | Tensor | Callable[[Any], Tensor] | None


def explained(target: Target, outputs: Any, rows: int) -> tuple[Callable[[Any], Tensor], Tensor | None]:
    """The explained value of each sample as a function of the model's outputs.

    Args:
        target: an index, a tensor of one for each sample, a function from the outputs to shape (samples,), or None.
        outputs: the model's outputs, in its own container.
        rows: number of samples.

    Returns:
        A function from outputs to the explained values, shape (samples,); and the indices that it takes, shape
        (samples,), or None.

    Raises:
        RelevanceError: if the target does not name one number for each sample.

    >>> choose, index = explained(None, torch.tensor([[1.0, 3.0], [5.0, 2.0]]), 2)
    >>> index, choose(torch.tensor([[1.0, 3.0], [5.0, 2.0]]))
    (tensor([1, 0]), tensor([3., 5.]))
    """
    if callable(target):
        given = target

        def called(outputs: Any) -> Tensor:
            values = given(outputs)
            if not isinstance(values, Tensor) or values.shape != (rows,):
                shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
                raise RelevanceError(
                    f"The target gives {shape} for {rows} samples; it must give one number for each, shape ({rows},)."
                )
            return values

        return called, None
    first = _first(outputs)
    if first.dim() == 0 or first.shape[0] != rows:
        raise RelevanceError(
            f"The first output has shape {tuple(first.shape)} for {rows} samples; give a target that takes the outputs "
            "and returns one number for each sample."
        )
    if target is None:
        chosen = first.detach().flatten(1).argmax(1) if first.dim() > 1 else None
    else:
        if first.dim() != 2:
            raise RelevanceError(
                f"The output has shape {tuple(first.shape)}, where an index names no single number; give a target that "
                "takes the outputs and returns one for each sample, such as lambda outputs: outputs.logits[:, -1, 7]."
            )
        chosen = torch.as_tensor(target, device=first.device)
        if chosen.is_floating_point() or chosen.dim() > 1 or (chosen.dim() == 1 and len(chosen) != rows):
            raise RelevanceError(f"The target must be an index, or {rows} of them, one for each sample.")
        if bool((chosen < 0).any()) or bool((chosen >= first.shape[1]).any()):
            raise RelevanceError(f"The target {target} is not among the {first.shape[1]} outputs.")
        chosen = chosen.expand(rows)

    def indexed(outputs: Any) -> Tensor:
        values = _first(outputs)
        if chosen is None:
            return values
        flat = values.flatten(1)
        return flat.gather(1, chosen[:, None].to(flat.device))[:, 0]

    return indexed, chosen


def _first(outputs: Any) -> Tensor:
    found = next((each for each in take(outputs, opaque=True)[0] if each.is_floating_point()), None)
    if found is None:
        raise RelevanceError("The model returns no floating-point tensor that relevance could start from.")
    return found
