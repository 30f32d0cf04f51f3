"""What attribution gives."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from deadhead.graph.pytree import take


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
    of the op in front of it. `unknown` are the ops without a rule, for which the derivative was taken. `given` are the
    inputs that were explained, `target` (rows,) the index of the explained output where it has one, `batch_axis` where
    the samples lie.
    """

    inputs: Any
    biases: Mapping[str, Tensor]
    layers: Mapping[str, Tensor]
    absorbed: Tensor
    residual: Tensor
    output: Tensor
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    given: Any = None
    target: Tensor | None = None
    batch_axis: int = 0

    def contributions(self, sample: int = 0) -> dict[str, float]:
        """What makes up a sample's output: the sums of the inputs' relevance, of each bias's, and what was absorbed.

        Together with `residual` they are the output.

        >>> import torch
        >>> import deadhead as dh
        >>> from torch import nn
        >>> model = nn.Linear(2, 1)
        >>> _ = nn.init.constant_(model.weight, 2.0), nn.init.constant_(model.bias, -1.0)
        >>> dh.attribute(model, torch.tensor([[3.0, 1.0]]), 0, "blame_bias").contributions()
        {'inputs': 8.0, 'bias': -1.0, 'absorbed': 0.0}
        """
        parts = [
            float(each.detach().movedim(self.batch_axis, 0)[sample].sum())
            for each in take(self.inputs)[0]
            if each.dim() > self.batch_axis
        ]
        biases = {name: float(each[sample].detach().sum()) for name, each in self.biases.items()}
        return {"inputs": math.fsum(parts), **biases, "absorbed": float(self.absorbed[sample].detach())}

    def heatmap(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        samples: Sequence[int] | None = None,
        tokens: Sequence[str] | None = None,
    ) -> Any:
        """Draw where the output comes from: each input beside its relevance, and what inputs and biases contribute.

        A row for each of `samples`, by default the first eight. Pictures (the last two axes, channels summed) have
        heatmaps, red for what speaks for the output and blue for what speaks against it, whose colours end at the
        99.8 % quantile; vectors and ids have bars, labelled by `tokens`. The file's format is that of its ending.
        Returns the Matplotlib figure, which belongs to no window.

        Raises `DataError` for samples that are not there, as many tokens as fit nothing, and a path that cannot be
        written.

        >>> import torch
        >>> import deadhead as dh
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        >>> figure = dh.attribute(model, torch.rand(2, 1, 8, 8), 0, "blame_bias").heatmap()
        >>> [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")][:2]
        ['input', 'relevance']
        """
        from deadhead.relevance.heatmap import heatmap

        return heatmap(self, path, samples, tokens)
