"""Networks with their loss as a plain function of all weights, for dense derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

import deadhead as dh
from deadhead.scores.single_weights.parameters import score_parameters
from support.networks import classes, mlp, unit_gain, values

Data = Sequence[tuple[Tensor, Tensor]]


def half_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) ** 2).sum(1).mean() / 2


REFERENCE_LOSSES = {"cross_entropy": F.cross_entropy, "squared_error": half_squares}


class Convolutions(nn.Module):
    """Two convolutions, a batch norm and a head: (n, 1, 5, 5) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 2, 2, bias=False)
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sigmoid(self.conv2(torch.tanh(self.norm(self.conv1(x))))).mean((2, 3)))


class Tied(nn.Module):
    """One weight that two layers share, under two names: (n, 3) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class Normed(nn.Module):
    """A weight `g v / |v|` written out, its norm over all axes but one, or all: (n, 3) to (n, 3)."""

    def __init__(self, axis: int | None) -> None:
        super().__init__()
        self.axes = tuple(i for i in range(2) if i != axis)
        self.bias = nn.Parameter(torch.empty(4))
        self.g = nn.Parameter(torch.empty({None: (), 0: (4, 1), 1: (1, 3)}[axis]))
        self.v = nn.Parameter(torch.empty(4, 3))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.g * self.v / (self.v**2).sum(self.axes, keepdim=True).sqrt()
        return self.head(torch.tanh(F.linear(x, weight, self.bias)))


class Attention(nn.Module):
    """Self-attention over a sequence: (n, 4, 3) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(3, 6), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)
        return self.head(F.scaled_dot_product_attention(q, k, v)[:, 0].mean(1))


@dataclass(frozen=True)
class Case:
    """A network, its data and the name of its loss."""

    make: Callable[[], nn.Module]
    data: Data
    loss: str


CASES = {
    "mlp, cross-entropy": Case(lambda: mlp(3, 4, 3), classes(9, 3), "cross_entropy"),
    "mlp, squared error": Case(lambda: mlp(3, 4, 2), values(9, 3), "squared_error"),
    "conv, cross-entropy": Case(lambda: unit_gain(Convolutions()), classes(9, 1, 5, 5), "cross_entropy"),
    "conv, squared error": Case(lambda: unit_gain(Convolutions()), values(9, 1, 5, 5, out=3), "squared_error"),
    "relu, several batches": Case(
        lambda: mlp(3, 4, 3, activation=nn.ReLU), classes(9, 3, batch=4, seed=1), "cross_entropy"
    ),
    "tied": Case(lambda: unit_gain(Tied()), classes(9, 3), "cross_entropy"),
    "attention": Case(lambda: unit_gain(Attention()), classes(9, 4, 3), "cross_entropy"),
}
ALL = pytest.mark.parametrize("name", CASES)


class Reference:
    """L as a plain function of one flat vector of weights, through the module itself, and its dense derivatives."""

    def __init__(self, model: nn.Module, data: Data, loss: str) -> None:
        self.model, self.loss = model, REFERENCE_LOSSES[loss]
        self.inputs, self.targets = torch.cat([x for x, _ in data]), torch.cat([y for _, y in data])
        self.shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        self.w = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        self.gradient = torch.autograd.functional.jacobian(self, self.w)
        with sdpa_kernel(SDPBackend.MATH):
            self.hessian = torch.autograd.functional.hessian(self, self.w)
        self.w.requires_grad_(False)

    def __call__(self, w: Tensor) -> Tensor:
        parts = w.split([shape.numel() for shape in self.shapes.values()])
        weights = {name: part.reshape(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
        self.model.eval()
        return self.loss(functional_call(self.model, weights, (self.inputs,)), self.targets)

    def places(self, *names: str) -> Tensor:
        """Where the weights of these parameters lie in the flat vector."""
        ids = torch.arange(len(self.w)).split([shape.numel() for shape in self.shapes.values()])
        return torch.cat([part for name, part in zip(self.shapes, ids, strict=True) if name in names])

    def blocks(self) -> Tensor:
        """One where two weights are of the same parameter, shape (n, n)."""
        owner = torch.cat([torch.full((shape.numel(),), i) for i, shape in enumerate(self.shapes.values())])
        return (owner[:, None] == owner).double()

    def change(self, change: str, epsilon: float = 1.0) -> Tensor:
        if change == "removal":
            return -self.w
        return -epsilon * (self.w if change == "scaled" else torch.where(self.w > 0, 1.0, -1.0).double())

    def loop(self, dw: Tensor) -> Tensor:
        """The change of L for each weight changed alone."""
        eye = torch.eye(len(self.w), dtype=torch.float64)
        return torch.stack([self(self.w + dw * one) - self(self.w) for one in eye]).detach()


REFERENCES: dict[str, tuple[dh.Network, Reference]] = {}


def both(name: str) -> tuple[dh.Network, Reference]:
    """A network of each case and its reference, made once."""
    if name not in REFERENCES:
        case = CASES[name]
        REFERENCES[name] = dh.trace(case.make(), case.data[0][0]), Reference(case.make(), case.data, case.loss)
    return REFERENCES[name]


def flat(found: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in found.values()])


def ask(name: str, criterion: str, **options: Any) -> Tensor:
    """The scores of a case as one vector, in the order of its parameters."""
    network, reference = both(name)
    options = {"data": CASES[name].data, **options}
    found = score_parameters(network, options.pop("data"), loss=CASES[name].loss, criterion=criterion, **options)
    if "parameters" not in options:
        assert {key: value.shape for key, value in found.items()} == reference.shapes
    assert all(value.dtype == torch.float64 and value.device.type == "cpu" for value in found.values())
    assert not any(value.requires_grad for value in found.values())
    return flat(found)


def assert_same(found: Tensor, expected: Tensor, rtol: float = 1e-9) -> None:
    assert expected.abs().max() > 1e-6, "a saliency of nothing proves nothing"
    torch.testing.assert_close(found, expected, rtol=rtol, atol=1e-12 * float(expected.abs().max()) + 1e-15)
