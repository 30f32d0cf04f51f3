"""What attribution gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Cut:
    """A cut through the graph behind one op: `residual` (rows,) is what is missing there, `size` (rows,) the sum of the
    absolute relevances that cross it and lie behind it."""

    residual: Tensor
    size: Tensor


@dataclass(frozen=True)
class Relevance:
    """Where an output comes from.

    `output` (rows,) is the explained value: the target's output, less that under the baseline where there is one.
    `inputs` has the container and the shapes of the inputs; for ids, the relevance of their embedding summed over its
    width. `biases` has, for each constant that is added somewhere, a tensor (rows, ...) under the name of its parameter
    or of the module where it is; `layers` what was asked for, in the shape of the value there. `absorbed` (rows,) is
    what rules gave to nothing, summed by the rules; `residual` (rows,) is `output` less all of that, and rounding where
    the composite conserves relevance. `cuts`, where asked for, has the same for each cut through the graph, by the name
    of the op in front of it. `unknown` are the ops without a rule, for which the derivative was taken.
    """

    inputs: Any
    biases: Mapping[str, Tensor]
    layers: Mapping[str, Tensor]
    absorbed: Tensor
    residual: Tensor
    output: Tensor
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
