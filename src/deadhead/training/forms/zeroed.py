"""Copies of a network with weights at zero: where masks are closed, or where a pruned network has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from deadhead.cut.cut import weight_beside
from deadhead.cut.surgery import Surgery, copy_of, operate
from deadhead.errors import DataError
from deadhead.pruning.pruned import Pruned


def masked(model: nn.Module, keep: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a model with zeros where masks are closed.

    Args:
        model: the network.
        keep: {parameter or buffer: True where it is kept}, of its shape.

    Raises:
        DataError: where a mask fits no parameter and no buffer.

    Example:
        >>> masked(nn.Linear(1, 2), {"bias": torch.tensor([False, False])}).bias.tolist()
        [0.0, 0.0]
    """
    copied = copy_of(model)
    own: dict[str, Tensor] = dict(copied.named_parameters(remove_duplicate=False))
    own |= dict(copied.named_buffers(remove_duplicate=False))
    with torch.no_grad():
        for name, kept in keep.items():
            if name not in own or own[name].shape != kept.shape:
                raise DataError(
                    f"The masks have {name}, which does not fit {type(model).__name__}; give the masked network."
                )
            own[name].masked_fill_(~kept.to(own[name].device), 0)
    return copied


def zeroed_like(model: nn.Module, pruned: Pruned | None) -> nn.Module:
    """A copy of an intact model with the weights of a pruned one, zero where that has none; without one, a copy.

    Args:
        model: the intact network.
        pruned: what was made from it, or None for a model with zeros of its own.

    Raises:
        DataError: where the two do not fit, or there is no zero.
    """
    copied = copy_of(model)
    name = type(model).__name__
    if pruned is None:
        if all(bool((parameter != 0).all()) for parameter in copied.parameters() if parameter.dim() > 1):
            raise DataError(f"No weight of {name} is zero, so that nothing is saved; give masks or pruned=.")
        return copied
    keep = _keep(copied, pruned.surgery)
    state = dict(copied.named_parameters(remove_duplicate=False))
    fits = all(tensor in state or tensor in dict(copied.named_buffers()) for tensor in keep)
    if fits:
        for bias, size in pruned.surgery.biases.items():
            kept = keep.get(weight_beside(bias), {}).get(0)
            keep |= {} if kept is None else {bias: {0: kept}}
            length = size if kept is None else state[weight_beside(bias)].shape[0]
            operate(copied, Surgery(biases={bias: length}))
    smaller = {**dict(pruned.model.named_parameters()), **dict(pruned.model.named_buffers())}
    parameters = dict(copied.named_parameters())
    with torch.no_grad():
        for each, whole in (*parameters.items(), *copied.named_buffers()):
            part, axes = smaller.get(each), keep.get(each, {})
            if not fits or part is None or not _fits(whole, part, axes):
                raise DataError(
                    f"{each} of the pruned network does not fit {name}; give the intact network that was pruned, not "
                    "one that was cut in place."
                )
            if each in parameters:
                whole.zero_()
            _scatter(whole, part, axes)
    return copied


def _keep(model: nn.Module, surgery: Surgery) -> dict[str, Mapping[int, Sequence[int]]]:
    """`surgery.keep` under every name of tensors that are shared."""
    tensors = dict(model.named_parameters(remove_duplicate=False))
    tensors |= dict(model.named_buffers(remove_duplicate=False))  # type: ignore[arg-type]
    shared = {id(tensors[name]): axes for name, axes in surgery.keep.items() if name in tensors}
    found: dict[str, Mapping[int, Sequence[int]]] = dict(surgery.keep)
    return found | {name: shared[id(tensor)] for name, tensor in tensors.items() if id(tensor) in shared}


def _fits(whole: Tensor, part: Tensor, axes: Mapping[int, Sequence[int]]) -> bool:
    """Whether a part has the entries `axes[axis]` of each axis of a tensor."""
    sizes = tuple(len(axes[axis]) if axis in axes else size for axis, size in enumerate(whole.shape))
    return sizes == tuple(part.shape) and all(max(kept) < whole.shape[axis] for axis, kept in axes.items())


def _scatter(whole: Tensor, part: Tensor, axes: Mapping[int, Sequence[int]]) -> None:
    """Write a part to the entries `axes[axis]` of each axis of a tensor."""
    if not axes:
        whole.copy_(part)
        return
    places = []
    for axis, size in enumerate(whole.shape):
        place = torch.tensor(axes.get(axis, range(size)), device=whole.device)
        places.append(place.reshape([-1 if each == axis else 1 for each in range(whole.dim())]))
    whole[tuple(places)] = part.detach().to(whole)
