"""The predicted loss: the same wherever the samples lie inside."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import as_batch
from deadhead.data.losses import as_loss
from deadhead.pruning.predict import predict
from deadhead.reconstruction.compensation import Compensation
from deadhead.select.plan import plan_of
from support.networks import classes, unit_gain


class Plain(nn.Module):
    """(samples, positions, 3) to (samples, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.middle, self.leave = nn.Linear(3, 12), nn.Linear(12, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(torch.tanh(self.middle(torch.tanh(self.enter(x))))).mean(1)


class Columns(Plain):
    """The samples along the last axis, biases added by themselves."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.permute(1, 2, 0)
        for layer in (self.enter, self.middle, self.leave):
            y = layer.weight @ y + layer.bias[:, None]
            y = y if layer is self.leave else torch.tanh(y)
        return y.mean(0).T


class PositionsFirst(Plain):
    """The samples along the second axis, then inside positions along the first, biases added by themselves."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.enter(x.transpose(0, 1)))
        y = torch.tanh(y.flatten(0, 1) @ self.middle.weight.T + self.middle.bias)
        return self.leave(y).reshape(x.shape[1], -1, 6).mean(0)


class Third(Plain):
    """The samples along the third axis."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.enter(x[None].transpose(1, 2)))
        y = torch.tanh(y @ self.middle.weight.T + self.middle.bias)
        return self.leave(y)[0].mean(0)


def predicted(model: nn.Module, changed: dict[str, Tensor]) -> float | None:
    data = [as_batch((x.double(), targets)) for x, targets in classes(24, 4, 3, count=6, batch=6)]
    network = dh.trace(unit_gain(model), data[0].inputs)
    plan = plan_of([("enter", 1), ("middle", 4), ("enter", 7)])
    return predict(network, network.groups, plan, Compensation(changed), as_loss("cross_entropy"), data)


@pytest.mark.parametrize("kind", [Columns, PositionsFirst, Third])
def test_prediction_is_that_of_the_same_network_batch_first(kind: type[Plain]) -> None:
    generator = torch.Generator().manual_seed(0)
    state = unit_gain(Plain()).state_dict()
    changed = {
        name: tensor + 0.2 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        for name, tensor in state.items()
        if not name.startswith("enter")
    }
    expected = predicted(Plain(), changed)
    assert expected is not None
    assert abs(expected) > 0.01
    assert predicted(kind(), changed) == pytest.approx(expected, rel=1e-6), "the step is in float32"
