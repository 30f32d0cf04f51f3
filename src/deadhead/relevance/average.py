"""Averages of gradients over several inputs: integrated gradients and SmoothGrad."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from deadhead.errors import RelevanceError
from deadhead.graph.pytree import take
from deadhead.graph.samples import SampleLayout
from deadhead.relevance.attribution import Attribution, AttributionBatch
from deadhead.relevance.baselines import baseline_of
from deadhead.relevance.composite import Composite
from deadhead.relevance.composites import gradient
from deadhead.relevance.forward import Tape, run
from deadhead.relevance.operations import Key
from deadhead.relevance.registry import composite
from deadhead.relevance.result import Relevance
from deadhead.relevance.samples import total
from deadhead.relevance.target import Target, explained


@dataclass(frozen=True)
class GradientAverage(ABC):
    """A weighted mean of the gradients at several points; with `differences`, times the input less the baseline."""

    differences = False

    @abstractmethod
    def points(self, x: list[Tensor], base: list[Tensor]) -> Iterator[tuple[float, list[Tensor]]]:
        """The weight and the tensors of each point; integers stay as they are."""

    @property
    def composite(self) -> Composite:
        """The composite by which each gradient is computed."""
        return gradient()


@dataclass(frozen=True)
class IntegratedGradients(GradientAverage):
    """Integrated gradients: `(x - r) * integral over t in [0, 1] of df/dx at r + t (x - r)`, for a baseline r.

    The integral is a Gauss-Legendre quadrature.

    Args:
        steps: number of nodes, each a gradient (default 32).

    Raises:
        RelevanceError: if steps is below 1.

    Source: Sundararajan et al. (2017), eq. 1.

    >>> weights = [weight for weight, _ in IntegratedGradients(3).points([torch.ones(1)], [torch.zeros(1)])]
    >>> [round(weight, 4) for weight in weights]
    [0.2778, 0.4444, 0.2778]
    """

    steps: int = 32
    differences = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RelevanceError(f"steps={self.steps} leaves no gradient to integrate; give at least 1.")

    def points(self, x: list[Tensor], base: list[Tensor]) -> Iterator[tuple[float, list[Tensor]]]:
        for node, weight in zip(*np.polynomial.legendre.leggauss(self.steps), strict=True):
            t = float(node + 1) / 2
            yield (
                float(weight) / 2,
                [r + t * (a - r) if a.is_floating_point() else a for a, r in zip(x, base, strict=True)],
            )


@dataclass(frozen=True)
class SmoothGrad(GradientAverage):
    """SmoothGrad: the mean gradient at copies of the input with Gaussian noise.

    Args:
        samples: number of noisy copies, each a gradient (default 25).
        noise: standard deviation of the noise as a fraction of the range of each sample's input (default 0.15).
        seed: seed of the noise (default 0).

    Raises:
        RelevanceError: if samples is below 1, or noise is negative.

    Source: Smilkov et al. (2017), eq. 1.

    >>> len(list(SmoothGrad(samples=4).points([torch.rand(2, 3)], [torch.zeros(2, 3)])))
    4
    """

    samples: int = 25
    noise: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.noise < 0:
            raise RelevanceError(
                f"samples={self.samples}, noise={self.noise}: smoothgrad needs at least 1 sample and noise >= 0."
            )

    def points(self, x: list[Tensor], base: list[Tensor]) -> Iterator[tuple[float, list[Tensor]]]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.samples):
            yield 1 / self.samples, [self._noisy(each, generator) for each in x]

    def _noisy(self, value: Tensor, generator: torch.Generator) -> Tensor:
        if not value.is_floating_point() or not value.dim():
            return value
        flat = value.detach().flatten(1) if value.dim() > 1 else value.detach()[:, None]
        spread = (flat.amax(1) - flat.amin(1)).reshape(-1, *[1] * (value.dim() - 1))
        drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)
        return value + self.noise * spread * drawn


@composite("integrated_gradients")
def integrated_gradients(*, steps: int = 32) -> GradientAverage:
    """Integrated gradients: gradients averaged along the line from a baseline, times the input less the baseline.

    Args:
        steps: number of gradients on the line.

    Source: Sundararajan et al. (2017), eq. 1.

    >>> integrated_gradients(steps=8)
    IntegratedGradients(steps=8)
    """
    return IntegratedGradients(steps)


@composite("smoothgrad")
def smoothgrad(*, samples: int = 25, noise: float = 0.15, seed: int = 0) -> GradientAverage:
    """SmoothGrad: the mean gradient at copies of the input with Gaussian noise.

    Args:
        samples: number of noisy copies.
        noise: standard deviation of the noise as a fraction of the range of each sample's input.
        seed: seed of the noise.

    Source: Smilkov et al. (2017), eq. 1.

    >>> smoothgrad(samples=5)
    SmoothGrad(samples=5, noise=0.15, seed=0)
    """
    return SmoothGrad(samples, noise, seed)


def average(
    attribution: Attribution, tensors: list[Tensor], target: Target, method: GradientAverage, baseline: Any
) -> Relevance:
    """The mean of the gradients at the points that a method names; times the differences, where it says so.

    Points lie between inputs, and for ids between what embeddings give for them.
    """
    name = attribution.method
    if attribution.layers or attribution.cuts:
        raise RelevanceError(f"The method {name} gives the relevance of the inputs alone; ask for no layers, no cuts.")
    if baseline is not None and not method.differences:
        raise RelevanceError(
            f"The method {name} compares with no baseline; leave it away, or use 'integrated_gradients' or 'baseline'."
        )
    base = baseline_of(baseline, attribution.network, attribution.program, tensors)
    return attribution.together(lambda batch: _averaged(attribution, method, batch), tensors, base, target)


def _averaged(attribution: Attribution, method: GradientAverage, batch: AttributionBatch) -> Relevance:
    assert batch.base is not None
    tensors, base, rows = batch.tensors, batch.base, batch.rows
    state, differentiable = attribution.state(tensors)
    embeddings = [each.key for each in attribution.program.operations if each.kind == "embedding"]
    with torch.set_grad_enabled(differentiable):
        tape = run(attribution.program, tensors, state, differentiable)
        filled = _outputs(attribution, tape)
        choose, chosen = explained(batch.target, filled, rows)
        output = choose(filled)
        own = other = [tape.values[key] for key in embeddings]
        factors: dict[Key, Tensor] = {}
        if method.differences:
            blank = run(attribution.program, base, state, differentiable)
            output = output - choose(_outputs(attribution, blank))
            other = [blank.values[key] for key in embeddings]
            factors = {key: a - r for key, a, r in zip(embeddings, own, other, strict=True)}
        sums: list[Tensor] = []
        unknown: dict[str, None] = {}
        for weight, point in method.points([*tensors, *own], [*base, *other]):
            moved = dict(zip(embeddings, point[len(tensors) :], strict=True))
            at = AttributionBatch(point[: len(tensors)], None, choose, batch.layouts, rows)
            one = attribution.once(at, method.composite, moved, factors)
            parts = [weight * each for each in take(one.inputs)[0]]
            sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
            unknown.update(dict.fromkeys(one.unknown))
        if method.differences:
            sums = [s * (a - r) if a.is_floating_point() else s for s, a, r in zip(sums, tensors, base, strict=True)]
    axis = attribution.network.batch_axis
    residual = output
    for each in sums:
        if each.dim() > axis:
            residual = residual - total(each, rows, SampleLayout(axis))
    fill, nothing = attribution.structure.fill, torch.zeros_like(output)
    return Relevance(
        fill(sums), {}, {}, nothing, residual, output, {}, tuple(unknown), fill([each.detach() for each in tensors]),
        chosen, axis, attribution.method,
    )  # fmt: skip


def _outputs(attribution: Attribution, tape: Tape) -> Any:
    outputs = attribution.traced.graph.outputs
    return attribution.traced.output.fill(
        [tape.values[each] if isinstance(each, fx.Node) else each for each in outputs]
    )
