"""Settings of the experiment `spiral`, and the data and trainings of one seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from deadhead.lab.experiments.spiral.networks import Net, accuracy, arms, box, second_arm
from deadhead.lab.networks.stacked import Stack
from deadhead.lab.train import fit
from deadhead.progress import Progress, track

CHECKED = (1, 2, 5, 10, 20, 50, 100, 200)
"""Epochs after which the accuracy of a network in training is measured."""


@dataclass(frozen=True)
class Spiral:
    """Settings; the essay gives the widths and the share alone, and the others are choices.

    Args:
        width: units of each hidden layer.
        points: of each arm.
        turns: of each arm.
        noise: standard deviation of the points around their arm.
        epochs: passes over the points, also of fine-tuning.
        learning_rate: Adam's.
        batch_size: of training.
        removed: share of each layer that is removed.
        draws: random halves.
        shares: what else is removed of each layer, to compare ways of pruning.
        grid: points along each side of [-1, 1]^2.
    """

    width: int = 50
    points: int = 500
    turns: float = 1.5
    noise: float = 0.02
    epochs: int = 200
    learning_rate: float = 0.01
    batch_size: int = 32
    removed: float = 0.5
    draws: int = 10
    shares: tuple[float, ...] = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    grid: int = 200


@dataclass(frozen=True)
class Trial:
    """What the networks of a seed are trained and judged on.

    Args:
        settings: see `Spiral`.
        seed: of all that is drawn.
        x: (points, 2) to train on.
        y: (points,) the arms.
        held: (points, 2) that nothing is trained on.
        truth: (points,) their arms.
        square: (grid x grid, 2) where labels are compared.
        progress: called after every step of training.
    """

    settings: Spiral
    seed: int
    x: Tensor
    y: Tensor
    held: Tensor
    truth: Tensor
    square: Tensor
    progress: Progress | None

    @classmethod
    def of(cls, s: Spiral, seed: int, progress: Progress | None) -> Trial:
        """Data and squares of a seed."""
        data, other = (arms(s.points, s.turns, s.noise, np.random.default_rng([seed, i])) for i in (1, 2))
        return cls(s, seed, *data, *other, box(s.grid), progress)

    def fitted(self, net: Net, seed: int, after: Callable[[Net, int], None] | None = None) -> Net:
        """A trained copy of a network; `after` is called with it and the number of steps done."""
        net, s = copy.deepcopy(net), self.settings
        after_step = None if after is None else lambda step: after(net, step)
        recipe: dict[str, Any] = {
            "epochs": s.epochs,
            "batch_size": s.batch_size,
            "learning_rate": s.learning_rate,
            "seed": seed,
        }
        fit(net, self.x, self.y, progress=self.progress, after_step=after_step, **recipe)
        return net

    def together(self, nets: Mapping[str, Net], curves: dict[str, list[float]] | None = None) -> dict[str, Net]:
        """Trained copies of networks of one shape: what `fitted` gives for each with the trial's seed, to rounding.

        Args:
            nets: by name.
            curves: the held-out accuracies after the epochs of `CHECKED` are added to each network's list.
        """
        s, found = self.settings, {name: copy.deepcopy(net) for name, net in nets.items()}
        stack = Stack(list(found.values()))
        adam = torch.optim.Adam(stack.parameters(), lr=s.learning_rate, fused=True)
        order = torch.Generator().manual_seed(self.seed)
        for epoch in track(self.progress, "training side by side", range(1, s.epochs + 1)):
            for rows in torch.split(torch.randperm(len(self.x), generator=order), s.batch_size):
                outputs, targets = stack(self.x[rows]).flatten(0, 1), self.y[rows].repeat(len(found))
                adam.zero_grad()
                torch.autograd.backward(functional.cross_entropy(outputs, targets, reduction="sum") / len(rows))
                adam.step()
            if curves is not None and epoch in CHECKED:
                with torch.no_grad():
                    right = (stack(self.held).argmax(2) == self.truth).double().mean(1)
                for name, each in zip(found, right.tolist(), strict=True):
                    curves.setdefault(name, []).append(each)
        stack.unstack(list(found.values()))
        return found

    def accuracy(self, net: Net) -> float:
        """On held-out points."""
        return accuracy(net, self.held, self.truth)

    def labels(self, net: Net) -> Any:
        """(grid x grid,): whether the square's points are given to the second arm."""
        return second_arm(net, self.square) > 0.5
