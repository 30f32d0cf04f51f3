"""Cascade correlation: a network that grows by one hidden unit at a time until its error is small enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from deadhead.progress import Progress

OFFSET = 0.1
"""Added to a sigmoid's slope in training, so that outputs that are wrong and saturated are pulled back; for outputs and
squared error this is a tenth of the cross-entropy added to the loss. Fahlman (1988), "Faster-learning variations on
back-propagation"."""


@dataclass(frozen=True)
class Recipe:
    """How a cascade is grown; sizes and steps are choices, of which the paper has only examples.

    Args:
        candidates: in each pool, of which the best is taken (the paper has 4 to 8).
        candidate_steps: resilient propagation (Rprop) for the paper's Quickprop; both take a step of its own for each
            weight, by the signs or the change of its slopes.
        largest_step: of a candidate's weight.
        output_steps: L-BFGS iterations of the output weights after each unit.
        shortcuts: whether the outputs read the inputs, as in the paper; without, they read hidden units alone, as in a
            layered network.
    """

    candidates: int = 8
    candidate_steps: int = 150
    largest_step: float = 1.0
    output_steps: int = 60
    shortcuts: bool = True


@dataclass
class Cascade:
    """A grown network of sigmoid units: each hidden unit reads the inputs and all units before it.

    Attributes:
        units: the weights of each hidden unit, (1 + inputs + units before it,): of the bias, the inputs, the units.
        outputs: (1 + inputs + units, outputs), or (1 + units, outputs) without shortcuts.
        shortcuts: whether the outputs read the inputs.
        errors: the error on the training samples with 0, 1, 2, ... units: the mean of half the sum of squares.
        other_errors: the same on other samples.
        parameters: how many weights with 0, 1, 2, ... units.
    """

    units: list[Tensor]
    outputs: Tensor
    shortcuts: bool
    errors: list[float] = field(default_factory=list)
    other_errors: list[float] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)

    def features(self, inputs: Tensor) -> Tensor:
        """A one, the inputs and the hidden units' values: (samples, 1 + inputs + units)."""
        read = torch.cat([torch.ones_like(inputs[:, :1]), inputs], 1)
        for weights in self.units:
            read = torch.cat([read, torch.sigmoid(read @ weights)[:, None]], 1)
        return read

    def __call__(self, inputs: Tensor) -> Tensor:
        """The outputs, (samples, outputs)."""
        read = self.features(inputs)
        return torch.sigmoid((read if self.shortcuts else _without(read, inputs.shape[1])) @ self.outputs)

    def size(self, error: float) -> int | None:
        """The number of hidden units at which the training error is first at most `error`; None where it never is."""
        return next((units for units, reached in enumerate(self.errors) if reached <= error), None)


def grow(
    inputs: Tensor,
    targets: Tensor,
    recipe: Recipe,
    *,
    target: float,
    most: int,
    seed: int,
    other: tuple[Tensor, Tensor] | None = None,
    progress: Progress | None = None,
    step: str = "cascade",
) -> Cascade:
    """Grow a network by cascade correlation.

    The outputs are trained on what is there; then, until the error is small enough, a pool of candidate units is
    trained so that each correlates as much as it can with the error that remains, in absolute value and summed over
    outputs; the best joins for good, its weights frozen, and the outputs are trained again.

    The error is that at the outputs' net inputs, `(o - t) (o (1 - o) + 0.1)`, with which outputs are trained: it alone
    is uncorrelated with the units that are there, so that a candidate cannot repeat one of them.

    Args:
        inputs: (samples, inputs).
        targets: (samples, outputs), in 0 to 1.
        recipe: see `Recipe`.
        target: growth ends at this mean of half the sum of squares.
        most: hidden units at the end, where the target is not met before.
        seed: of the candidates' starts.
        other: inputs and targets of other samples, on which the error is recorded, too (default: none).
        progress: called after each unit.
        step: what progress calls it.

    Source:
        Fahlman and Lebiere (1990), "The cascade-correlation learning architecture".

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> net = grow(x, (x.sum(1, keepdim=True) == 1).float(), Recipe(), target=0.01, most=5, seed=0)
        >>> net(x).round().flatten().tolist(), net.errors[-1] <= 0.01 < net.errors[0]
        ([0.0, 1.0, 1.0, 0.0], True)
    """
    draw = torch.Generator().manual_seed(seed)
    width, outputs = inputs.shape[1], targets.shape[1]
    first = inputs.new_zeros(1 + (width if recipe.shortcuts else 0), outputs)
    net = Cascade([], first, recipe.shortcuts)
    features = net.features(inputs)
    elsewhere = net.features(other[0]) if other is not None else None
    while True:
        read = features if recipe.shortcuts else _without(features, width)
        net.outputs = train_outputs(read, targets, net.outputs, recipe.output_steps)
        given = torch.sigmoid(read @ net.outputs)
        error = given - targets
        net.errors.append(_half_squares(error))
        net.parameters.append(sum(map(len, net.units)) + net.outputs.numel())
        if other is not None and elsewhere is not None:
            seen = elsewhere if recipe.shortcuts else _without(elsewhere, width)
            net.other_errors.append(_half_squares(torch.sigmoid(seen @ net.outputs) - other[1]))
        if progress is not None:
            progress(step, len(net.units), most)
        if net.errors[-1] <= target or len(net.units) >= most:
            return net
        weights = candidate(features, error * (given * (1 - given) + OFFSET), recipe, draw)
        net.units.append(weights)
        features = torch.cat([features, torch.sigmoid(features @ weights)[:, None]], 1)
        if elsewhere is not None:
            elsewhere = torch.cat([elsewhere, torch.sigmoid(elsewhere @ weights)[:, None]], 1)
        net.outputs = torch.cat([net.outputs, net.outputs.new_zeros(1, outputs)])


def candidate(features: Tensor, error: Tensor, recipe: Recipe, draw: torch.Generator) -> Tensor:
    """The weights of the best of a pool of units, each trained to correlate with the error, (features,).

    Args:
        features: (samples, features), the first of which is one.
        error: (samples, outputs).
        recipe: its `candidates` and `candidate_steps`.
        draw: of the starts, uniform with the standard deviation one over the root of the number of features.
    """
    count = features.shape[1]
    start = torch.rand(count, recipe.candidates, generator=draw, dtype=features.dtype) * 2 - 1
    weights = (start * (3 / count) ** 0.5).requires_grad_()
    optimizer = torch.optim.Rprop([weights], lr=0.01, step_sizes=(1e-6, recipe.largest_step))
    best, reached = weights.detach().clone(), torch.full((recipe.candidates,), -1.0, dtype=features.dtype)
    for _ in range(recipe.candidate_steps):
        found = correlation(torch.sigmoid(features @ weights), error)
        with torch.no_grad():  # a unit that has saturated has no slope to come back by
            better = found > reached
            best[:, better], reached[better] = weights[:, better], found[better]
        optimizer.zero_grad()
        torch.autograd.backward(-found.sum())
        optimizer.step()
    chosen: Tensor = best[:, int(reached.argmax())]
    return chosen


def correlation(values: Tensor, error: Tensor) -> Tensor:
    """How far each unit goes with the errors: `sum over outputs of abs(sum over samples (v - mean)(e - mean))`.

    Args:
        values: (samples, units).
        error: (samples, outputs).

    Returns:
        (units,).

    Source:
        Fahlman and Lebiere (1990), equation 1.
    """
    return ((values - values.mean(0)).T @ (error - error.mean(0))).abs().sum(1)


def train_outputs(features: Tensor, targets: Tensor, start: Tensor, steps: int) -> Tensor:
    """Output weights by L-BFGS from a start, of sigmoid outputs, squared error and the offset of the slope.

    Args:
        features: (samples, features).
        targets: (samples, outputs).
        start: (features, outputs).
        steps: at most so many iterations.
    """
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=steps, history_size=20, tolerance_grad=1e-9, tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        net = features @ weights
        squares = (torch.sigmoid(net) - targets).square().sum(1).mean() / 2
        entropy = functional.binary_cross_entropy_with_logits(net, targets, reduction="none").sum(1).mean()
        loss = squares + OFFSET * entropy
        torch.autograd.backward(loss)
        return loss

    step: Callable[[Callable[[], Tensor]], Tensor] = optimizer.step
    step(closure)
    return weights.detach()


def _half_squares(error: Tensor) -> float:
    return float(error.double().square().sum(1).mean() / 2)


def _without(features: Tensor, inputs: int) -> Tensor:
    """The one and the hidden units."""
    return torch.cat([features[:, :1], features[:, 1 + inputs :]], 1)
