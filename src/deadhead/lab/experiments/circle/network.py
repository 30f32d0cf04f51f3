"""The network of the experiment `circle`: 2-20-2 with a gate on each hidden unit, trained to tell a circle's inside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deadhead.lab.measures.distributions import Array
from deadhead.lab.train import fit

TEXT_RADIUS = math.sqrt(2 / math.pi)
"""Half of the square is inside, as the text says."""
LISTING_RADIUS = math.sqrt(TEXT_RADIUS)
"""The listing compares the squared radius with sqrt(2 / pi), so that 63 % of the square is inside."""


@dataclass(frozen=True)
class Gated:
    """Two logits behind gates on the hidden units: their difference z = c + sum_i b_i h_i v_i is positive outside.

    Args:
        weight: (units, 2) of the hidden layer.
        bias: (units,) of the hidden layer.
        vote: (units,) v, what a unit adds to "outside".
        constant: c.
    """

    weight: Array
    bias: Array
    vote: Array
    constant: float

    def votes(self, x: Array) -> Array:
        """h_i v_i: (points, units)."""
        return np.maximum(x @ self.weight.T + self.bias, 0) * self.vote

    def margins(self, x: Array, gates: Array) -> Array:
        """z: (gate vectors, points)."""
        return np.asarray(gates @ self.votes(x).T + self.constant)

    def losses(self, x: Array, y: Array, gates: Array) -> Array:
        """Mean cross-entropy in nats: (gate vectors,)."""
        parts = np.array_split(gates, max(1, len(gates) // 1000))
        return np.concatenate([cross_entropy(self.margins(x, part), y).mean(1) for part in parts])

    def gradients(self, x: Array, y: Array, gates: Array) -> Array:
        """Of the mean loss with respect to the gates, which sit after the ReLU: (gate vectors, units)."""
        wrong = 1 / (1 + np.exp(-self.margins(x, gates))) - y
        return np.asarray(wrong @ self.votes(x) / len(x))


def trained(units: int, points: int, radius: float, seed: int, **recipe: Any) -> Gated:
    """The trained network for a circle of that radius; its start is Glorot's uniform one, as Keras has it.

    Args:
        units: hidden units.
        points: training points.
        radius: of the circle.
        seed: of points, start and order.
        recipe: of `fit`: epochs, batch_size and learning_rate of Adam.
    """
    x, y = sample(points, radius, np.random.default_rng([seed, 1]))
    hidden, last = nn.Linear(2, units), nn.Linear(units, 2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in (hidden, last):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            layer.bias.zero_()
    inputs, targets = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.int64)
    fit(nn.Sequential(hidden, nn.ReLU(), last), inputs, targets, seed=seed, **recipe)

    def read(tensor: Tensor) -> Array:
        return np.asarray(tensor.detach().double().numpy())

    weight, bias = read(last.weight), read(last.bias)
    return Gated(read(hidden.weight), read(hidden.bias), weight[1] - weight[0], float(bias[1] - bias[0]))


def sample(count: int, radius: float, draw: np.random.Generator) -> tuple[Array, Array]:
    """Uniform points of [-1, 1]^2, (count, 2), and 1.0 where they lie outside the circle, (count,)."""
    x = draw.uniform(-1, 1, (count, 2))
    return x, ((x**2).sum(1) > radius**2).astype(float)


def square(half: float, grid: int) -> tuple[Array, Array]:
    """A grid over [-half, half]^2, (grid x grid, 2), and each point's distance from the centre, (grid x grid,)."""
    side = np.linspace(-half, half, grid)
    x = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    return x, np.linalg.norm(x, axis=1)


def cross_entropy(z: Array, y: Array) -> Array:
    """Of targets y, 1.0 outside, for the logit z of "outside", in nats."""
    return np.asarray(np.logaddexp(0, z) - y * z)
