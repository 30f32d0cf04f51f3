"""Two spiral arms and networks with two hidden ReLU layers for the experiment `spiral`: start, pruned, activations."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Net = Any
"""An `nn.Sequential` of linear, ReLU, linear, ReLU, linear, whose entries have no type that knows their weights."""
Keep = tuple[Tensor, Tensor]
"""Indices of the remaining units of both layers."""


def arms(points: int, turns: float, noise: float, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Points of two arms, (2 x points, 2), and which arm each belongs to.

    Args:
        points: of each arm, uniform along its angle.
        turns: of each arm, from the centre to 0.95.
        noise: standard deviation of the points around their arm.
        draw: of the points.
    """
    t = draw.random((2, points))
    angle = 2 * np.pi * turns * t + np.array([[0], [np.pi]])
    x = 0.95 * t[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1) + noise * draw.normal(size=(2, points, 2))
    inputs = torch.tensor(x.reshape(-1, 2), dtype=torch.float32)
    return inputs, torch.arange(2).repeat_interleave(points)


def start(width: int, seed: int) -> Net:
    """An untrained network: Glorot's uniform weights, whose sharp ends the essay's plot shows, and no biases."""
    net: Net = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in (net[0], net[2], net[4]):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            layer.bias.zero_()
    return net


def hidden(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    """Activations of both hidden layers, (points, units) each."""
    with torch.no_grad():
        first = net[:2](x)
        return first, net[2:4](first)


def pruned(net: Net, keep: Keep, x: Tensor, *, adjust: bool = True) -> Net:
    """A smaller network in which removed units are replaced by their mean activation in the intact one, or left out.

    It is what `deadhead.prune(..., compensate="mean")` gives for the same units, without its report: an experiment
    prunes a thousand times.

    Args:
        net: linear, ReLU, linear, ReLU, linear; it is left as it is.
        keep: indices of remaining units of both hidden layers.
        x: (points, 2).
        adjust: move the means into the biases of the next layer (default), or leave the units out.

    Source: "Train first vs prune first in neural networks", AI Alignment Forum, "What exactly is pruning".
    """
    means = [h.mean(0) for h in hidden(net, x)]
    net = copy.deepcopy(net)
    with torch.no_grad():
        for position, kept, mean in zip((0, 2), keep, means, strict=True):
            producer, consumer = net[position], net[position + 2]
            gone = torch.ones(len(mean), dtype=torch.bool)
            gone[kept] = False
            if adjust:
                consumer.bias += consumer.weight[:, gone] @ mean[gone]
            producer.weight, producer.bias = nn.Parameter(producer.weight[kept]), nn.Parameter(producer.bias[kept])
            consumer.weight = nn.Parameter(consumer.weight[:, kept])
            producer.out_features = consumer.in_features = len(kept)
    return net


def random_units(width: int, count: int, draw: torch.Generator) -> Keep:
    """As many units of each layer, drawn at random."""
    first, second = (torch.randperm(width, generator=draw)[:count].sort().values for _ in range(2))
    return first, second


def most_active(net: Net, x: Tensor, count: int) -> Keep:
    """The units of each layer whose activations over x have the largest standard deviations."""
    first, second = (h.std(0).argsort(descending=True)[:count].sort().values for h in hidden(net, x))
    return first, second


def accuracy(net: Net, x: Tensor, y: Tensor) -> float:
    """Share of points whose arm is found."""
    with torch.no_grad():
        return float((net(x).argmax(1) == y).double().mean())


def second_arm(net: Net, x: Tensor) -> Any:
    """Probability of the second arm, (points,)."""
    with torch.no_grad():
        return net(x).softmax(1)[:, 1].numpy()


def box(grid: int) -> Tensor:
    """A grid over [-1, 1]^2, (grid x grid, 2)."""
    side = torch.linspace(-1, 1, grid)
    return torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2)
