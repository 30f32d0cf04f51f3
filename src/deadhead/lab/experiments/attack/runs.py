"""The attacked copies of the experiment `attack`: which units are attacked when, and the training of all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from deadhead.lab.experiments.attack.settings import Attacks
from deadhead.lab.networks.stacked import Stack
from deadhead.training.watching.attack import Attack

LAYERS = {"conv1": 8, "conv2": 16, "fc1": 64}
"""The layers that are attacked, and how many units each has."""


@dataclass(frozen=True)
class Run:
    """A copy of an intact network, attacked from some step on.

    Args:
        set: what it is for: "early", "late", "mild", "starts" or "multipliers"; the intact networks' is "intact".
        network: "norm", "relu" or "tanh".
        layer: whose unit is attacked.
        unit: of the layer.
        start: the first attacked step; the copy is made here.
        multiplier: of the learning rate.
        interval: in steps.
        repeats: attacked steps.
        end: the step up to which the copy is trained.
    """

    set: str
    network: str
    layer: str
    unit: int
    start: int
    multiplier: float
    interval: int
    repeats: int
    end: int

    @property
    def attacked(self) -> range:
        """The attacked steps."""
        return range(self.start, self.start + self.repeats * self.interval, self.interval)


def plan(s: Attacks, ends: dict[str, int]) -> list[Run]:
    """Every attack of the settings.

    Args:
        s: the settings.
        ends: {network: its last step}; no copy goes beyond it.
    """
    runs: list[Run] = []

    def add(name: str, network: str, layer: str, unit: int, start: int, by: float, interval: int, end: int) -> None:
        if network in s.networks and start < min(end, ends[network]):
            new = Run(name, network, layer, unit, start, by, interval, s.repeats, min(end, ends[network]))
            runs.append(new)

    for layer, size in LAYERS.items():
        for unit in range(0, s.units * size // 4, size // 4):
            add("early", "norm", layer, unit, s.early, s.mild, s.interval, s.early_end)
            add("late", "norm", layer, unit, s.late, s.strong, s.interval, s.late_end)
            add("late", "tanh", layer, unit, s.late, s.strong, s.interval, s.late_end)
            add("late", "relu", layer, unit, s.late, s.strong, s.interval, s.late_end)
            if layer == "conv2":
                add("mild", "relu", layer, unit, s.late, s.mild, s.interval, s.late_end)
    for layer in ("conv1", "conv2"):
        for start in s.starts:
            add("starts", "norm", layer, 0, start, s.mild, s.interval, s.last)
        for multiplier in s.multipliers:
            add("multipliers", "norm", layer, 0, s.early, multiplier, s.wide_interval, s.early_end)
    for start in s.tanh_starts:
        end = s.fade_end if start == min(s.tanh_starts) else s.last
        add("starts", "tanh", "fc1", 16, start, s.strong, s.interval, end)
    return runs


def attacked_units(runs: Sequence[Run], network: str) -> dict[str, list[int]]:
    """The units of a network that some run attacks, by layer."""
    found = {(run.layer, run.unit) for run in runs if run.network == network}
    return {layer: sorted(unit for name, unit in found if name == layer) for layer in LAYERS}


@dataclass
class Copy:
    """A network that is trained.

    Args:
        run: its attack, or of an intact network one without repeats.
        network: as it is now.
    """

    run: Run
    network: nn.Sequential


class Trainer:
    """Plain SGD on the same batches for every copy.

    Args:
        inputs: (samples, 3, 32, 32).
        targets: (samples,).
        s: the settings.
        epochs: for which an order is drawn.
        seed: of the order.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, s: Attacks, epochs: int, seed: int) -> None:
        self.inputs, self.targets, self.rate = inputs, targets, s.learning_rate
        draw = torch.Generator().manual_seed(seed)
        self.batches = [
            rows
            for _ in range(epochs)
            for rows in torch.split(torch.randperm(len(inputs), generator=draw).int(), s.batch_size)
            if len(rows) > 1 or s.batch_size == 1
        ]
        self.stack = s.stack

    def train(
        self, copies: Sequence[Copy], first: int, last: int, stepped: Callable[[int], None] | None = None
    ) -> list[float]:
        """Train from one step to another, in stacks of a few copies.

        Args:
            copies: whose networks are changed.
            first: the first step.
            last: the step before which it ends.
            stepped: called with the number of copies after each of their steps.

        Returns:
            The mean training loss of each copy over these steps, NaN for none.
        """
        losses: list[float] = []
        for place in range(0, len(copies), self.stack):
            losses += self._train_together(copies[place : place + self.stack], first, last, stepped)
        return losses

    def _train_together(
        self, copies: Sequence[Copy], first: int, last: int, stepped: Callable[[int], None] | None
    ) -> list[float]:
        networks = [each.network for each in copies]
        stack: Any = Stack(networks).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(stack.parameters(), lr=self.rate)
        summed = torch.zeros(len(copies), dtype=torch.float64)
        with contextlib.ExitStack() as attacks:
            for place, each in enumerate(copies):
                ahead = [step - first for step in each.run.attacked if first <= step < last]
                if ahead:
                    weight = stack.get_submodule(each.run.layer).weight
                    unit = place * LAYERS[each.run.layer] + each.run.unit
                    attack = Attack(
                        optimizer, weight, unit, ahead[0], len(ahead), each.run.interval, each.run.multiplier
                    )
                    attacks.enter_context(attack)
            for rows in self.batches[first:last]:
                inputs = self.inputs[rows].contiguous(memory_format=torch.channels_last)
                outputs = stack(inputs)
                targets = self.targets[rows].repeat(len(copies))
                found = functional.cross_entropy(outputs.flatten(0, 1), targets, reduction="none")
                found = found.reshape(len(copies), -1).mean(1)
                optimizer.zero_grad()
                torch.autograd.backward(found.sum())
                optimizer.step()
                summed += found.detach()
                if stepped is not None:
                    stepped(len(copies))
        stack.unstack(networks)
        return (summed / (last - first)).tolist()
