"""Networks of the same shape as one module, so that many of them train side by side in the time of a few."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional

from deadhead.errors import DeadheadError

PLAIN = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity, nn.MaxPool2d, nn.AvgPool2d)
"""Modules without parameters that treat every channel by itself, so that they do so for the channels of all copies."""
JOINED = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)
"""Modules whose tensors are laid end to end."""


class Stack(nn.Sequential):
    """K networks as one: a batch that they share in, (K, samples, outputs) out.

    The channels of all networks lie side by side, those of network k at `k C` to `(k + 1) C - 1`: the first layer is
    one convolution with K C filters, the others are convolutions in K groups and batched matrix products. A sum of
    losses over networks gives each its own gradient. On one core with channels last, eight copies of the small CNN
    train in the time of three.

    Args:
        networks: of the same layers and sizes; where they differ, as in their nonlinearity, they must do so in modules
            of `PLAIN` or batch norm. They are copied.

    Raises:
        DeadheadError: A module cannot be stacked.

    Example:
        >>> networks = [nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in range(5)]
        >>> x = torch.randn(7, 3)
        >>> found = Stack(networks)(x)
        >>> found.shape
        torch.Size([5, 7, 2])
        >>> torch.allclose(found[3], networks[3](x), atol=1e-6)
        True
    """

    def __init__(self, networks: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.copies, shared = len(networks), True
        for name, first in networks[0].named_children():
            modules = [network.get_submodule(name) for network in networks]
            self.add_module(name, _stacked(name, modules, shared))
            shared = shared and not isinstance(first, (nn.Conv2d, nn.Linear))

    def forward(self, inputs: Tensor) -> Tensor:
        """(samples, ...) to (K, samples, outputs)."""
        for module in self:
            inputs = module(inputs)
        return inputs.reshape(len(inputs), self.copies, -1).transpose(0, 1)

    @torch.no_grad()
    def unstack(self, networks: Sequence[nn.Sequential]) -> None:
        """Write the tensors of each copy into a network of its own.

        Args:
            networks: as those that were stacked.
        """
        for name, module in self.named_children():
            parts = module.parts() if isinstance(module, Mixed) else [(module, self.copies)]
            first = 0
            for part, count in parts:
                for key, stacked in part.state_dict().items():
                    shares = stacked.unflatten(0, (count, -1)) if stacked.dim() else stacked.expand(count)
                    for network, share in zip(networks[first : first + count], shares, strict=True):
                        network.get_submodule(name).state_dict()[key].copy_(share)
                first += count


class Mixed(nn.Module):
    """Different modules for different networks, each for the channels of its own.

    Args:
        modules: each for a run of neighbours.
        counts: how many networks each is for.
    """

    def __init__(self, modules: Sequence[nn.Module], counts: Sequence[int]) -> None:
        super().__init__()
        self.runs, self.counts = nn.ModuleList(modules), list(counts)

    def parts(self) -> list[tuple[nn.Module, int]]:
        """The modules, and for how many networks each is."""
        return list(zip(self.runs, self.counts, strict=True))

    def forward(self, inputs: Tensor) -> Tensor:
        """In and out in the shape of the channels of all networks."""
        each = inputs.shape[1] // sum(self.counts)
        shares = torch.split(inputs, [count * each for count in self.counts], 1)
        return torch.cat([module(share) for module, share in zip(self.runs, shares, strict=True)], 1)


class StackedLinear(nn.Module):
    """K linear layers, (samples, K inputs) to (samples, K outputs).

    Args:
        weight: (K outputs, inputs).
        bias: (K outputs,).
        copies: K.
        shared: all layers read the same (samples, inputs).
    """

    def __init__(self, weight: Tensor, bias: Tensor, copies: int, shared: bool) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.copies, self.shared = copies, shared

    def forward(self, inputs: Tensor) -> Tensor:
        """Each layer's outputs, side by side."""
        if self.shared:
            return functional.linear(inputs, self.weight, self.bias)
        weight = self.weight.reshape(self.copies, -1, self.weight.shape[1]).transpose(1, 2)
        bias = self.bias.reshape(self.copies, 1, -1)
        found = torch.baddbmm(bias, inputs.reshape(len(inputs), self.copies, -1).transpose(0, 1), weight)
        return found.transpose(0, 1).flatten(1)


def _stacked(name: str, modules: Sequence[nn.Module], shared: bool) -> nn.Module:
    runs = [list(run) for _, run in groupby(modules, key=repr)]
    if len(runs) > 1:
        return Mixed([_stacked(name, run, shared) for run in runs], [len(run) for run in runs])
    first = modules[0]
    if isinstance(first, (*PLAIN, nn.Flatten)):
        return copy.deepcopy(first)
    if not isinstance(first, JOINED) or (isinstance(first, nn.Conv2d) and first.groups > 1):
        raise DeadheadError(
            f"{name} ({first}) cannot be stacked: give convs without groups, linear layers, batch norm."
        )
    tensors = {
        key: torch.cat([module.state_dict()[key] for module in modules]) if tensor.dim() else tensor.clone()
        for key, tensor in first.state_dict().items()
    }
    if isinstance(first, nn.Linear):
        return StackedLinear(tensors["weight"], tensors["bias"], len(modules), shared)
    joined = copy.deepcopy(first)
    for key in dict(first.named_parameters()):
        setattr(joined, key, nn.Parameter(tensors[key]))
    for key in dict(first.named_buffers()):
        setattr(joined, key, tensors[key])
    if isinstance(joined, nn.Conv2d) and not shared:
        joined.groups = len(modules)
    return joined
