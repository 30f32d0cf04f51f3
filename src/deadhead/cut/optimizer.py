"""Optimizers: their state cut along with the parameters, so that training goes on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from deadhead.cut.surgery import Surgery, owner_of, pick
from deadhead.errors import CutError


def check_optimizer(optimizer: Optimizer, module: nn.Module) -> None:
    """Raise `CutError` for an optimizer that holds none of the module's parameters."""
    own = {id(parameter) for parameter in module.parameters()}
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise CutError(
            f"The optimizer given holds no parameter of {type(module).__name__}; give the one that trains it."
        )


def follow(optimizer: Optimizer, old: nn.Module, new: nn.Module, surgery: Surgery) -> Optimizer:
    """A copy of an optimizer for a module that was cut: its state (momentum, averages) is cut along with the
    parameters.

    Args:
        optimizer: the one for `old`; it is left as it was.
        old: the intact module.
        new: what `surgery` made from a copy of it.
        surgery: what was removed.
    """
    theirs = dict(new.named_parameters())
    memo: dict[int, Any] = {}
    for group in optimizer.param_groups:
        memo.update((id(parameter), parameter) for parameter in group["params"])
    memo.update((id(parameter), theirs[name]) for name, parameter in old.named_parameters() if name in theirs)
    result = copy.deepcopy(optimizer, memo)
    for name, parameter in old.named_parameters():
        if name in theirs:
            cut_state(result, theirs[name], tuple(parameter.shape), surgery.keep.get(name, {}))
    adopt(result, new, surgery)
    return result


def cut_state(optimizer: Optimizer, parameter: Tensor, shape: tuple[int, ...], axes: dict[int, list[int]]) -> None:
    """Cut every state tensor of a parameter as the parameter was cut.

    Args:
        optimizer: what holds the state.
        parameter: the parameter.
        shape: its shape before the cut, which a state tensor has to have.
        axes: {axis: the entries that are kept}.
    """
    if parameter in optimizer.state and axes:
        state = optimizer.state[parameter]
        for key, value in state.items():
            if isinstance(value, Tensor) and tuple(value.shape) == shape:
                state[key] = pick(value, axes)


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

    Args:
        optimizer: what is changed.
        module: the module that was cut.
        surgery: names the new biases.
    """
    for name in surgery.biases:
        owner, leaf = owner_of(module, name)
        weight, bias = owner._parameters.get("weight"), owner._parameters[leaf]
        for group in optimizer.param_groups:
            if any(parameter is weight for parameter in group["params"]):
                group["params"].append(bias)


def cut_in_place(optimizer: Optimizer, module: nn.Module, surgery: Surgery) -> None:
    """Cut the state of an optimizer in place, before its module is cut in place.

    Args:
        optimizer: what is changed.
        module: the intact module.
        surgery: what is removed.
    """
    for name, parameter in module.named_parameters():
        cut_state(optimizer, parameter, tuple(parameter.shape), surgery.keep.get(name, {}))
