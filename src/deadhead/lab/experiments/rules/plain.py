"""LRP by the essay's formulas, layer by layer in plain tensors, in the forms R and Q = R / a."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


def layer_by_layer(
    net: nn.Module, x: Tensor, target: int, form: Literal["R", "Q"], blip: float = 0.0
) -> tuple[list[Tensor], list[Tensor]]:
    """LRP of one output, in one of the essay's two forms, without anything of the library.

    In the form R, a maximum has the gradient rule, a matrix `R_i = sum_j a_i w_ij / blip(b_j) R_j`, a nonlinearity
    `R_a = R_b`; it starts with R = output. In the form Q = R / a, maxima and matrices have the gradient rule, a
    nonlinearity `Q_a = b / a Q_b`; it starts with Q = 1.

    Args:
        net: an `nn.Sequential` of linear layers, convolutions, max-pools, flattening and nonlinearities.
        x: inputs (samples, ...).
        target: index of the output.
        form: "R" or "Q".
        blip: what the size of a denominator is raised by.

    Returns:
        The inputs of each layer and the outputs of the last, and R or Q of each.

    Source: "Visualizing Neural networks, how to blame the bias", AI Alignment Forum, "The Algorithms in [1]" and
    "Simplifying the LRP".
    """
    with torch.no_grad():
        values = [x]
        for layer in net.children():
            values.append(layer(values[-1]))
    signal = torch.zeros_like(values[-1])
    signal[:, target] = values[-1][:, target] if form == "R" else 1.0
    found = [signal]
    for layer, a, b in zip(reversed(list(net.children())), reversed(values[:-1]), reversed(values[1:]), strict=True):
        signal = _back(layer, a, b, signal, form, blip)
        found.append(signal)
    return values, found[::-1]


def _back(layer: nn.Module, a: Tensor, b: Tensor, signal: Tensor, form: str, blip: float) -> Tensor:
    if isinstance(layer, (nn.Linear, nn.Conv2d)) and form == "R":
        below = b + blip * torch.where(b < 0, -1.0, 1.0).to(b)
        return a * _transposed(layer, a, signal / below)
    if isinstance(layer, (nn.Linear, nn.Conv2d, nn.MaxPool2d, nn.Flatten)):
        return _transposed(layer, a, signal)
    return signal if form == "R" else b / a * signal


def _transposed(layer: nn.Module, a: Tensor, signal: Tensor) -> Tensor:
    with torch.enable_grad():
        at = a.detach().requires_grad_()
        return torch.autograd.grad(layer(at), at, signal)[0]


def off(found: Tensor, expected: Tensor, where: Tensor | None = None) -> float:
    """The largest difference, for each sample relative to its largest entry.

    Args:
        found: (samples, ...).
        expected: (samples, ...).
        where: which entries count (default: all).

    >>> off(torch.tensor([[1.0, 2.5]]), torch.tensor([[1.0, 2.0]]))
    0.25
    """
    apart, size = (found - expected).abs().flatten(1), expected.abs().flatten(1).amax(1, keepdim=True)
    relative = apart / size
    return float((relative if where is None else relative[where.flatten(1)]).max())
