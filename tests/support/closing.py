"""Networks whose units are closed, with what each unit's readers read, and bias propagation in plain loops."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.networks import Residual, TwoReaders, conv_pair, mlp, unit_gain


def draw(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Normed(nn.Module):
    """A convolution without bias whose output a batch norm normalises: (n, 2, 5, 5) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(2, 6, 3, padding=1)
        self.two = nn.Conv2d(6, 4, 3, padding=1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.two(torch.tanh(self.one(x))))).mean((2, 3)))


class Heads(nn.Module):
    """Attention with three heads: (n, 4, 6) to (n, 4, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.out = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (-1, 2)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Recurrent(nn.Module):
    """An LSTM and what reads its last output: (n, 4, 3) to (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.fc = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0][:, -1])


class SharedWeight(nn.Module):
    """Two layers that share one weight under two names, multiplied: (n, 3) to (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 5), nn.Linear(3, 5)
        self.b.weight = self.a.weight
        self.out = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.a(x)) * torch.cos(self.b(x)))


class WeightNormed(nn.Module):
    """A layer whose weight is divided by the norm of its rows: (n, 3) to (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.utils.parametrizations.weight_norm(nn.Linear(3, 5))
        self.out = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.hidden(x)))


@dataclass(frozen=True)
class Case:
    """A network, the units to close, and for each layer that reads them: the input channels that these are.

    Attributes:
        places: {reader: the bias that a constant goes to}, where it is not its own.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    units: Mapping[str, Sequence[int]]
    reads: Mapping[str, Sequence[int]]
    places: Mapping[str, str] = field(default_factory=dict)

    def model(self, seed: int = 0) -> nn.Module:
        return unit_gain(self.make(), seed)

    def inputs(self, rows: int = 6) -> Tensor:
        return draw(rows, *self.shape)


CASES = {
    "linear": Case(lambda: mlp(3, 5, 4, 2), (3,), {"0": [1, 3]}, {"2": [1, 3]}),
    "two layers": Case(lambda: mlp(3, 5, 4, 2), (3,), {"0": [4], "2": [0, 2]}, {"2": [4], "4": [0, 2]}),
    "no bias": Case(
        lambda: nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 2)),
        (3,),
        {"0": [0, 3]},
        {"2": [0, 3]},
    ),
    "convolution with zeros around": Case(lambda: conv_pair(padding=1), (2, 5, 5), {"0": [2, 5]}, {"2": [2, 5]}),
    "strided and dilated": Case(lambda: conv_pair(padding=2, stride=2, dilation=2), (2, 6, 6), {"0": [0]}, {"2": [0]}),
    "batch norm behind": Case(Normed, (2, 5, 5), {"one": [1, 4]}, {"two": [1, 4]}, {"two": "norm.running_mean"}),
    "two readers": Case(TwoReaders, (3,), {"hidden": [2, 3]}, {"left": [2, 3], "right": [2, 3]}),
    "residual": Case(Residual, (2, 5, 5), {"stem": [1, 5]}, {"a1": [1, 5], "b1": [1, 5], "fc": [1, 5]}),
    "heads": Case(Heads, (4, 6), {"q": [1]}, {"out": [2, 3]}),
}


def patch_means(layer: nn.Module, value: Tensor) -> Tensor:
    """The mean of what each entry of a filter is multiplied by, (channels, *kernel), zeros around included."""
    if isinstance(layer, nn.Linear):
        return value.flatten(0, -2).mean(0)
    assert isinstance(layer, nn.Conv2d)
    size = [layer(value).shape[2 + axis] for axis in (0, 1)]
    means = torch.zeros(value.shape[1], *layer.kernel_size, dtype=value.dtype)
    for channel, i, j in itertools.product(range(value.shape[1]), *map(range, layer.kernel_size)):
        total = 0.0
        for row, column in itertools.product(range(size[0]), range(size[1])):
            y = row * layer.stride[0] + i * layer.dilation[0] - int(layer.padding[0])
            x = column * layer.stride[1] + j * layer.dilation[1] - int(layer.padding[1])
            if 0 <= y < value.shape[2] and 0 <= x < value.shape[3]:
                total += float(value[:, channel, y, x].sum())
        means[channel, i, j] = total / (len(value) * size[0] * size[1])
    return means


def propagated(model: nn.Module, case: Case, inputs: Tensor, *, mean: bool = True) -> nn.Module:
    """A copy whose readers do not read the closed units, with these units' means in their biases."""
    found: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: found.__setitem__(name, args[0].detach())
        )
        for name in case.reads
    ]
    with torch.no_grad():
        model(inputs)
    for handle in handles:
        handle.remove()
    result = copy.deepcopy(model)
    with torch.no_grad():
        for name, channels in case.reads.items():
            layer = result.get_submodule(name)
            means = patch_means(layer, found[name])
            constant = torch.zeros(len(layer.weight), dtype=torch.float64)
            for output, channel in itertools.product(range(len(constant)), channels):
                constant[output] += (layer.weight[output, channel] * means[channel]).sum()
            for channel in channels:
                layer.weight[:, channel] = 0
            if mean:
                place = case.places.get(name, f"{name}.bias")
                path, _, leaf = place.rpartition(".")
                owner = result.get_submodule(path)
                if getattr(owner, leaf) is None:
                    owner.bias = nn.Parameter(torch.zeros_like(constant))
                getattr(owner, leaf).add_(-constant if leaf == "running_mean" else constant)
    return result


class ChosenExperts(nn.Module):
    """Two of five experts are chosen for each sample: (n, 4) to (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.router = nn.Linear(4, 4), nn.Linear(4, 5)
        self.up = nn.Parameter(torch.empty(5, 6, 4))
        self.out = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.hidden(x))
        likely, which = self.router(x).softmax(-1).topk(2, dim=-1)
        return self.out((torch.einsum("nc,nkhc->nkh", x, self.up[which]).tanh() * likely.unsqueeze(-1)).sum(1))


class SummedGates(nn.Module):
    """Units that are 0.25 where all their weights are zero, and summed without a weight: (n, 4) to (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 5), nn.Linear(4, 5)
        self.out = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.hidden(x))
        return self.out((self.a(x).sigmoid() * self.b(x).sigmoid()).sum(-1, keepdim=True))


class NormedTogether(nn.Module):
    """Units over which a layer norm goes: (n, 4) to (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.wide, self.norm, self.out = nn.Linear(4, 4), nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.norm(self.wide(torch.tanh(self.hidden(x))))))
