"""Relevance can be differentiated: by the inputs and by every parameter, once and twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

import deadhead as dh
from deadhead.relevance import Composite, named_composite
from deadhead.relevance.rules import AlphaBeta, Gamma, Gradient, RadialMaximum, WSquare, ZPlus
from support.networks import unit_gain


class Small(nn.Module):
    """A convolution, GELU, an overlapping max-pool, a norm and a linear layer: (n, 2, 3, 3) to (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 2)
        self.norm = nn.LayerNorm(12)
        self.fc = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.gelu(self.conv(x)), 2, 1, padding=1)[:, :, :2, :2]
        return self.fc(self.norm(x.flatten(1)))


class Attends(nn.Module):
    """One attention head: (n, 3, 4) to (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v).mean(1))


def options(name: str) -> dict[str, Any]:
    return {"maximum": "fold"} if name == "fold" else {}


METHODS: dict[str, str | Composite] = {
    "lrp": "lrp", "lrp_epsilon": named_composite("lrp_epsilon", epsilon=0.1), "epsilon_plus": "epsilon_plus",
    "blame_bias": "blame_bias", "baseline": "baseline", "gradient_x_input": "gradient_x_input", "gradient": "gradient",
    "fold": "baseline", "integrated_gradients": "integrated_gradients",
    "radial": named_composite("blame_bias").but({"maximum": RadialMaximum(), "softmax": Gradient()}),
    "gamma": named_composite("blame_bias").but({"convolution": Gamma()}),
    "alpha_beta": named_composite("blame_bias").but({"convolution": AlphaBeta(), "linear": ZPlus()}),
    "w_square": named_composite("blame_bias").but(first={"convolution": WSquare(), "linear": WSquare()}),
}  # fmt: skip
CASES = [(name, make, shape) for name in METHODS for make, shape in ((Small, (2, 2, 3, 3)), (Attends, (2, 3, 4)))]
IDS = [f"{name}-{make.__name__}" for name, make, _ in CASES]


def parts(found: dh.Relevance) -> list[Tensor]:
    return [found.inputs, found.absorbed, *found.biases.values()]


@pytest.mark.parametrize(("name", "make", "shape"), CASES, ids=IDS)
def test_finite_differences_by_the_inputs_and_every_parameter(name: str, make: Any, shape: tuple[int, ...]) -> None:
    model = unit_gain(make(), seed=3)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    network = dh.trace(model, x.detach())
    weights = torch.randn(x.shape, dtype=torch.float64)

    def loss() -> Tensor:
        found = dh.attribute(network, x, 1, METHODS[name], **options(name))
        rest = sum((each.square().sum() for each in found.biases.values()), found.absorbed.square().sum())
        return (found.inputs * weights).sum() + rest

    leaves = {"x": x, **dict(model.named_parameters())}
    derived = torch.autograd.grad(loss(), list(leaves.values()), allow_unused=True)
    moved = 0
    for (leaf_name, leaf), derivative in zip(leaves.items(), derived, strict=True):
        direction = torch.randn(leaf.shape, dtype=torch.float64)
        expected = 0.0 if derivative is None else float((derivative * direction).sum())
        found = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                leaf += step * direction
                found.append(float(loss()))
                leaf -= step * direction
        numerical = (found[0] - found[1]) / 2e-5
        assert abs(numerical - expected) <= 1e-5 * max(1.0, abs(numerical)), leaf_name
        moved += abs(numerical) > 1e-6
    assert moved >= len(leaves) // 2


@pytest.mark.parametrize("name", ["lrp", "lrp_epsilon", "epsilon_plus", "blame_bias", "baseline"])
def test_gradcheck_and_gradgradcheck_by_the_inputs(name: str) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 2))
    unit_gain(model, seed=4)
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    network = dh.trace(model, x.detach())

    def relevance(x: Tensor) -> tuple[Tensor, ...]:
        return tuple(parts(dh.attribute(network, x, 1, METHODS[name])))

    assert gradcheck(relevance, (x,))
    assert gradgradcheck(relevance, (x,))


@pytest.mark.parametrize("method", ["lrp", "blame_bias", "epsilon_plus", "baseline"])
def test_gradients_are_finite_where_everything_is_zero(method: str) -> None:
    model = unit_gain(Small())
    x = torch.zeros(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    found = dh.attribute(model, x, 1, method)
    sum(each.square().sum() for each in parts(found)).backward()
    assert x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_without_gradients_the_result_is_plain() -> None:
    model = unit_gain(Small())
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64)
    attached = dh.attribute(model, x, 1)
    with torch.no_grad():
        plain = dh.attribute(model, x, 1)
    assert attached.inputs.requires_grad
    assert not any(each.requires_grad for each in parts(plain))
    assert torch.equal(attached.inputs, plain.inputs)
