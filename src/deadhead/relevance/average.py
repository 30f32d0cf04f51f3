"""Methods that average gradients over several inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from deadhead.errors import RelevanceError
from deadhead.graph.pytree import take
from deadhead.relevance.baselines import baseline_of
from deadhead.relevance.composites import Composite, composite
from deadhead.relevance.forward import Tape, run
from deadhead.relevance.passes import Job
from deadhead.relevance.result import Relevance
from deadhead.relevance.samples import Owners, Place, total
from deadhead.relevance.steps import Key
from deadhead.relevance.target import Target, explained


@dataclass(frozen=True)
class Average(ABC):
    """A weighted mean of the gradients at several points. With `differences`, it is multiplied by how far the input is
    from the baseline."""

    differences = False

    @abstractmethod
    def points(self, x: list[Tensor], base: list[Tensor]) -> Iterator[tuple[float, list[Tensor]]]:
        """The weights and the values, integers as they are."""

    @property
    def composite(self) -> Composite:
        return composite("gradient")


@dataclass(frozen=True)
class IntegratedGradients(Average):
    """`(x - r) * integral over t in [0, 1] of df/dx at r + t (x - r)`, by Gauss-Legendre quadrature with `steps` nodes.

    Source: Sundararajan et al., "Axiomatic Attribution for Deep Networks" (2017), eq. 1.
    """

    steps: int = 32
    differences = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RelevanceError(f"steps={self.steps} takes no gradient; give at least 1.")

    def points(self, x: list[Tensor], base: list[Tensor]) -> Iterator[tuple[float, list[Tensor]]]:
        for node, weight in zip(*np.polynomial.legendre.leggauss(self.steps), strict=True):
            t = float(node + 1) / 2
            yield (
                float(weight) / 2,
                [r + t * (a - r) if a.is_floating_point() else a for a, r in zip(x, base, strict=True)],
            )


@dataclass(frozen=True)
class SmoothGrad(Average):
    """The mean gradient at `samples` copies of the input with normal noise, whose deviation is `noise` times the range
    of each sample's input. Source: Smilkov et al. (2017), eq. 1.
    """

    samples: int = 25
    noise: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.noise < 0:
            raise RelevanceError("smoothgrad needs at least one sample, and noise that is not negative.")

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


AVERAGES: dict[str, Callable[..., Average]] = {
    "integrated_gradients": IntegratedGradients,
    "smoothgrad": SmoothGrad,
}
"""The averages by name."""


def average(job: Job, tensors: list[Tensor], target: Target, method: Average, baseline: Any) -> Relevance:
    """The mean of the gradients at the points that a method names; times the differences, where it says so.

    Points lie between inputs, and for ids between what embeddings give for them.
    """
    name = type(method).__name__
    if job.layers or job.cuts:
        raise RelevanceError(f"{name} gives the relevance of the inputs alone: no layers, no cuts.")
    if baseline is not None and not method.differences:
        raise RelevanceError(f"{name} compares with no baseline.")
    base = baseline_of(baseline, job.network, job.plan, tensors)

    def averaged(
        tensors: list[Tensor], base: list[Tensor] | None, target: Target, where: Owners, rows: int
    ) -> Relevance:
        assert base is not None
        return _averaged(job, method, tensors, base, target, where, rows)

    return job.together(averaged, tensors, base, target)


def _averaged(
    job: Job, method: Average, tensors: list[Tensor], base: list[Tensor], target: Target, where: Owners, rows: int
) -> Relevance:
    state, differentiable = job.state(tensors)
    embeddings = [step.key for step in job.plan.steps if step.kind == "embedding"]
    with torch.set_grad_enabled(differentiable):
        tape = run(job.plan, tensors, state, differentiable)
        filled = _outputs(job, tape)
        choose, chosen = explained(target, filled, rows)
        output = choose(filled)
        own = other = [tape.values[key] for key in embeddings]
        factors: dict[Key, Tensor] = {}
        if method.differences:
            blank = run(job.plan, base, state, differentiable)
            output = output - choose(_outputs(job, blank))
            other = [blank.values[key] for key in embeddings]
            factors = {key: a - r for key, a, r in zip(embeddings, own, other, strict=True)}
        sums: list[Tensor] = []
        unknown: dict[str, None] = {}
        for weight, point in method.points([*tensors, *own], [*base, *other]):
            moved = dict(zip(embeddings, point[len(tensors) :], strict=True))
            one = job.once(point[: len(tensors)], None, choose, where, rows, method.composite, moved, factors)
            parts = [weight * each for each in take(one.inputs)[0]]
            sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
            unknown.update(dict.fromkeys(one.unknown))
        if method.differences:
            sums = [s * (a - r) if a.is_floating_point() else s for s, a, r in zip(sums, tensors, base, strict=True)]
    axis = job.network.batch_axis
    residual = output
    for each in sums:
        if each.dim() > axis:
            residual = residual - total(each, rows, Place(axis))
    given = job.structure.fill([each.detach() for each in tensors])
    nothing = torch.zeros_like(output)
    return Relevance(
        job.structure.fill(sums), {}, {}, nothing, residual, output, {}, tuple(unknown), given, chosen, axis
    )


def _outputs(job: Job, tape: Tape) -> Any:
    outputs = job.traced.graph.outputs
    return job.traced.output.fill([tape.values[each] if isinstance(each, fx.Node) else each for each in outputs])
