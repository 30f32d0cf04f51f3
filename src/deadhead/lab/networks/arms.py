"""Copies of one trained network that train on side by side, each pruned in its own way."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.lab.networks.side_by_side import SideBySide
from deadhead.training import Masks

UNITS = {"conv1": 8, "conv2": 16, "fc1": 64}
"""The layers of `small_cnn` and their units."""


def remaining(fraction: float, sizes: Mapping[str, int] = UNITS) -> dict[str, int]:
    """The units of each layer that remain where floor(fraction K) of K are removed.

    Source:
        Evci (2018), section 4.2, whose counts follow from this rounding.

    Example:
        >>> remaining(0.6)
        {'conv1': 4, 'conv2': 7, 'fc1': 26}
    """
    return {name: size - math.floor(fraction * size + 1e-9) for name, size in sizes.items()}


def parameters(units: Mapping[str, int] = UNITS) -> int:
    """The parameters of `small_cnn` with so many units in its layers.

    Example:
        >>> parameters(), parameters(remaining(0.6))
        (20522, 4019)
    """
    first, second, third = units["conv1"], units["conv2"], units["fc1"]
    return first * 26 + second * (25 * first + 1) + third * (16 * second + 1) + 10 * (third + 1)


@dataclass(frozen=True)
class Way:
    """One way to prune a copy of a network while it trains.

    Args:
        rounds: {epoch: what remains after it}: a share of single weights, or units of each layer.
        options: of `Masks.prune`: criterion=, compensate=, ... ; without, those of the library.
    """

    rounds: Mapping[int, float | Mapping[str, int]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


class Arms:
    """Copies of one network, trained on side by side and pruned by `Masks`.

    Args:
        start: a network of `small_cnn`; it is left as it is.
        ways: {name: how that copy is pruned}.
        learning_rate: of gradient descent.

    Attributes:
        models: {name: the copy}.
        masks: {name: its masks}, of copies that are pruned.
        stack: what trains them.

    Example:
        >>> from deadhead.lab.models import small_cnn
        >>> half = Way({2: {"fc1": 32}}, {"criterion": "magnitude"})
        >>> arms = Arms(small_cnn(seed=0), {"twin": Way(), "half": half}, learning_rate=0.1)
        >>> data = [(torch.rand(8, 1, 28, 28), torch.arange(8))]
        >>> [(name, len(units["fc1"])) for name, units in arms.prune(2, data).items()]
        [('half', 32)]
    """

    def __init__(self, start: nn.Module, ways: Mapping[str, Way], learning_rate: float) -> None:
        self.ways = dict(ways)
        self.models = {name: copy.deepcopy(start) for name in ways}
        self.stack = SideBySide(list(self.models.values()), learning_rate)
        example = torch.zeros(2, 1, 28, 28)
        self.masks = {name: Masks(self.models[name], None, example=example) for name in ways if ways[name].rounds}

    def due(self, epoch: int) -> list[str]:
        """The copies that are pruned after this epoch."""
        return [name for name, way in self.ways.items() if epoch in way.rounds]

    def prune(self, epoch: int, data: Iterable[Any], *, seed: int = 0) -> dict[str, dict[str, list[int]]]:
        """Prune every copy that is due after this epoch.

        Args:
            epoch: how many are done.
            data: batches to choose by.
            seed: of what is drawn at random.

        Returns:
            {name: {layer: the units closed now}}.
        """
        held, closed = list(data), {}
        for name in self.due(epoch):
            left, options = self.ways[name].rounds[epoch], self.ways[name].options
            budget = {"weights": left} if isinstance(left, float) else {"units": left}
            closed[name] = self.masks[name].prune(held, loss="cross_entropy", seed=seed, **{**budget, **options})
            self.hold(name)
        return closed

    def hold(self, name: str) -> None:
        """Train on with what the masks of a copy leave open now."""
        self.stack.hold(list(self.models).index(name), self.masks[name].keep)

    def units(self, name: str) -> dict[str, int]:
        """The open units of a copy, by layer."""
        if name not in self.masks:
            return dict(UNITS)
        return {layer: int((~closed).sum()) for layer, closed in self.masks[name].units.items()}


def batched(inputs: Tensor, targets: Tensor, size: int = 250) -> Sequence[tuple[Tensor, Tensor]]:
    """Samples in batches of at most `size`."""
    return list(zip(torch.split(inputs, size), torch.split(targets, size), strict=True))
