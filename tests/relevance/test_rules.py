"""Each rule against plain loops over the formulas, in float64: what one op gives to each operand, bias and nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import jacrev

import deadhead as dh
from deadhead.relevance import Composite, named_composite
from deadhead.relevance.rules import (
    AlphaBeta,
    Deconvnet,
    Epsilon,
    Flat,
    Gamma,
    Gradient,
    GuidedBackprop,
    Pass,
    RadialMaximum,
    RelevanceRule,
    ReluMaximum,
    Rescale,
    SoftMaximum,
    WSquare,
    ZPlus,
)
from support.networks import unit_gain

ROWS = 3
CLOSE: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-10}


class Read(nn.Module):
    """One op, then a fixed sum with weights v: relevance at the op's outputs is v_j b_j."""

    def __init__(self, op: nn.Module, outputs: int) -> None:
        super().__init__()
        self.op = op
        self.register_buffer("v", torch.linspace(-1, 2, outputs, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x).flatten(1) @ self.v[:, None]


LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda bias: nn.Linear(5, 4, bias=bias), (5,)),
    "conv": (lambda bias: nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=bias), (2, 4, 4)),
    "grouped": (lambda bias: nn.Conv2d(4, 6, 3, groups=2, dilation=2, padding=2, bias=bias), (4, 3, 3)),
    "transposed": (lambda bias: nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, bias=bias), (2, 3, 3)),
    "conv1d": (lambda bias: nn.Conv1d(3, 2, 2, bias=bias), (3, 6)),
}


def dense(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix (outputs, inputs) of a layer, and its bias for each output, from its derivative and value at zero."""
    zero = torch.zeros_like(x[:1])
    matrix = jacrev(lambda value: layer(value).flatten())(zero).reshape(-1, zero.numel())
    return matrix.detach(), layer(zero).flatten().detach()


def shares(rule: RelevanceRule, a: Tensor, w: Tensor, beta: Tensor, r: Tensor) -> tuple[Tensor, Tensor, float]:
    """R of the operands, R of the biases and what is absorbed, for one sample, by loops: r are the outputs' R."""
    found, blamed, lost = torch.zeros_like(a), torch.zeros_like(beta), 0.0
    for j in range(len(r)):
        c = [float(a[i] * w[j, i]) for i in range(len(a))]
        b, beta_j, r_j = sum(c) + float(beta[j]), float(beta[j]), float(r[j])
        if isinstance(rule, Epsilon):
            below = b if rule.bias else b - beta_j
            below += rule.epsilon * (-1 if below < 0 else 1)
            parts, own = c, beta_j if rule.bias else 0.0
            for i in range(len(a)):
                found[i] += parts[i] / below * r_j
            blamed[j] += own / below * r_j
            lost += r_j * (1 - (sum(parts) + own) / below)
        elif isinstance(rule, (ZPlus, AlphaBeta)):
            alpha, negative = (1.0, 0.0) if isinstance(rule, ZPlus) else (rule.alpha, rule.beta)
            held = beta_j if rule.bias else 0.0
            for factor, take in ((alpha, lambda t: max(t, 0.0)), (-negative, lambda t: min(t, 0.0))):
                total = sum(take(each) for each in c) + take(held)
                if total == 0:
                    lost += factor * r_j
                    continue
                for i in range(len(a)):
                    found[i] += factor * take(c[i]) / total * r_j
                blamed[j] += factor * take(held) / total * r_j
        elif isinstance(rule, Gamma):
            side = (lambda t: max(t, 0.0)) if b > 0 else (lambda t: min(t, 0.0))
            boosted = [each + rule.gamma * side(each) for each in c]
            own = beta_j + rule.gamma * side(beta_j)
            for i in range(len(a)):
                found[i] += boosted[i] / (sum(boosted) + own) * r_j
            blamed[j] += own / (sum(boosted) + own) * r_j
        else:
            power = 2 if isinstance(rule, WSquare) else 0
            weights = [float(w[j, i]) ** 2 if power else float(w[j, i] != 0) for i in range(len(a))]
            for i in range(len(a)):
                found[i] += weights[i] / sum(weights) * r_j
    return found, blamed, lost


RULES = [
    Epsilon(), Epsilon(0.3), Epsilon(bias=False), Epsilon(0.3, bias=False), ZPlus(), ZPlus(bias=False),
    AlphaBeta(2.0, 1.0), AlphaBeta(1.5, 0.5, bias=False), Gamma(0.25), Flat(), WSquare(),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("name", LAYERS)
def test_rules_for_weights_share_as_the_formula_says(name: str, bias: bool, rule: RelevanceRule) -> None:
    make, shape = LAYERS[name]
    layer = unit_gain(make(bias), seed=1)
    x = torch.randn(ROWS, *shape, dtype=torch.float64)
    matrix, beta = dense(layer, x)
    model = Read(layer, len(beta)).eval()
    kind = "linear" if name == "linear" else "convolution"
    chosen = named_composite("blame_bias").but(named={"op": {kind: rule}})
    found = dh.attribute(model, x, lambda out: out[:, 0], chosen)
    bias_name = "op.bias"
    for n in range(ROWS):
        b = layer(x[n : n + 1]).flatten().detach()
        r, blamed, lost = shares(rule, x[n].flatten(), matrix, beta, model.v * b)
        torch.testing.assert_close(found.inputs[n].flatten(), r, **CLOSE)
        torch.testing.assert_close(float(found.absorbed[n]), lost, **CLOSE)
        if bias:
            per_channel = blamed.reshape(len(layer.bias), -1).sum(1)
            torch.testing.assert_close(found.biases[bias_name][n], per_channel, **CLOSE)
    assert bias == (bias_name in found.biases)


def test_what_has_no_operand_to_go_to_is_absorbed() -> None:
    layer = unit_gain(nn.Linear(3, 2))
    x = torch.zeros(2, 3, dtype=torch.float64)
    for rule in (Epsilon(bias=False), Epsilon(0.1, bias=False)):
        found = dh.attribute(layer, x, 1, named_composite("lrp").but({"linear": rule}))
        torch.testing.assert_close(found.absorbed, layer(x)[:, 1].detach(), **CLOSE)
        assert not found.inputs.any()


def maximum_shares(rule: RelevanceRule, a: Sequence[float], r: Sequence[float] | None) -> list[float]:
    """R_i / R_b for R_b = b - b_base, by the cases of the rules."""
    b = max(a)
    if isinstance(rule, Gradient):
        return [float(i == a.index(b)) for i in range(len(a))]
    if isinstance(rule, RadialMaximum):
        if b > 0:
            total = sum(each for each in a if each > 0)
            return [each / total if each > 0 else 0.0 for each in a]
        inverse = sum(1 / each for each in a)
        return [1 / (each * inverse) for each in a]
    base = [0.0] * len(a) if r is None else list(r)
    if isinstance(rule, SoftMaximum):
        larger = [max(pair) for pair in zip(a, base, strict=True)]
        winners = [float(each == max(larger)) for each in larger]
        return [each / sum(winners) for each in winners]
    found = [0.0] * len(a)  # a fold, step by step, in R
    shares_of: list[list[float]] = []
    m, m_base = a[0], base[0]
    if r is None:
        return [float(i == a.index(b)) for i in range(len(a))]
    for i in range(1, len(a)):
        d, e = a[i] - m, base[i] - m_base
        slope = (max(d, 0) - max(e, 0)) / (d - e)
        shares_of.append([slope])
        m, m_base = max(m, a[i]), max(m_base, base[i])
    left = 1.0  # Q of m
    for i in range(len(a) - 1, 0, -1):
        found[i] = left * shares_of[i - 1][0] * (a[i] - base[i])
        left *= 1 - shares_of[i - 1][0]
    found[0] = left * (a[0] - base[0])
    return [each / (b - max(base)) for each in found]


POOLS = {
    "overlapping": nn.MaxPool2d(3, 1, padding=1),
    "plain": nn.MaxPool2d(2),
    "dilated": nn.MaxPool2d(2, 1, dilation=2),
    "adaptive": nn.AdaptiveMaxPool2d((2, 3)),
}
OTHER_RULES = [Gradient(), RadialMaximum(), SoftMaximum(), ReluMaximum()]


def window(name: str, i: int, j: int, size: tuple[int, int]) -> list[tuple[int, int]]:
    """The places in a pool's window, row-major."""
    if name == "adaptive":
        rows = range(i * size[0] // 2, math.ceil((i + 1) * size[0] / 2))
        columns = range(j * size[1] // 3, math.ceil((j + 1) * size[1] / 3))
        return [(p, q) for p in rows for q in columns]
    kernel, stride, padding, dilation = {"overlapping": (3, 1, 1, 1), "plain": (2, 2, 0, 1), "dilated": (2, 1, 0, 2)}[
        name
    ]
    places = [
        (i * stride - padding + dilation * p, j * stride - padding + dilation * q)
        for p in range(kernel)
        for q in range(kernel)
    ]
    return [(p, q) for p, q in places if 0 <= p < size[0] and 0 <= q < size[1]]


@pytest.mark.parametrize("rule", OTHER_RULES, ids=str)
@pytest.mark.parametrize("sign", ["mixed", "negative"])
@pytest.mark.parametrize("name", POOLS)
def test_maxima_share_as_their_cases_say(name: str, sign: str, rule: RelevanceRule) -> None:
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64)
    x = x if sign == "mixed" else -x.abs() - 0.1
    made = POOLS[name](x)
    model = Read(POOLS[name], made[0].numel()).eval()
    found = dh.attribute(model, x, lambda out: out[:, 0], named_composite("blame_bias").but({"maximum": rule}))
    expected = torch.zeros_like(x)
    weights = model.v.reshape(made.shape[1:])
    for n, c, i, j in torch.cartesian_prod(*(torch.arange(size) for size in made.shape)).tolist():
        places = window(name, i, j, (5, 4))
        parts = maximum_shares(rule, [float(x[n, c, p, q]) for p, q in places], None)
        for (p, q), part in zip(places, parts, strict=True):
            expected[n, c, p, q] += part * float(weights[c, i, j] * made[n, c, i, j])
    torch.testing.assert_close(found.inputs, expected, **CLOSE)


@pytest.mark.parametrize("kind", ["soft", "fold"])
def test_maxima_against_a_baseline_share_as_their_cases_say(kind: str) -> None:
    x, base = torch.randn(2, 1, 4, 4, dtype=torch.float64), torch.randn(2, 1, 4, 4, dtype=torch.float64)
    pool, rule = nn.MaxPool2d(2, 1), SoftMaximum() if kind == "soft" else ReluMaximum()
    made, reference = pool(x), pool(base)
    model = Read(pool, 9).eval()
    found = dh.attribute(model, x, lambda out: out[:, 0], "baseline", baseline=base, maximum=kind)
    expected = torch.zeros_like(x)
    for n, i, j in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(3)).tolist():
        places = [(i + p, j + q) for p in range(2) for q in range(2)]
        a, r = ([float(t[n, 0, p, q]) for p, q in places] for t in (x, base))
        moved = float(model.v.reshape(3, 3)[i, j] * (made - reference)[n, 0, i, j])
        for (p, q), part in zip(places, maximum_shares(rule, a, r), strict=True):
            expected[n, 0, p, q] += part * moved
    torch.testing.assert_close(found.inputs, expected, **CLOSE)


def test_the_two_ways_to_take_a_maximum_against_a_baseline_differ() -> None:
    x = torch.tensor([[1.0, 3.0, 2.0]], dtype=torch.float64)
    base = torch.tensor([[2.0, 0.0, 2.5]], dtype=torch.float64)

    class Largest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.amax(1, keepdim=True)

    soft, fold = (dh.attribute(Largest(), x, 0, "baseline", baseline=base, maximum=kind) for kind in ("soft", "fold"))
    torch.testing.assert_close(soft.inputs, torch.tensor([[0, 0.5, 0]], dtype=torch.float64), **CLOSE)
    assert (soft.inputs - fold.inputs).abs().max() > 0.1
    torch.testing.assert_close(fold.inputs.sum(1), soft.inputs.sum(1), **CLOSE)


FUNCTIONS: dict[str, tuple[nn.Module, float]] = {
    "relu": (nn.ReLU(), 0.0), "leaky": (nn.LeakyReLU(0.1), 0.0), "gelu": (nn.GELU(), 0.0), "silu": (nn.SiLU(), 0.0),
    "tanh": (nn.Tanh(), 0.0), "elu": (nn.ELU(), 0.0), "sigmoid": (nn.Sigmoid(), 0.5),
    "hardswish": (nn.Hardswish(), 0.0),
    "softplus": (nn.Softplus(), math.log(2)), "relu6": (nn.ReLU6(), 0.0), "selu": (nn.SELU(), 0.0),
    "mish": (nn.Mish(), 0.0), "prelu": (nn.PReLU(), 0.0), "hardsigmoid": (nn.Hardsigmoid(), 0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slope_goes_to_zero_and_f_of_zero_is_a_bias(name: str) -> None:
    function, at_zero = FUNCTIONS[name]
    model = Read(function.double(), 5).eval()
    x = torch.tensor([[-4.0, -0.5, 0.3, 2.0, 7.0], [0.02, -0.02, 1e-5, -1e-5, 5.0]], dtype=torch.float64)
    found = dh.attribute(model, x, lambda out: out[:, 0], "blame_bias")
    with torch.no_grad():
        expected = model.v * (function(x) - at_zero)
    torch.testing.assert_close(found.inputs, expected, rtol=1e-9, atol=1e-13)
    if at_zero:
        torch.testing.assert_close(found.biases["op"], (at_zero * model.v).expand(2, 5), **CLOSE)


@pytest.mark.parametrize("tiny", [0.0, 1e-10, -1e-10, 5e-324, -5e-324, 1e-300])
@pytest.mark.parametrize("name", ["gelu", "silu", "tanh", "sigmoid", "softplus", "mish"])
def test_the_slope_at_zero_is_the_derivative(name: str, tiny: float) -> None:
    function = FUNCTIONS[name][0]
    x = torch.tensor([[tiny]], dtype=torch.float64, requires_grad=True)
    first = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(first.weight)
    model = nn.Sequential(first, function)
    found = dh.attribute(model, x.detach(), 0, "blame_bias", layers=["0"])
    (derivative,) = torch.autograd.grad(function(x).sum(), x)
    torch.testing.assert_close(found.layers["0"], derivative.detach() * tiny, rtol=1e-9, atol=0)
    assert found.inputs.isfinite().all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slope_against_a_baseline_is_the_secant(name: str) -> None:
    function = FUNCTIONS[name][0].double()
    model = Read(function, 6).eval()
    x = torch.tensor([[-4.0, -0.5, 0.3, 2.0, 0.004, 0.6]], dtype=torch.float64)
    base = torch.tensor([[2.0, -0.501, 0.3, -1.0, -0.003, 0.60001]], dtype=torch.float64)
    found = dh.attribute(model, x, lambda out: out[:, 0], "baseline", baseline=base)
    with torch.no_grad():
        expected = model.v * (function(x) - function(base))
    torch.testing.assert_close(found.inputs, expected, rtol=1e-9, atol=1e-14)


def test_rules_for_nonlinearities_on_r() -> None:
    """On R: pass, gradient, Rescale, deconvnet."""
    function = nn.Tanh()
    x = torch.tensor([[-1.5, 0.5, 2.0]], dtype=torch.float64)
    model = Read(function, 3).eval()
    derivative = 1 - x.tanh() ** 2
    expected = {
        Pass(): model.v * torch.ones_like(x),
        Gradient(): model.v * derivative,
        Rescale(): model.v * x.tanh() / x,
        Deconvnet(): model.v.tanh() * torch.ones_like(x),
        GuidedBackprop(): derivative * model.v.tanh(),
    }
    for rule, wanted in expected.items():
        found = dh.attribute(model, x, lambda out: out[:, 0], named_composite("gradient").but({"nonlinearity": rule}))
        torch.testing.assert_close(found.inputs, wanted, **CLOSE)


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d) + m) v over three given tensors, by torch's own op."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).flatten(1).sum(1, keepdim=True)


def test_attention_by_the_rules_of_attnlrp() -> None:
    """Both products give half, the softmax its derivative: plain loops over one head."""
    q, k, v = (torch.randn(2, 1, 4, 3, dtype=torch.float64) for _ in range(3))
    chosen = named_composite("blame_bias").but({"softmax": Gradient()})
    found = dh.attribute(Attention(), (q, k, v), lambda out: out[:, 0], chosen)
    detached = dh.attribute(Attention(), (q, k, v), lambda out: out[:, 0], "blame_bias")
    for n in range(2):
        query, key, value = q[n, 0], k[n, 0], v[n, 0]
        scores = query @ key.T / 3**0.5
        scores[~torch.ones(4, 4, dtype=torch.bool).tril()] = -torch.inf
        weights = scores.softmax(-1)
        at_weights = (value.sum(1)[None, :] * torch.ones(4, 4, dtype=torch.float64)) / 2  # Q of each weight
        at_scores = torch.zeros(4, 4, dtype=torch.float64)
        for i in range(4):
            for j in range(4):
                for t in range(4):
                    delta = weights[i, t] * (float(t == j) - weights[i, j])
                    at_scores[i, j] += delta * at_weights[i, t]
        expected_q, expected_k = torch.zeros(4, 3, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64)
        for i in range(4):
            for j in range(i + 1):
                expected_q[i] += at_scores[i, j] * key[j] / 3**0.5 / 2 * query[i]
                expected_k[j] += at_scores[i, j] * query[i] / 3**0.5 / 2 * key[j]
        torch.testing.assert_close(found.inputs[0][n, 0], expected_q, **CLOSE)
        torch.testing.assert_close(found.inputs[1][n, 0], expected_k, **CLOSE)
        torch.testing.assert_close(found.inputs[2][n, 0], weights.sum(0)[:, None] * value / 2, **CLOSE)
        torch.testing.assert_close(detached.inputs[2][n, 0], weights.sum(0)[:, None] * value, **CLOSE)
    assert not detached.inputs[0].any()
    assert not detached.absorbed.any()
    assert found.residual.abs().max() < 1e-12


def test_products_give_half_to_each_and_a_square_the_whole() -> None:
    class Products(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return (a * b + a * a).sum(1, keepdim=True)

    a, b = (torch.randn(3, 4, dtype=torch.float64) for _ in range(2))
    found = dh.attribute(Products(), (a, b), 0, "blame_bias")
    torch.testing.assert_close(found.inputs[0], a * b / 2 + a * a, **CLOSE)
    torch.testing.assert_close(found.inputs[1], a * b / 2, **CLOSE)
    c, d = (torch.randn(3, 4, dtype=torch.float64) for _ in range(2))
    found = dh.attribute(Products(), (a, b), 0, "baseline", baseline=(c, d))
    torch.testing.assert_close(found.inputs[1], (b - d) * (a + c) / 2, **CLOSE)


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.RMSNorm(4)], ids=lambda each: type(each).__name__
)
def test_normalisations_have_detached_statistics(norm: nn.Module) -> None:
    norm = unit_gain(norm)
    x = torch.randn(3, 4, dtype=torch.float64)
    found = dh.attribute(norm, x, 1, "blame_bias")
    groups = x.reshape(3, 2, 2) if isinstance(norm, nn.GroupNorm) else x[:, None]
    variance = groups.square().mean(-1) if isinstance(norm, nn.RMSNorm) else groups.var(-1, correction=0)
    eps = torch.finfo(torch.float64).eps if isinstance(norm, nn.RMSNorm) else norm.eps
    scale = (variance[:, 0] + eps).rsqrt() * norm.weight[1]
    expected = torch.zeros_like(x)
    width = groups.shape[-1]
    for i in range(width):
        mixed = (i == 1) - (0 if isinstance(norm, nn.RMSNorm) else 1 / width)
        expected[:, i] = x[:, i] * mixed * scale.detach()
    torch.testing.assert_close(found.inputs, expected, **CLOSE)
    assert found.residual.abs().max() < 1e-13


def test_batch_norm_is_affine_with_its_shift_in_the_biases() -> None:
    norm = unit_gain(nn.BatchNorm1d(3))
    x = torch.randn(4, 3, dtype=torch.float64)
    found = dh.attribute(norm, x, 2, "blame_bias")
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    torch.testing.assert_close(found.inputs[:, 2], x[:, 2] * scale[2], **CLOSE)
    torch.testing.assert_close(found.biases["running_mean"][:, 2], (-norm.running_mean * scale)[2].expand(4), **CLOSE)
    torch.testing.assert_close(found.biases["bias"][:, 2], norm.bias[2].detach().expand(4), **CLOSE)


def test_an_unfit_rule_is_refused() -> None:
    with pytest.raises(dh.RelevanceError, match=r"RadialMaximum has no meaning for the kind 'linear'.*maximum"):
        named_composite("lrp").but({"linear": RadialMaximum()})
    with pytest.raises(dh.RelevanceError, match="no kind of op 'liner'"):
        named_composite("lrp").but({"liner": Epsilon()})
    with pytest.raises(dh.RelevanceError, match="ZPlus cannot compare with a baseline"):
        named_composite("baseline").but({"convolution": ZPlus()})
    with pytest.raises(dh.RelevanceError, match=r"no rule for .*linear"):
        Composite({"sum": Epsilon()})
