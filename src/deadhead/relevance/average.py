"""Methods that average gradients over several inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deadhead.errors import RelevanceError
from deadhead.relevance.composites import Composite, composite


@dataclass(frozen=True)
class Average(ABC):
    """A weighted mean of the gradients at several points. With `differences`, it is multiplied by how far the input is
    from the baseline."""

    differences = False

    @abstractmethod
    def points(self, x: list[Tensor], base: list[Tensor]) -> Iterator[tuple[float, list[Tensor]]]:
        """The weights and the inputs, those of integers as they are."""

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
