"""Optimizers: their state cut along with the parameters, so that training goes on.

What belongs to a parameter is told by shape and never by the class of the optimizer. A state tensor follows a parameter
of shape `(n, m)` entry by entry (`(n, m)`: momentum, averages), along the axes that it has (`(n, 1)` and `(1, m)`, or
`(n,)` and `(m,)`: averages over rows and columns, as of Adafactor), or lies flat over all parameters of a group, as of
LBFGS.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deadhead.cut.optimizer_state import Slot, flat_slots, is_history, length_of, slots_of
from deadhead.cut.stated import FORMS
from deadhead.cut.surgery import Surgery, owner_of, pick
from deadhead.errors import CutError

Axes = Mapping[int, list[int]]
"""{axis: the entries that are kept}."""


def check_optimizer(optimizer: Optimizer, module: nn.Module) -> None:
    """Raise `CutError` for an optimizer that holds none of the module's parameters."""
    own = {id(parameter) for parameter in module.parameters()}
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise CutError(
            f"The optimizer given holds no parameter of {type(module).__name__}; give the one that trains it."
        )


def follow(
    optimizer: Optimizer, old: nn.Module, new: nn.Module, surgery: Surgery, *, same_weights: bool = True
) -> Optimizer:
    """A copy of an optimizer for a module that was cut: its state (momentum, averages) is cut along with the
    parameters.

    Args:
        optimizer: the one for `old`; it is left as it was.
        old: the intact module.
        new: what `surgery` made from a copy of it.
        surgery: what was removed.
        same_weights: whether the remaining weights are what they were, without compensation: a history of steps
            (LBFGS) is kept only then.

    Raises:
        CutError: where a state tensor depends on what was cut, and its shape does not say how.
    """
    theirs = dict(new.named_parameters(remove_duplicate=False))
    own = {name: p for name, p in old.named_parameters(remove_duplicate=False) if name in theirs}
    memo: dict[int, Any] = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    memo.update((id(parameter), theirs[name]) for name, parameter in own.items())
    modules = dict(new.named_modules())
    memo.update((id(module), modules[path]) for path, module in old.named_modules() if path in modules)
    result = copy.deepcopy(optimizer, memo)
    for name, value in vars(optimizer).items():  # torch copies state and groups alone
        if name not in vars(result) and not callable(getattr(type(optimizer), name, None)):
            setattr(result, name, _copied(value, memo))
    cuts = {
        id(theirs[name]): _Cut(name, p, axes)
        for name, axes in reversed(surgery.keep.items())
        if (p := own.get(name)) is not None
    }
    _cut_state(result, cuts, same_weights)
    adopt(result, new, surgery)
    return result


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """A deep copy, or the thing itself where it has none, such as a lock."""
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # whatever a class raises that does not want to be copied
        return value


def cut_in_place(optimizer: Optimizer, module: nn.Module, surgery: Surgery, *, same_weights: bool = True) -> None:
    """Cut the state of an optimizer in place, before its module is cut in place.

    Args:
        optimizer: what is changed.
        module: the intact module.
        surgery: what is removed.
        same_weights: whether the remaining weights will be what they are, without compensation.

    Raises:
        CutError: as `follow` does; nothing was changed then.
    """
    own = dict(module.named_parameters(remove_duplicate=False))
    cuts = {
        id(p): _Cut(name, p, axes) for name, axes in reversed(surgery.keep.items()) if (p := own.get(name)) is not None
    }
    _cut_state(optimizer, cuts, same_weights)


@dataclass(frozen=True)
class _Cut:
    """What a parameter loses: its name, itself before the cut, the entries that are kept."""

    name: str
    before: Tensor
    axes: Axes

    def positions(self) -> Tensor:
        """The positions of the kept entries among all of the parameter, in a flat tensor."""
        shape = (*self.before.shape, 2) if self.before.is_complex() else self.before.shape
        return pick(torch.arange(length_of(self.before)).view(shape), self.axes).flatten()


def _cut_state(optimizer: Optimizer, cuts: Mapping[int, _Cut], same_weights: bool) -> None:
    """Cut every state tensor as the parameters were cut.

    Args:
        optimizer: what holds the state.
        cuts: {id of a parameter that the optimizer holds: what it loses}.
        same_weights: whether the remaining weights are what they were.
    """
    lengths = {parameter: length_of(cut.before) for parameter, cut in cuts.items()}
    flat = list(flat_slots(optimizer, lengths))
    done = {id(slot.tensor) for slot in flat}
    changes = []
    for parameter, state in optimizer.state.items():
        if id(parameter) in cuts and isinstance(state, dict):
            for slot in slots_of(state):
                axes = None if id(slot.tensor) in done else _followed(slot, cuts[id(parameter)])
                if axes:
                    changes.append((slot, pick(slot.tensor, axes)))
    for slot, value in changes:
        slot.container[slot.key] = value
    _cut_flat(optimizer, flat, cuts, same_weights)
    if getattr(optimizer, "_numel_cache", None) is not None:
        optimizer._numel_cache = None  # type: ignore[attr-defined]  # LBFGS counts entries once


def _followed(slot: Slot, cut: _Cut) -> Axes | None:
    """The entries of a state tensor that follow those of its parameter; None where it does not depend on what was
    cut.

    Raises:
        CutError: where it does, and its shape does not say how.
    """
    shape, ours = tuple(cut.before.shape), tuple(slot.tensor.shape)
    if len(ours) == len(shape) and all(own in (size, 1) for own, size in zip(ours, shape, strict=True)):
        return {axis: kept for axis, kept in cut.axes.items() if ours[axis] == shape[axis]}
    rows = {axis: axis for axis in range(len(shape) - 1)}
    columns = {axis: axis - (axis == len(shape) - 1) for axis in range(len(shape)) if axis != len(shape) - 2}
    fits = [each for each in (rows, columns) if len(shape) > 1 and ours == tuple(shape[axis] for axis in each)]
    if len(fits) == 2 and ("row" in slot.name) != ("col" in slot.name):
        fits = [rows if "row" in slot.name else columns]
    found = [{own: cut.axes[axis] for axis, own in each.items() if axis in cut.axes} for each in fits]
    if found and all(each == found[0] for each in found):
        return found[0]
    if not found and not set(ours) & {shape[axis] for axis in cut.axes if shape[axis] > 1}:
        return None
    raise CutError(
        f"The optimizer's state {slot.name} of {cut.name} has shape {ours} beside {shape}, which does not say what "
        "follows the removed units; prune without the optimizer, and make a new one."
    )


def _cut_flat(optimizer: Optimizer, slots: list[Slot], cuts: Mapping[int, _Cut], same_weights: bool) -> None:
    """Cut flat state tensors, or empty the state.

    A state that holds a list beside them is a history of steps, of which an inverse curvature is made: pairs of a step
    s and the change y of the gradient, with numbers that were computed of y . s and y . y. Where the removed entries
    are zero in all of it (the units were closed while it was collected) and the remaining weights are the same, each
    product stays what it is, and the history is cut. Otherwise it belongs to another function: y = H s holds a part
    that the removed entries of s contributed, and the gradient to which the next y is the difference is that of the
    intact network. Then the state is emptied, and the optimizer begins anew, from the gradient.
    """
    stale: dict[int, dict[str, Any]] = {}
    changes = []
    for slot in slots:
        group = optimizer.param_groups[slot.group]["params"]
        kept, offset = [], 0
        for parameter in group:
            cut = cuts.get(id(parameter))
            length = length_of(parameter if cut is None else cut.before)
            kept.append(offset + (torch.arange(length) if cut is None else cut.positions()))
            offset += length
        positions = torch.cat(kept).to(slot.tensor.device)
        removed = torch.ones(offset, dtype=torch.bool, device=slot.tensor.device).index_fill_(0, positions, False)
        if is_history(slot.state) and not (same_weights and not slot.tensor[removed].any()):
            stale[id(slot.state)] = slot.state
        changes.append((slot, slot.tensor[positions]))
    for slot, value in changes:
        slot.container[slot.key] = value
    for state in stale.values():
        state.clear()


def exchange(optimizer: Optimizer, replaced: Mapping[int, nn.Parameter]) -> None:
    """Put new parameters, by the id of the old, in the place of the old in an optimizer, state included."""
    for group in optimizer.param_groups:
        for place, parameter in enumerate(group["params"]):
            if id(parameter) in replaced:
                group["params"][place] = replaced[id(parameter)]
                if parameter in optimizer.state:
                    optimizer.state[replaced[id(parameter)]] = optimizer.state.pop(parameter)


def adopt(optimizer: Optimizer, module: nn.Module, surgery: Surgery) -> None:
    """Put new biases into the group of an optimizer that holds the weight beside them.

    They stand where they would in an optimizer that is made of the smaller module, so that `load_state_dict` of such
    a one finds them.

    Args:
        optimizer: what is changed.
        module: the module that was cut.
        surgery: names the new biases.
    """
    order = {id(parameter): place for place, parameter in enumerate(module.parameters())}
    for name in surgery.biases:
        owner, leaf = owner_of(module, name)
        bias = owner._parameters[leaf]
        beside = {id(p) for own, p in owner.named_parameters() if own in [form.format("weight") for form in FORMS]}
        if bias is None:
            continue
        for index, group in enumerate(optimizer.param_groups):
            if not any(id(parameter) in beside for parameter in group["params"]):
                continue
            before = [n for n, p in enumerate(group["params"]) if order.get(id(p), math.inf) < order[id(bias)]]
            place = max(before, default=-1) + 1
            offset = sum(map(length_of, group["params"][:place]))
            for slot in [each for each in flat_slots(optimizer) if each.group == index]:
                if is_history(slot.state):
                    slot.state.clear()  # nothing is known of the bias's gradient before
                    break
                new = slot.tensor.new_zeros(length_of(bias))
                slot.container[slot.key] = torch.cat([slot.tensor[:offset], new, slot.tensor[offset:]])
            group["params"].insert(place, bias)
            if "param_names" in group:
                group["param_names"].insert(place, name)
            break
