"""What attribution returns: `Relevance`, with its table, its contributions and its picture."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from deadhead.graph.pytree import take

MOST_SAMPLES, MOST_BIASES = 8, 5
"""How many samples and biases the table of a relevance shows."""


@dataclass(frozen=True)
class Cut:
    """The account at a cut through the graph behind one op.

    Args:
        residual: shape (samples,), what is missing there of the output.
        size: shape (samples,), the sum of the absolute relevances that cross it and lie behind it.

    >>> import torch, deadhead as dh
    >>> found = dh.attribute(torch.nn.Linear(2, 1), torch.rand(3, 2), 0, "blame_bias", cuts=True)
    >>> found.cuts["linear"].residual.shape
    torch.Size([3])
    """

    residual: Tensor
    size: Tensor


@dataclass(frozen=True, repr=False)
class Relevance:
    """The relevance of inputs, biases and layers for an output; printed, a table of what the output is made of.

    Args:
        inputs: in the container and the shapes of the inputs; for ids, the relevance of their embedding summed over its
            width.
        biases: for each constant that is added somewhere, shape (samples, ...), by the name of its parameter, else of
            the module where it is added.
        layers: for each layer asked for, in the shape of its output.
        absorbed: shape (samples,), what rules gave to nothing, summed by the rules.
        residual: shape (samples,), the output less inputs, biases and absorbed: rounding where the method conserves
            relevance.
        output: shape (samples,), the explained output, less that under the baseline where there is one.
        cuts: where asked for, the same account at each cut through the graph, by the name of the op in front of it.
        unknown: the ops without a rule, for which the derivative was taken.
        given: the inputs that were explained.
        target: shape (samples,), the index of the explained output, or None where it has none.
        batch_axis: the axis of the inputs along which the samples lie.
        method: the name of the method, with its options.

    >>> import torch, deadhead as dh
    >>> model = torch.nn.Linear(2, 1)
    >>> _ = torch.nn.init.constant_(model.weight, 2.0), torch.nn.init.constant_(model.bias, -1.0)
    >>> dh.attribute(model, torch.tensor([[3.0, 1.0], [0.0, 2.0]]), 0, "blame_bias")
    Relevance by blame_bias of inputs (2, 2), 2 samples; shares of the output:
    sample  target  output  inputs  biases  absorbed  residual
         0       0       7  114.3%  -14.3%      0.0%      0.0%
         1       0       3  133.3%  -33.3%      0.0%      0.0%
    largest biases (mean absolute relevance): bias 1
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
    method: str = ""

    def __repr__(self) -> str:
        rows = len(self.output)
        shown = min(rows, MOST_SAMPLES)
        shapes = ", ".join(str(tuple(each.shape)) for each in take(self.inputs)[0])
        by = f" by {self.method}" if self.method else ""
        lines = [f"Relevance{by} of inputs {shapes}, {rows} sample{'s' * (rows != 1)}; shares of the output:"]
        table = [["sample", "target", "output", "inputs", "biases", "absorbed", "residual"]]
        table += [self._row(sample) for sample in range(shown)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines += ["  ".join(map(str.rjust, row, widths)) for row in table]
        if rows > shown:
            lines.append(f"and {rows - shown} more samples")
        largest = self._largest_biases()
        if largest:
            lines.append(f"largest biases (mean absolute relevance): {', '.join(largest)}")
        if self.layers:
            lines.append(f"layers: {', '.join(f'{name} {tuple(each.shape)}' for name, each in self.layers.items())}")
        if self.unknown:
            lines.append(f"by the derivative, for want of a rule: {', '.join(self.unknown)}")
        return "\n".join(lines)

    def _row(self, sample: int) -> list[str]:
        parts = self.contributions(sample)
        inputs, absorbed = parts.pop("inputs"), parts.pop("absorbed")
        output = float(self.output[sample].detach())
        residual = float(self.residual[sample].detach())

        def share(value: float) -> str:
            return f"{value / output:.1%}".replace("-0.0%", "0.0%") if output else f"{value:.3g}"

        target = "" if self.target is None else str(int(self.target[sample]))
        amounts = (inputs, math.fsum(parts.values()), absorbed, residual)
        return [str(sample), target, f"{output:.4g}", *map(share, amounts)]

    def _largest_biases(self) -> list[str]:
        sums = {name: each.detach().reshape(len(each), -1).sum(1).abs().mean() for name, each in self.biases.items()}
        sizes = sorted(((float(size), name) for name, size in sums.items() if size != 0), reverse=True)
        rest = len(sizes) - MOST_BIASES
        return [
            *(f"{name} {size:.3g}" for size, name in sizes[:MOST_BIASES]),
            *([f"{rest} others"] if rest > 0 else []),
        ]

    def contributions(self, sample: int = 0) -> dict[str, float]:
        """What a sample's output is the sum of: the relevance of the inputs, of each bias, and what was absorbed.

        Together with `residual` they are the output.

        Args:
            sample: index of the sample in the batch (default 0).

        Returns:
            Sums by name: "inputs", each bias's name, and "absorbed", in units of the output.

        Raises:
            IndexError: if there is no such sample.

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
        """Draw a heatmap of the relevance: each input beside it, and what inputs and biases contribute to the output.

        A row for each sample. Images (the last two axes, channels summed) have heatmaps, red for what speaks for the
        output and blue for what speaks against it, whose colours end at the 99.8 % quantile; vectors and ids have bars.

        Args:
            path: file to write, in the format of its ending; None (default) writes none.
            samples: indices of the samples to draw (default: the first eight).
            tokens: a label for each entry of a vector or of ids (default: none).

        Returns:
            The Matplotlib figure, which belongs to no window.

        Raises:
            DataError: for samples that do not exist, a number of tokens that does not fit, and a path that cannot be
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
