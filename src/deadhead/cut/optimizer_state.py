"""Where the state of an optimizer lies, told by shape and never by the class of the optimizer.

A state tensor belongs to a parameter entry by entry where it has its shape, or lies flat over all parameters of a
group, one after the other, as of LBFGS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


@dataclass(frozen=True)
class FlatState:
    """The state tensors of an optimizer that lie flat over all parameters of one group, one after the other.

    Attributes:
        parameters: the group's parameters, in their order.
        offsets: where the entries of each begin.
        tensors: {name: a tensor of one axis, as long as the parameters have entries}; those in a list are named
            `old_dirs.0`.
    """

    parameters: list[Tensor]
    offsets: list[int]
    tensors: dict[str, Tensor]

    def views(self, parameter: Tensor) -> list[Tensor]:
        """The entries of one parameter in every tensor, in the parameter's shape: writing to them changes the state.

        Args:
            parameter: any; of one that is not in the group there are none.
        """
        found = []
        for own, offset in zip(self.parameters, self.offsets, strict=True):
            if own is parameter:
                found += [part(tensor, offset, parameter) for tensor in self.tensors.values()]
        return found


def part(flat: Tensor, offset: int, parameter: Tensor) -> Tensor:
    """The entries of a parameter in a flat tensor, as a view in the parameter's shape."""
    entries = flat[offset : offset + length_of(parameter)]
    if parameter.is_complex():
        return torch.view_as_complex(entries.view(*parameter.shape, 2))
    return entries.view(parameter.shape)


def state_of(optimizer: Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """The state tensors that belong to a parameter entry by entry: those of its shape.

    Args:
        optimizer: any optimizer; its class does not matter.
        parameter: any tensor; of one that the optimizer does not hold, or has not stepped yet, there are none.

    Returns:
        {name: the tensor itself}; those in a list are named `history.0`.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2, 3))
        >>> optimizer = torch.optim.Adam([weight])
        >>> weight.sum().backward(); optimizer.step()
        >>> sorted(state_of(optimizer, weight))
        ['exp_avg', 'exp_avg_sq']
    """
    if parameter not in optimizer.state:
        return {}
    flat = {id(slot.tensor) for slot in flat_slots(optimizer)}
    slots = slots_of(optimizer.state[parameter])
    return {s.name: s.tensor for s in slots if s.tensor.shape == parameter.shape and id(s.tensor) not in flat}


def averages_of(optimizer: Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """The state tensors that have one number for each line of a parameter: its axes, some of them of size one.

    Args:
        optimizer: any optimizer; its class does not matter.
        parameter: any tensor; of one that the optimizer does not hold, or has not stepped yet, there are none.

    Returns:
        {name: the tensor itself}.

    Example:
        >>> from torch import nn
        >>> weight = nn.Parameter(torch.ones(2, 3))
        >>> optimizer = torch.optim.Adafactor([weight])
        >>> weight.sum().backward(); optimizer.step()
        >>> {name: tuple(value.shape) for name, value in averages_of(optimizer, weight).items()}
        {'row_var': (2, 1), 'col_var': (1, 3)}
    """
    state = optimizer.state.get(parameter, {})
    shape = parameter.shape
    return {
        slot.name: slot.tensor
        for slot in slots_of(state)
        if slot.tensor.dim() == len(shape)
        and slot.tensor.shape != shape
        and all(own in (size, 1) for own, size in zip(slot.tensor.shape, shape, strict=True))
    }


def flat_state_of(optimizer: Optimizer) -> list[FlatState]:
    """The state tensors that lie flat over all parameters of a group, as those of LBFGS do.

    Args:
        optimizer: any optimizer; its class does not matter.

    Returns:
        One `FlatState` for each group that has such tensors.

    Example:
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = torch.optim.LBFGS(model.parameters(), max_iter=1)
        >>> def closure(): loss = model(torch.ones(1, 3)).square().sum(); loss.backward(); return loss
        >>> _ = optimizer.step(closure)
        >>> [flat] = flat_state_of(optimizer)
        >>> sorted(flat.tensors), flat.offsets, flat.views(model.bias)[0].shape
        (['d', 'prev_flat_grad'], [0, 6], torch.Size([2]))
    """
    found: dict[int, FlatState] = {}
    for slot in flat_slots(optimizer):
        parameters = optimizer.param_groups[slot.group]["params"]
        offsets = [sum(map(length_of, parameters[:place])) for place in range(len(parameters))]
        flat = found.setdefault(slot.group, FlatState(list(parameters), offsets, {}))
        flat.tensors[slot.name] = slot.tensor
    return list(found.values())


@dataclass(frozen=True)
class Slot:
    """A place where a state tensor lies: `container[key]`, in the state that `state` is, of a group where it is
    flat."""

    name: str
    tensor: Tensor
    container: Any
    key: Any
    state: dict[str, Any]
    group: int = -1


def slots_of(state: dict[str, Any]) -> Iterator[Slot]:
    """The places of all tensors in a state, also of those in its lists and dicts."""

    def within(container: Any, prefix: str) -> Iterator[Slot]:
        for key, value in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(value, Tensor):
                yield Slot(f"{prefix}{key}", value, container, key, state)
            elif isinstance(value, (dict, list)):
                yield from within(value, f"{prefix}{key}.")

    yield from within(state, "")


def length_of(parameter: Tensor) -> int:
    """How many real numbers a parameter has."""
    return parameter.numel() * (2 if parameter.is_complex() else 1)


def is_history(state: Mapping[str, Any]) -> bool:
    """Whether a state remembers a sequence of steps: it holds a list."""
    return any(isinstance(value, list) for value in state.values())


def flat_slots(optimizer: Optimizer, lengths: Mapping[int, int] | None = None) -> Iterator[Slot]:
    """The places of the flat state tensors.

    Args:
        optimizer: what holds them.
        lengths: {id of a parameter: how many real numbers it has}, of those that are not as long as their state is.
    """
    groups = [group["params"] for group in optimizer.param_groups]
    totals = [sum((lengths or {}).get(id(p), length_of(p)) for p in group) for group in groups]
    for owner, state in optimizer.state.items():
        if not isinstance(state, dict):
            continue
        for index, (group, total) in enumerate(zip(groups, totals, strict=True)):
            if isinstance(owner, Tensor) and not any(owner is parameter for parameter in group):
                continue
            alone = sum(1 for p in group if length_of(p)) == 1 and group[0].dim() == 1 and not is_history(state)
            for slot in slots_of(state):
                if slot.tensor.dim() == 1 and len(slot.tensor) == total > 1 and not alone:
                    yield Slot(slot.name, slot.tensor, slot.container, slot.key, state, index)
