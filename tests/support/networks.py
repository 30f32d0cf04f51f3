"""Small networks in float64 with unit gain and random norm statistics: gates move their outputs by a lot."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def unit_gain(model: nn.Module, seed: int = 0) -> nn.Module:
    """`model` in float64 and evaluation mode, with weights of unit gain, biases and norm statistics drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                if parameter.dim() > 1:
                    parameter.copy_(drawn * (2 / parameter[0].numel()) ** 0.5)
                elif name == "weight":
                    parameter.copy_(1 + 0.3 * drawn)
                else:
                    parameter.copy_(0.3 * drawn)
            for name, buffer in module.named_buffers(recurse=False):
                if name == "running_mean":
                    buffer.copy_(0.5 * torch.randn(buffer.shape, generator=generator, dtype=torch.float64))
                elif name == "running_var":
                    buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator, dtype=torch.float64))
    return model


def mlp(*sizes: int, activation: type[nn.Module] = nn.Tanh, seed: int = 0) -> nn.Sequential:
    """Linear layers of these sizes with an activation between; layer i is named 2 i."""
    layers: list[nn.Module] = []
    for left, right in itertools.pairwise(sizes):
        layers += [nn.Linear(left, right), activation()]
    model = unit_gain(nn.Sequential(*layers[:-1]), seed)
    assert isinstance(model, nn.Sequential)
    return model


class Flat(nn.Module):
    """Two convolutions, batch norm and a pool, flattened into linear layers: (n, 2, 6, 6) to (n, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 5, 3)
        self.fc1 = nn.Linear(5 * 4, 7)
        self.fc2 = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv1(x)))
        x = F.max_pool2d(torch.tanh(self.conv2(x)), 2)
        return self.fc2(torch.sigmoid(self.fc1(x.flatten(1))))


class Residual(nn.Module):
    """A stem, two residual blocks and a head: (n, 2, 5, 5) to (n, 3). The blocks' outputs are the stem's units."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, width, 3, padding=1)
        self.a1 = nn.Conv2d(width, 4, 3, padding=1)
        self.a2 = nn.Conv2d(4, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.b1 = nn.Conv2d(width, 5, 1)
        self.b2 = nn.Conv2d(5, width, 1)
        self.fc = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.norm(self.a2(F.relu(self.a1(x)))))
        x = F.relu(x + self.b2(F.relu(self.b1(x))))
        return self.fc(x.mean((2, 3)))


class TwoReaders(nn.Module):
    """One hidden layer that two linear layers read, one of them through a square: (n, 3) to (n, 2)."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.hidden = nn.Linear(3, width)
        self.left = nn.Linear(width, 2)
        self.right = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.hidden(x))
        return self.left(hidden) + torch.sin(self.right(hidden**2))


def conv_pair(
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    rank: int = 2,
    channels: int = 6,
) -> nn.Sequential:
    """A 1x1 convolution that makes units, and one that reads them, with these settings."""
    kinds = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
    model = unit_gain(
        nn.Sequential(
            kinds[rank](2, channels, 1),
            nn.Tanh(),
            kinds[rank](
                channels, 6, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias
            ),
        )
    )
    assert isinstance(model, nn.Sequential)
    return model


def classes(
    rows: int, *shape: int, count: int = 3, seed: int = 0, batch: int | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Batches of normal inputs with random classes."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, *shape, generator=generator, dtype=torch.float64)
    targets = torch.randint(count, (rows,), generator=generator)
    return list(zip(inputs.split(batch or rows), targets.split(batch or rows), strict=True))


def values(
    rows: int, *shape: int, out: int = 2, seed: int = 0, batch: int | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Batches of normal inputs with normal targets."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, *shape, generator=generator, dtype=torch.float64)
    targets = torch.randn(rows, out, generator=generator, dtype=torch.float64)
    return list(zip(inputs.split(batch or rows), targets.split(batch or rows), strict=True))
