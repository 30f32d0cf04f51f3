"""Optimizers of a small network of which two units of the first layer and one of the second are cut."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.optim import Optimizer

import deadhead as dh
from deadhead.cut.optimizer import adopt, cut_in_place, exchange, follow
from deadhead.cut.surgery import Surgery, copy_of, operate
from support.networks import classes, mlp

DATA = classes(24, 3)[0]
REMOVED = {"0.weight": {0: [1, 4]}, "0.bias": {0: [1, 4]}, "2.weight": {1: [1, 4], 0: [0]}, "2.bias": {0: [0]},
           "4.weight": {1: [0]}}  # fmt: skip
"""Two units of the first layer and one of the second."""
SIZES = (3, 6, 5, 3)
Make = Callable[[Any], Optimizer]

EACH: dict[str, Make] = {
    "sgd": lambda p: optim.SGD(p, 0.05),
    "sgd momentum": lambda p: optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1, nesterov=True, foreach=False),
    "sgd foreach": lambda p: optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1, dampening=0.1, foreach=True),
    "sgd fused": lambda p: optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1, fused=True),
    "adam": lambda p: optim.Adam(p, 0.02, weight_decay=0.1, foreach=False),
    "adam amsgrad": lambda p: optim.Adam(p, 0.02, amsgrad=True, foreach=True),
    "adam fused": lambda p: optim.Adam(p, 0.02, amsgrad=True, fused=True),
    "adam capturable step": lambda p: optim.Adam(p, torch.tensor(0.02), foreach=False),
    "adamw": lambda p: optim.AdamW(p, 0.02, weight_decay=0.3, foreach=False),
    "adamw foreach": lambda p: optim.AdamW(p, 0.02, weight_decay=0.3, foreach=True),
    "adamw fused": lambda p: optim.AdamW(p, 0.02, weight_decay=0.3, fused=True),
    "adagrad": lambda p: optim.Adagrad(p, 0.05, lr_decay=0.1, initial_accumulator_value=0.1),
    "adadelta": lambda p: optim.Adadelta(p, 1.0, weight_decay=0.1),
    "adamax": lambda p: optim.Adamax(p, 0.02),
    "nadam": lambda p: optim.NAdam(p, 0.02, weight_decay=0.1),
    "radam": lambda p: optim.RAdam(p, 0.02),
    "rmsprop": lambda p: optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
    "rprop": lambda p: optim.Rprop(p, 0.01),
    "asgd": lambda p: optim.ASGD(p, 0.05, t0=2),
}
"""Optimizers that update an entry by that entry's own gradients alone."""


def kept(name: str, size: int, axis: int) -> list[int]:
    return [i for i in range(size) if i not in REMOVED.get(name, {}).get(axis, [])]


def surgery_of(model: nn.Module) -> Surgery:
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    keep = {name: {axis: kept(name, shapes[name][axis], axis) for axis in axes} for name, axes in REMOVED.items()}
    return Surgery(keep, [("0", "out_features", 4), ("2", "in_features", 4), ("2", "out_features", 4)])


def smaller(name: str, tensor: Tensor) -> Tensor:
    """What is left of a tensor that lies like a parameter."""
    for axis, removed in REMOVED.get(name, {}).items():
        rest = [i for i in range(tensor.shape[axis]) if i not in removed]
        tensor = tensor.movedim(axis, 0)[rest].movedim(0, axis)
    return tensor


def close(name: str, tensor: Tensor) -> None:
    with torch.no_grad():
        for axis, removed in REMOVED.get(name, {}).items():
            tensor.movedim(axis, 0)[removed] = 0


def step(model: nn.Module, optimizer: Optimizer) -> float:
    @torch.enable_grad()
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(DATA[0]), DATA[1])
        loss.backward()
        return loss

    return optimizer.step(closure).item()  # type: ignore


def trained(make: Make, steps: int = 4) -> tuple[nn.Module, Optimizer]:
    model = mlp(*SIZES).train()
    optimizer = make(list(model.parameters()))
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def zeroed(make: Make, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
    """Another pair in the same state, with zeros for the removed units in parameters and state. A hidden unit of tanh
    whose weights on both sides are zero has zero gradients, so that it stays."""
    other = copy.deepcopy(model)
    twin = make(list(other.parameters()))
    for mine, theirs in zip(other.parameters(), model.parameters(), strict=True):
        if theirs in optimizer.state:
            twin.state[mine] = copy.deepcopy(optimizer.state[theirs])
    for name, parameter in other.named_parameters():
        close(name, parameter)
        for value in twin.state.get(parameter, {}).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                close(name, value)
    return other, twin


def cut(model: nn.Module, optimizer: Optimizer, inplace: bool) -> tuple[nn.Module, Optimizer]:
    surgery = surgery_of(model)
    if not inplace:
        new = copy_of(model)
        operate(new, surgery)
        return new, follow(optimizer, model, new, surgery)
    cut_in_place(optimizer, model, surgery)
    exchange(optimizer, operate(model, surgery))
    adopt(optimizer, model, surgery)
    return model, optimizer


def agree(small: nn.Module, large: nn.Module, tolerance: float = 1e-12) -> None:
    for (name, found), expected in zip(small.named_parameters(), large.parameters(), strict=True):
        torch.testing.assert_close(found, smaller(name, expected), rtol=tolerance, atol=tolerance)
    for name, parameter in large.named_parameters():
        rest = parameter.detach().clone()
        closed = torch.zeros_like(rest, dtype=torch.bool)
        for axis, removed in REMOVED.get(name, {}).items():
            closed.movedim(axis, 0)[removed] = True
        assert not rest[closed].any(), "the reference leaves the removed units at zero"


def pruned_with_biases(make: Callable[[nn.Module], Optimizer], inplace: bool) -> tuple[dh.Pruned, Optimizer]:
    model = nn.Sequential(
        nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 6, bias=False), nn.Tanh(), nn.Linear(6, 3, bias=False)
    ).double()
    optimizer = make(model)
    for _ in range(3):
        step(model, optimizer)
    pruned = dh.prune(model, [DATA], loss="cross_entropy", units=0.5, optimizer=optimizer, inplace=inplace, curve=0)
    assert pruned.optimizer is not None
    assert pruned.model[2].bias is not None
    return pruned, pruned.optimizer
