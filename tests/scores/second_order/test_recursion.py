"""The recursion for second derivatives, against plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.networks import TwoReaders, classes, mlp, unit_gain, values
from support.second_order import assert_same, score


def saddle_rows(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
    """A loss that couples its outputs and curves both ways."""
    return outputs[:, 0] * outputs[:, 1] + outputs.prod(1) + torch.sin(outputs.sum(1)) + 0.1 * batch[1]


def normal(x: Tensor) -> Tensor:
    return torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)


CURVES: dict[type[nn.Module], tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    nn.Tanh: (lambda x: 1 - x.tanh() ** 2, lambda x: -2 * x.tanh() * (1 - x.tanh() ** 2)),
    nn.Sigmoid: (
        lambda x: x.sigmoid() * (1 - x.sigmoid()),
        lambda x: x.sigmoid() * (1 - x.sigmoid()) * (1 - 2 * x.sigmoid()),
    ),
    nn.Softplus: (lambda x: x.sigmoid(), lambda x: x.sigmoid() * (1 - x.sigmoid())),
    nn.GELU: (
        lambda x: 0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * normal(x),
        lambda x: (2 - x.square()) * normal(x),
    ),
    nn.ReLU: (lambda x: (x > 0).double(), torch.zeros_like),
}
"""f' and f'', written by hand."""


def recursed(stages: nn.Sequential, inputs: Tensor, targets: Tensor, loss: str) -> dict[str, Tensor]:
    """`-sum a g + 1/2 sum a^2 h` by input channel of each stage, a mean over rows: one row at a time, every linear
    stage as its dense matrix, which is squared entry by entry."""
    total: dict[str, Tensor] = {}
    for n in range(len(inputs)):
        reads = [inputs[n : n + 1]]
        for stage in stages:
            reads.append(stage(reads[-1]).detach())
        o = reads[-1].flatten()
        if loss == "cross_entropy":
            p = o.softmax(0)
            g, h = p - F.one_hot(targets[n], len(o)), p * (1 - p)
        else:
            g, h = o - targets[n].flatten(), torch.ones_like(o)
        for place in reversed(range(len(stages))):
            stage, x = stages[place], reads[place]
            if type(stage) in CURVES:
                first, second = (each(x.flatten()) for each in CURVES[type(stage)])
                g, h = first * g, first**2 * h + second * g
            else:
                matrix = torch.autograd.functional.jacobian(stage, x).reshape(len(g), x.numel())
                g, h = matrix.T @ g, (matrix**2).T @ h
            each = (-x.flatten() * g + 0.5 * x.flatten() ** 2 * h).reshape(x.shape[1], -1).sum(1)
            total[str(place)] = total.get(str(place), torch.zeros_like(each)) + each / len(inputs)
    return total


ACTIVATIONS = pytest.mark.parametrize("activation", CURVES)


@ACTIVATIONS
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_recursion_equals_a_plain_loop_for_an_mlp(activation: type[nn.Module], loss: str) -> None:
    model = mlp(3, 6, 5, 4, activation=activation)
    data = classes(9, 3, count=4) if loss == "cross_entropy" else values(9, 3, out=4)
    expected = recursed(model, *data[0], loss)
    found = score(model, data, "taylor2", loss)
    assert_same(found["0"], expected["2"])
    assert_same(found["2"], expected["4"])


def convolutional(pool: nn.Module, activation: type[nn.Module], **options: object) -> nn.Sequential:
    """Groups 0, 2 and 6; the pool stands behind the consumer of the first, and before that of the second."""
    layers = [
        nn.Conv2d(2, 4, 1), activation(), nn.Conv2d(4, 4, 3, **options), nn.BatchNorm2d(4), activation(), pool,
        nn.Conv2d(4, 4, 3, padding=1), activation(), nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.Linear(8, 3),
    ]  # fmt: skip
    model = unit_gain(nn.Sequential(*layers))
    assert isinstance(model, nn.Sequential)
    return model


class Folded(nn.Module):
    """Several ops that move entries about, or average them."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([x.flip(-1), x.transpose(2, 3)], 2)
        a, b = y.chunk(2, 3)
        means = F.pad(torch.stack([a, b], 4).flatten(3), (1, 0)).mean(-1, keepdim=True) * 2
        return torch.cat([means, y], 3)


POOLS: dict[str, nn.Module] = {
    "max": nn.MaxPool2d(2),
    "overlapping max": nn.MaxPool2d(3, stride=2, padding=1),
    "average": nn.AvgPool2d(2),
    "padded average": nn.AvgPool2d((3, 2), stride=(2, 1), padding=(1, 1)),
    "average of what is there": nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False, ceil_mode=True),
    "average by another divisor": nn.AvgPool2d(2, divisor_override=3),
    "adaptive average": nn.AdaptiveAvgPool2d((4, 5)),
    "upsampled": nn.Upsample(scale_factor=1.5, mode="bilinear"),
    "reflected": nn.ReflectionPad2d(1),
    "moved": Folded(),
}


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_recursion_equals_a_plain_loop_through_pools_and_data_movement(pool: nn.Module) -> None:
    model = convolutional(pool, nn.Softplus, padding=1)
    data = classes(4, 2, 6, 6)
    expected = recursed(model, *data[0], "cross_entropy")
    found = score(model, data, "taylor2")
    assert_same(found["0"], expected["2"])
    assert_same(found["2"], expected["6"])
    assert_same(found["6"], expected["10"].reshape(4, 2).sum(1))


CONVOLUTIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "strided": {"stride": 2, "padding": (1, 0)},
    "dilated": {"dilation": 2},
    "grouped": {"groups": 2, "padding": 1},
    "same": {"padding": "same"},
    "circular": {"padding": 1, "padding_mode": "circular"},
}


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_recursion_equals_a_plain_loop_for_convolutions(options: dict[str, object]) -> None:
    model = convolutional(nn.AvgPool2d(1), nn.Tanh, **options)
    data = classes(4, 2, 6, 6)
    expected = recursed(model, *data[0], "cross_entropy")["2"]
    found = score(model, data, "taylor2")["0"]
    assert_same(found, expected if len(found) == 4 else expected.reshape(2, 2).sum(0))


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_recursion_equals_a_plain_loop_for_other_ranks(rank: int, transposed: bool) -> None:
    convs = {1: (nn.Conv1d, nn.ConvTranspose1d), 3: (nn.Conv3d, nn.ConvTranspose3d)}[rank]
    pool = {1: nn.AdaptiveAvgPool1d, 3: nn.AdaptiveAvgPool3d}[rank]
    layers = [convs[0](2, 3, 1), nn.Tanh(), convs[transposed](3, 3, 2, stride=2), nn.Tanh(), pool(1), nn.Flatten()]
    model = unit_gain(nn.Sequential(*layers))
    data = classes(3, 2, *[4] * rank)
    assert isinstance(model, nn.Sequential)
    assert_same(score(model, data, "taylor2")["0"], recursed(model, *data[0], "cross_entropy")["2"])


class Skip(nn.Module):
    """o = C (x + tanh(B x)), x = tanh(A i)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, i: Tensor) -> Tensor:
        x = torch.tanh(self.a(i))
        return self.c(x + torch.tanh(self.b(x)))


def test_recursion_sums_over_the_paths_of_a_residual() -> None:
    model, data = unit_gain(Skip()), values(8, 3)
    assert isinstance(model, Skip)
    (i, t), b, c = data[0], model.b.weight.detach(), model.c.weight.detach()
    x = torch.tanh(model.a(i)).detach()
    branch = torch.tanh(model.b(x)).detach()
    g = (model(i) - t).detach() @ c
    h = torch.ones(8, 2, dtype=torch.float64) @ c**2
    slope, bend = 1 - branch**2, -2 * branch * (1 - branch**2)
    g_b, h_b = (slope * g) @ b, (slope**2 * h + bend * g) @ b**2
    total = x + branch
    expected = (-total * g + 0.5 * total**2 * h - x * g_b + 0.5 * x**2 * h_b).mean(0)
    assert_same(score(model, data, "taylor2", "squared_error")["a"], expected)


def test_recursion_takes_both_readers_of_a_unit() -> None:
    model, data = unit_gain(TwoReaders()), values(8, 3)
    assert isinstance(model, TwoReaders)
    i, t = data[0]
    x = torch.tanh(model.hidden(i)).detach()
    left, right = model.left.weight.detach(), model.right.weight.detach()
    z, g = model.right(x**2).detach(), (model(i) - t).detach()
    g_l, h_l = g @ left, torch.ones_like(g) @ left**2
    g_r, h_r = (z.cos() * g) @ right, (z.cos() ** 2 - z.sin() * g) @ right**2
    expected = (-x * g_l + 0.5 * x**2 * h_l - x**2 * g_r + 0.5 * x**4 * h_r).mean(0)
    assert_same(score(model, data, "taylor2", "squared_error")["hidden"], expected)


@pytest.mark.parametrize("reference", ["zero", "mean", "max"])
@pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy", "mse"])
def test_recursion_is_exact_at_the_last_hidden_layer_under_a_separable_loss(loss: str, reference: str) -> None:
    model = mlp(3, 5, 4, 2)
    data = values(12, 3)
    if loss == "binary_cross_entropy":
        data = [(x, (t > 0).double()) for x, t in data]
    recursion, exact = (score(model, data, name, loss, reference=reference) for name in ("taylor2", "taylor2_exact"))
    assert_same(recursion["2"], exact["2"], rtol=1e-11)
    assert (recursion["0"] - exact["0"]).abs().max() > 1e-3 * exact["0"].abs().max()


def test_a_final_softmax_belongs_to_a_squared_error() -> None:
    """The start of MATH.md, D6, and what it gives for a hidden layer."""
    model, data = nn.Sequential(*mlp(3, 5, 4), nn.Softmax(1)), classes(9, 3, count=4)
    x, t = data[0][0], F.one_hot(data[0][1], 4).double()
    o, a = model(x).detach(), torch.tanh(model[0](x)).detach()
    e, eye, weight = o - t, torch.eye(4, dtype=torch.float64), model[2].weight.detach()
    g, h = torch.zeros_like(o), torch.zeros_like(o)
    for i in range(4):
        g[:, i] = o[:, i] * (e[:, i] - (e * o).sum(1))
        for j in range(4):
            square = (eye[i, j] - o[:, i]) ** 2
            h[:, i] += o[:, j] ** 2 * square + e[:, j] * o[:, j] * (square - o[:, i] * (1 - o[:, i]))
    expected = (-a * (g @ weight) + 0.5 * a**2 * (h @ weight**2)).mean(0)
    assert_same(score(model, [(x, t)], "taylor2", "squared_error")["0"], expected)
    named = score(nn.Sequential(*model[:3], nn.LogSoftmax(1)), data, "taylor2", nn.NLLLoss())["0"]
    assert_same(named, score(nn.Sequential(*model[:3]), data, "taylor2")["0"])


def test_recursion_starts_from_any_loss() -> None:
    model, data = mlp(3, 5, 2), classes(8, 3)
    x, a = data[0][0], torch.tanh(model[0](data[0][0])).detach()
    o = model(x).detach().requires_grad_()
    dense = torch.autograd.functional.hessian(lambda o: saddle_rows(o, data[0]).sum(), o).detach()
    g = torch.autograd.grad(saddle_rows(o, data[0]).sum(), o)[0]
    h = torch.stack([torch.stack([dense[n, i, n, i] for i in range(2)]) for n in range(8)])
    weight = model[2].weight.detach()
    expected = (-a * (g @ weight) + 0.5 * a**2 * (h @ weight**2)).mean(0)
    assert_same(score(model, data, "taylor2", saddle_rows)["0"], expected)


def test_cross_entropy_of_weighted_classes_at_every_position() -> None:
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.Softplus(), nn.Conv2d(4, 3, 1)]
    model, generator = unit_gain(nn.Sequential(*layers)), torch.Generator().manual_seed(0)
    targets = torch.randint(3, (4, 5, 5), generator=generator)
    targets[0, :2] = -100
    x, weights = classes(4, 2, 5, 5)[0][0], torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    loss = nn.CrossEntropyLoss(weight=weights, label_smoothing=0.1)
    assert isinstance(model, nn.Sequential)
    a = model[1](model[0](x)).detach()
    o = model[2](a).detach().requires_grad_()
    counted = (targets != -100).double()
    each = F.cross_entropy(o, targets, weight=weights, label_smoothing=0.1, reduction="none")
    total = ((each * counted).flatten(1).sum(1) / counted.flatten(1).sum(1)).sum()
    g = torch.autograd.grad(total, o, create_graph=True)[0]
    h = torch.zeros_like(o)
    for index in torch.cartesian_prod(*[torch.arange(size) for size in o.shape]).tolist():
        h[tuple(index)] = torch.autograd.grad(g[tuple(index)], o, retain_graph=True)[0][tuple(index)]
    kernel = model[2].weight.detach()[:, :, 0, 0]
    g_a, h_a = torch.einsum("oc,nohw->nchw", kernel, g), torch.einsum("oc,nohw->nchw", kernel**2, h)
    expected = (-a * g_a + 0.5 * a**2 * h_a).sum((0, 2, 3)).detach() / 4
    assert_same(score(model, [(x, targets)], "taylor2", loss)["0"], expected)
