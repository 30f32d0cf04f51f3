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
    """Refuse an optimizer that holds none of the module's parameters."""
    own = {id(parameter) for parameter in module.parameters()}
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise CutError(
            f"The optimizer given holds no parameter of {type(module).__name__}; give the one that trains it."
        )


def follow(optimizer: Optimizer, old: nn.Module, new: nn.Module, surgery: Surgery) -> Optimizer:
    """A copy of the optimizer for `new`, which `surgery` made from a copy of `old`: its groups hold the new parameters,
    its state (momentum, averages) has lost the entries that went. The optimizer given is left as it was."""
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
    """Take from every state tensor that had the parameter's `shape` what went from the parameter."""
    if parameter in optimizer.state and axes:
        state = optimizer.state[parameter]
        for key, value in state.items():
            if isinstance(value, Tensor) and tuple(value.shape) == shape:
                state[key] = pick(value, axes)


def exchange(optimizer: Optimizer, replaced: Mapping[int, nn.Parameter]) -> None:
    """Put new parameters where the optimizer holds those with the ids given, state included."""
    for group in optimizer.param_groups:
        for place, parameter in enumerate(group["params"]):
            if id(parameter) in replaced:
                group["params"][place] = replaced[id(parameter)]
                if parameter in optimizer.state:
                    optimizer.state[replaced[id(parameter)]] = optimizer.state.pop(parameter)


def adopt(optimizer: Optimizer, module: nn.Module, surgery: Surgery) -> None:
    """Put biases that are new into the group that holds the weight beside them."""
    for name in surgery.biases:
        owner, leaf = owner_of(module, name)
        weight, bias = owner._parameters.get("weight"), owner._parameters[leaf]
        for group in optimizer.param_groups:
            if any(parameter is weight for parameter in group["params"]):
                group["params"].append(bias)


def cut_in_place(optimizer: Optimizer, module: nn.Module, surgery: Surgery) -> None:
    """Cut the state of the optimizer itself, before `module` is cut in place."""
    for name, parameter in module.named_parameters():
        cut_state(optimizer, parameter, tuple(parameter.shape), surgery.keep.get(name, {}))
