"""Optimizers of torch, two that nobody has, and a small network that has everything they could write to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from support.networks import unit_gain

Make = Callable[[nn.Module], tuple[Optimizer, ...]]


class Noisy(Optimizer):
    """A step down the gradient, and noise on every weight, written past autograd's counters."""

    def __init__(self, params: Any, lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.data -= group["lr"] * (parameter.grad + torch.randn_like(parameter))


class TowardsOne(Optimizer):
    """A step down the average gradient, and decay of every weight towards one."""

    def __init__(self, params: Any, lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                    average.lerp_(parameter.grad + parameter - 1, 0.1)
                    parameter.sub_(average, alpha=group["lr"])


def one(kind: type[Optimizer], **options: Any) -> Make:
    return lambda model: (kind(model.parameters(), **options),)


def muon(model: nn.Module, scaled: str | None = None) -> tuple[Optimizer, ...]:
    """Muon on matrices, AdamW on the rest."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() == 2]
    rest = [parameter for parameter in model.parameters() if parameter.dim() != 2]
    return torch.optim.Muon(matrices, lr=0.01, adjust_lr_fn=scaled), torch.optim.AdamW(rest, lr=0.01)


def in_groups(model: nn.Module) -> tuple[Optimizer, ...]:
    """Weights that decay, and others that do not, in groups of one optimizer."""
    decays = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    rest = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    groups = [{"params": decays, "weight_decay": 0.1}, {"params": rest, "lr": 0.02}]
    return (torch.optim.SGD(groups, lr=0.01, momentum=0.9),)


optim = torch.optim
NAMED: dict[str, Make] = {
    "SGD": one(optim.SGD, lr=0.01, momentum=0.9, weight_decay=0.01),
    "Adam": one(optim.Adam, lr=0.01, weight_decay=0.01, amsgrad=True),
    "AdamW, one by one": one(optim.AdamW, lr=0.01, foreach=False),
    "AdamW, together": one(optim.AdamW, lr=0.01, foreach=True),
    "Muon and AdamW": muon,
    "LBFGS": one(optim.LBFGS, max_iter=1, line_search_fn="strong_wolfe"),
}
"""Those of which 500 steps are always made."""
OTHERS: dict[str, Make] = {
    "SGD, Nesterov": one(optim.SGD, lr=0.01, momentum=0.9, weight_decay=0.01, nesterov=True),
    "SGD in groups": in_groups,
    "AdamW, fused": one(optim.AdamW, lr=0.01, fused=True),
    "Adam, without epsilon": one(optim.Adam, lr=0.01, eps=0.0),
    "Muon, scaled": functools.partial(muon, scaled="match_rms_adamw"),
    "Rprop": one(optim.Rprop, lr=0.001),
    "RMSprop": one(optim.RMSprop, lr=0.001, momentum=0.5, centered=True, weight_decay=0.01),
    "Adagrad": one(optim.Adagrad, lr=0.01, initial_accumulator_value=0.1, weight_decay=0.01),
    "Adadelta": one(optim.Adadelta, weight_decay=0.01),
    "Adamax": one(optim.Adamax, weight_decay=0.01),
    "NAdam": one(optim.NAdam, weight_decay=0.01, decoupled_weight_decay=True),
    "RAdam": one(optim.RAdam, lr=0.01, weight_decay=0.01),
    "ASGD": one(optim.ASGD, weight_decay=0.01, t0=10),
    "Adafactor": one(optim.Adafactor, weight_decay=0.01),
    "noisy": one(Noisy),
    "towards one": one(TowardsOne),
}
OPTIMIZERS = {**NAMED, **OTHERS}


class Small(nn.Module):
    """A convolution, its batch norm and two linear layers: (n, 1, 3, 3) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 2, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc1 = nn.Linear(16, 6)
        self.fc2 = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.tanh(self.fc1(torch.tanh(self.norm(self.conv(x))).flatten(1))))


INPUTS = torch.randn(12, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGETS = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def small(seed: int = 0) -> nn.Module:
    return unit_gain(Small(), seed).train()


def entries_of(conv: tuple[int, ...] = (), fc1: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """The entries of `Small` that belong to these units, written out: {tensor: true where one does}."""
    found = {name: torch.zeros(tensor.shape, dtype=torch.bool) for name, tensor in small().state_dict().items()}
    for channel in conv:
        found["conv.weight"][channel] = True
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            found[f"norm.{leaf}"][channel] = True
        found["fc1.weight"][:, 4 * channel : 4 * channel + 4] = True
    for unit in fc1:
        found["fc1.weight"][unit] = True
        found["fc1.bias"][unit] = True
        found["fc2.weight"][:, unit] = True
    return found


def steps(
    model: nn.Module, optimizers: tuple[Optimizer, ...], count: int, seed: int = 0, clip: float | None = None
) -> Iterator[int]:
    """Make steps on half of the samples each, another half in each step; on all of them where a line is searched."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(count):
        chosen = torch.randperm(len(INPUTS), generator=generator)[: len(INPUTS) // 2]
        searches = any(isinstance(each, torch.optim.LBFGS) for each in optimizers)
        inputs, targets = (INPUTS, TARGETS) if searches else (INPUTS[chosen], TARGETS[chosen])

        def closure(inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss = F.mse_loss(model(inputs), targets)
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            return loss

        if searches:
            optimizers[0].step(closure)
        else:
            closure()
            for optimizer in optimizers:
                optimizer.step()
        yield step


def train(model: nn.Module, optimizers: tuple[Optimizer, ...], count: int, **how: Any) -> None:
    for _ in steps(model, optimizers, count, **how):
        pass


def states_of(optimizers: tuple[Optimizer, ...], parameter: Tensor) -> dict[str, Tensor]:
    """Copies of the optimizers' state tensors of a parameter that have its shape, or a size of one in its place."""
    return {
        f"{place} {key}": value.clone()
        for place, optimizer in enumerate(optimizers)
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor) and value.dim() == parameter.dim()
    }


def whole_lines(entries: Tensor, state: Tensor) -> Tensor:
    """Where a state tensor belongs to these entries alone."""
    found = torch.ones(state.shape, dtype=torch.bool)
    for place in entries.logical_not().nonzero().tolist():
        found[tuple(0 if size == 1 else index for index, size in zip(place, state.shape, strict=True))] = False
    return found
