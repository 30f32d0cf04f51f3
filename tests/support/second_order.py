"""Second-order scores as tests ask for them, and the recursion's activations, gradients and second derivatives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import read
from deadhead.data.losses import as_loss
from deadhead.gates.gates import Gates
from deadhead.scores.second_order.recursion import curvatures

Data = Sequence[tuple[Tensor, Tensor]]
Scores = dict[str, Tensor]


def score(model: nn.Module, data: Data, criterion: str, loss: object = "cross_entropy", **options: object) -> Scores:
    return dh.score(model, data, loss=loss, criterion=criterion, **options)  # type: ignore[arg-type]


def assert_same(found: Tensor, expected: Tensor, rtol: float = 1e-9) -> None:
    assert expected.abs().max() > 1e-4, "a saliency of nothing proves nothing"
    torch.testing.assert_close(found, expected, rtol=rtol, atol=1e-12 * float(expected.abs().max()))


def seen(model: nn.Module, data: Data, loss: str) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """a, g and h at the first consumer of each group, by the recursion."""
    network = dh.trace(model, data[0][0])
    found = {}

    def visit(group: object, index: int, a: Tensor, g: Tensor, h: Tensor) -> None:
        found.setdefault(group.name, (a, g, h))  # type: ignore[attr-defined]

    curvatures(Gates(network, as_loss(loss)), network.groups, read(data)[0], visit)
    return found
