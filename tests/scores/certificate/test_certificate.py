"""Certificates are never below what closing a unit does, and their constants are those of dense matrices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import as_batch
from deadhead.data.losses import as_loss
from deadhead.gates.gates import Gates
from deadhead.gates.state import PrunedState
from deadhead.graph.catalogue import CATALOGUE
from deadhead.graph.network import Network
from deadhead.scores.certificate.certificate import certify
from deadhead.scores.certificate.lipschitz import ELEMENTWISE, Downstream
from deadhead.scores.certificate.norms import convolution_norm, fine_enough, largest_norm, spectral_norm
from deadhead.scores.criterion import Question
from support.networks import Flat, Residual, TwoReaders, classes, mlp, unit_gain

DRAWS = 30


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def deep(*activations: nn.Module) -> nn.Sequential:
    """A layer of four for each activation, from three inputs to three classes."""
    sizes = [3, *[4] * len(activations), 3]
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(*itertools.chain(*zip(layers, activations, strict=False)), layers[-1])


class Convolutions(nn.Module):
    """Stride, padding, dilation, groups, batch norm and both pools, flattened: (n, 2, 9, 9) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 4, 3, padding=2, dilation=2), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2)
        self.third = nn.Conv2d(4, 3, (2, 3), padding="same", padding_mode="circular")
        self.last = nn.Linear(3 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(F.relu(self.norm(self.first(x))), 2, stride=1)
        x = F.max_pool2d(torch.tanh(self.second(x)), 2, stride=1)
        return self.last(F.silu(self.third(x)).flatten(1))


class Moved(nn.Module):
    """Slices, joins, scales, constants, broadcasts and a mean over positions: (n, 5, 3) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 6)
        self.scale, self.last = nn.Parameter(torch.ones(6)), nn.Linear(12, 3)
        self.register_buffer("where", torch.arange(6) % 2 == 0)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.second(torch.tanh(self.first(x)))
        left, right = hidden[..., :3], hidden.chunk(2, -1)[1]
        mixed = torch.cat([torch.maximum(left, right), left - 2 * right.abs() / 3], -1) * self.scale
        shifted = torch.add(mixed, mixed.mean(1, keepdim=True), alpha=-0.5).masked_fill(self.where, 0.0)
        return self.last(torch.stack([shifted, 1 - mixed], -1).flatten(2)).transpose(0, 1).sum(0)


class Positions(nn.Module):
    """A class for each position: (n, 2, 6) to (n, 3, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(2, 4, 3, padding=1), nn.Conv1d(4, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))


@dataclass(frozen=True)
class Case:
    """A network, the shape of a row, what its targets are, and how many outputs it has."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    targets: str = "classes"
    outputs: int = 3

    @property
    def loss(self) -> str:
        return "binary_cross_entropy" if self.targets == "bits" else "cross_entropy"

    def data(self, rows: int, seed: int, scale: float = 1.0) -> list[tuple[Tensor, Tensor]]:
        """Rows in two batches of different sizes."""
        generator = torch.Generator().manual_seed(seed)
        inputs = scale * torch.randn(rows, *self.shape, generator=generator, dtype=torch.float64)
        size = (rows, *self.shape[1:]) if self.targets == "positions" else (rows,)
        targets = torch.randint(self.outputs, size, generator=generator)
        if self.targets == "positions":
            targets[torch.rand(size, generator=generator) < 0.3] = -100
        elif self.targets != "classes":
            drawn = torch.rand(rows, self.outputs, generator=generator, dtype=torch.float64)
            targets = drawn.round() if self.targets == "bits" else drawn / drawn.sum(1, keepdim=True)
        first = rows // 3
        return [(inputs[:first], targets[:first]), (inputs[first:], targets[first:])]


CASES = {
    "relu, tanh, sigmoid": Case(lambda: deep(nn.ReLU(), nn.Tanh(), nn.Sigmoid()), (3,)),
    "smooth": Case(lambda: deep(nn.GELU(), nn.SiLU(), nn.Softplus(), nn.Mish()), (3,)),
    "steep": Case(lambda: deep(nn.LeakyReLU(1.7), nn.ELU(1.4), nn.SELU(), nn.Hardtanh()), (3,)),
    "convolutions": Case(Convolutions, (2, 9, 9)),
    "flattened": Case(Flat, (2, 6, 6), outputs=4),
    "residual": Case(Residual, (2, 5, 5)),
    "several consumers": Case(TwoReaders, (3,), outputs=2),
    "moved": Case(Moved, (5, 3)),
    "positions": Case(Positions, (2, 6), "positions"),
    "bits": Case(lambda: deep(nn.Tanh(), nn.ReLU()), (3,), "bits"),
    "probabilities": Case(lambda: deep(nn.Tanh(), nn.ReLU6()), (3,), "probabilities"),
}
NETWORKS: dict[str, tuple[nn.Module, Network]] = {}


def network_of(name: str) -> tuple[nn.Module, Network]:
    """The network of a case, traced once; its weights are drawn anew for each use."""
    if name not in NETWORKS:
        model = unit_gain(CASES[name].make())
        NETWORKS[name] = model, dh.trace(model, CASES[name].data(6, 0)[0][0])
    return NETWORKS[name]


def redraw(model: nn.Module, seed: int) -> float:
    """New weights of a random gain; the gain."""
    generator = torch.Generator().manual_seed(seed)
    gain = 10 ** (torch.rand((), generator=generator).item() * 2 - 1.2)
    unit_gain(model, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(gain if parameter.dim() > 1 else 1.0)
    return gain


def both(network: Network, data: Sequence[tuple[Tensor, Tensor]], loss: str) -> tuple[Tensor, Tensor]:
    """What closing each unit does to the mean absolute loss, and its certificate, all groups one after another."""
    rows = sum(len(inputs) for inputs, _ in data)
    measured, bounds = (dh.score(network, data, loss=loss, criterion=name) for name in ("mrp", "certificate"))
    assert list(measured) == list(bounds)
    return torch.cat(list(measured.values())) / rows, torch.cat(list(bounds.values()))


TIGHTNESS: dict[str, Tensor] = {}


@pytest.mark.parametrize("name", CASES)
def test_no_unit_of_random_networks_does_more_than_its_certificate(name: str) -> None:
    case, ratios = CASES[name], []
    model, network = network_of(name)
    for draw in range(DRAWS):
        redraw(model, draw)
        measured, bound = both(network, case.data(6, draw, 10 ** (draw % 3 - 1.0)), case.loss)
        assert (measured <= bound * (1 + 1e-12) + 1e-14).all()
        ratios.append((measured / bound)[bound > 1e-9])
    TIGHTNESS[name] = torch.cat(ratios)
    assert len(TIGHTNESS[name]) > DRAWS
    assert TIGHTNESS[name].median() > 1e-5
    assert TIGHTNESS[name].max() > 1e-3


@pytest.mark.parametrize("name", ["relu, tanh, sigmoid", "convolutions", "residual", "moved", "positions"])
def test_units_closed_together_do_no_more_than_their_certificates_in_sum(name: str) -> None:
    case = CASES[name]
    model, network = network_of(name)
    loss = as_loss(case.loss)
    for draw in range(8):
        redraw(model, draw)
        data = case.data(6, draw)
        batches = [as_batch(batch) for batch in data]
        references = Question(PrunedState.of(network), network.groups, batches, loss, "mean").references()
        gates = Gates(network, loss, references)
        generator = torch.Generator().manual_seed(draw)
        alpha = {g.name: (torch.rand(g.size, generator=generator) < 0.5).double() for g in network.groups}
        for value in alpha.values():
            value[draw % len(value)] = 0
        with torch.no_grad():
            changes = torch.cat([gates.loss(alpha, batch) - gates.loss({}, batch) for batch in batches])
        units = {group: (value == 0).nonzero()[:, 0] for group, value in alpha.items()}
        bound = certify(network, data, units, loss=case.loss)
        assert 1e-6 * bound < changes.abs().mean().item() <= bound * (1 + 1e-12)


# -- cases in which it is attained -----------------------------------------------------------------------------------


def wrong_by_far(outputs: int, positions: int) -> tuple[nn.Module, Tensor]:
    """A unit at +1 and -1 that moves confidently wrong outputs straight up their loss, the same at every position."""
    model = nn.Sequential(nn.Conv1d(1, 2, 1), nn.ReLU(), nn.Conv1d(2, outputs, 1)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[[1.0]], [[0.5]]]))
        model[0].bias.fill_(3.0)
        model[2].weight.zero_()
        model[2].bias.zero_()
    return model, torch.tensor([1.0, -1.0], dtype=torch.float64).reshape(2, 1, 1).expand(2, 1, positions)


@pytest.mark.parametrize("positions", [1, 4])
def test_cross_entropy_attains_root_two_over_the_root_of_targets(positions: int) -> None:
    model, inputs = wrong_by_far(2, positions)
    with torch.no_grad():
        model[2].weight[:, 0, 0] = torch.tensor([1.0, -1.0])
        model[2].bias.copy_(torch.tensor([30.0, -30.0]))
    targets = torch.ones(2, positions, dtype=torch.long)
    measured, bound = both(dh.trace(model, inputs), [(inputs, targets)], "cross_entropy")
    torch.testing.assert_close(measured[0], torch.tensor(2.0, dtype=torch.float64), rtol=1e-9, atol=0)
    torch.testing.assert_close(bound[0], measured[0], rtol=1e-9, atol=0)


def test_targets_that_are_ignored_raise_the_bound_of_their_row() -> None:
    model, inputs = wrong_by_far(2, 4)
    with torch.no_grad():
        model[2].weight[:, 0, 0] = torch.tensor([1.0, -1.0])
    targets = torch.ones(2, 4, dtype=torch.long)
    network = dh.trace(model, inputs)
    _, whole = both(network, [(inputs, targets)], "cross_entropy")
    targets[:, 1:] = -100
    _, single = both(network, [(inputs, targets)], "cross_entropy")
    torch.testing.assert_close(single, 2 * whole)


def test_binary_cross_entropy_attains_the_root_of_its_outputs() -> None:
    model, inputs = wrong_by_far(5, 1)
    with torch.no_grad():
        model[2].weight[:, 0, 0] = 1.0
        model[2].bias.fill_(30.0)
    measured, bound = both(dh.trace(model, inputs), [(inputs, torch.zeros(2, 5, 1))], "binary_cross_entropy")
    torch.testing.assert_close(measured[0], torch.tensor(5.0, dtype=torch.float64), rtol=1e-9, atol=0)
    torch.testing.assert_close(bound[0], measured[0], rtol=1e-9, atol=0)


def test_probabilities_attain_the_distance_to_the_farthest_corner() -> None:
    model, inputs = wrong_by_far(2, 1)
    with torch.no_grad():
        model[2].weight[:, 0, 0] = torch.tensor([1.0, -1.0])
        model[2].bias.copy_(torch.tensor([30.0, -30.0]))
    targets = torch.tensor([[0.25], [0.75]], dtype=torch.float64).expand(2, 2, 1)
    measured, bound = both(dh.trace(model, inputs), [(inputs, targets)], "cross_entropy")
    torch.testing.assert_close(measured[0], torch.tensor(1.5, dtype=torch.float64), rtol=1e-9, atol=0)
    torch.testing.assert_close(bound[0], measured[0], rtol=1e-9, atol=0)


def test_the_certificate_of_a_plain_network_is_the_product_it_says() -> None:
    model = mlp(3, 5, 4, 3)
    (inputs, targets), *_ = data = classes(12, 3, count=3)
    hidden = torch.tanh(model[0](inputs)).detach()
    found = dh.score(model, [(inputs, targets)], loss="cross_entropy", criterion="certificate")["0"]
    spread = hidden.var(0, correction=0).sqrt()
    norms = model[2].weight.detach().square().sum(0).sqrt()
    behind = torch.linalg.matrix_norm(model[4].weight.detach(), 2)
    torch.testing.assert_close(found, math.sqrt(2) * behind * norms * spread)
    assert len(data) == 1


# -- constants of ops against dense matrices -------------------------------------------------------------------------


def constant_of(op: Callable[[Tensor], Tensor], shape: Sequence[int]) -> float:
    """What the walk makes of an op."""
    body = op if isinstance(op, nn.Module) else Applied(op)
    network = dh.trace(nn.Sequential(Applied(torch.clone), body).double().eval(), torch.randn(shape).double())
    graph = network.static.graph
    sizes = {
        node: node.meta["val"].shape
        for node in (*graph.inputs, *graph.calls)
        if isinstance(node.meta.get("val"), Tensor)
    }
    walk = Downstream(graph, graph.constants_of(network.frozen_state()), sizes)
    first = graph.calls[0]
    return walk.constants(graph.outputs[0], {first})[first]


def dense_norm(op: Callable[[Tensor], Tensor], points: Sequence[Tensor]) -> float:
    """The largest singular value of the op's Jacobian at any of these points."""
    matrices = [torch.autograd.functional.jacobian(op, point) for point in points]
    return max(
        float(torch.linalg.matrix_norm(m.reshape(-1, p.numel()), 2)) for m, p in zip(matrices, points, strict=True)
    )


def drawn(module: nn.Module) -> nn.Module:
    return unit_gain(module, 3)


def points_of(shape: Sequence[int]) -> list[Tensor]:
    """Random points, and peaks, where most of a maximum's windows see the same entry."""
    generator = torch.Generator().manual_seed(1)
    size = math.prod(shape)
    places = range(max(0, size // 2 - 4), min(size, size // 2 + 5))
    peaks = [torch.eye(size, dtype=torch.float64)[i].reshape(*shape) for i in places]
    random = [torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    return [random[0], *(5 * peak + 0.1 * random[1] for peak in peaks)]


EXACT: dict[str, tuple[Callable[[], Callable[[Tensor], Tensor]], tuple[int, ...]]] = {
    "linear": (lambda: drawn(nn.Linear(6, 9)), (2, 6)),
    "linear over positions": (lambda: drawn(nn.Linear(4, 5, bias=False)), (2, 3, 4)),
    "batch norm": (lambda: drawn(nn.BatchNorm2d(4)), (2, 4, 3, 3)),
    "batch norm without scale": (lambda: drawn(nn.BatchNorm1d(6, affine=False)), (2, 6)),
    "convolution of one tap": (lambda: drawn(nn.Conv2d(3, 4, 1)), (1, 3, 4, 5)),
    "average pool": (lambda: nn.AvgPool2d(2), (1, 2, 6, 6)),
    "average pool that overlaps": (lambda: nn.AvgPool2d(3, 2, 1), (1, 1, 8, 7)),
    "average pool of what is there": (lambda: nn.AvgPool2d(3, 2, 1, True, False), (1, 1, 7, 6)),
    "adaptive pool": (lambda: nn.AdaptiveAvgPool2d((3, 2)), (1, 2, 7, 5)),
    "global pool": (lambda: nn.AdaptiveAvgPool2d(1), (1, 2, 4, 5)),
    "mean": (lambda: lambda x: x.mean((2, 3)), (1, 2, 4, 5)),
    "sum": (lambda: lambda x: x.sum(1), (1, 6, 3)),
    "max pool": (lambda: nn.MaxPool2d(2), (1, 1, 6, 6)),
    "max pool that overlaps": (lambda: nn.MaxPool2d(3, 2, 1), (1, 1, 9, 9)),
    "max pool of stride one": (lambda: nn.MaxPool1d(3, 1), (1, 1, 17)),
    "max pool with dilation": (lambda: nn.MaxPool1d(3, 2, dilation=2), (1, 1, 19)),
    "repeat": (lambda: lambda x: x.repeat(1, 3, 1), (1, 2, 4)),
    "expand": (lambda: lambda x: x.expand(-1, 5, -1), (1, 1, 4)),
    "broadcast": (lambda: lambda x: torch.ones(5, 1, dtype=x.dtype) + x, (1, 1, 4)),
    "circular padding": (lambda: lambda x: F.pad(x, (2, 1), mode="circular"), (1, 2, 4)),
    "reflection": (lambda: lambda x: F.pad(x, (2, 2), mode="reflect"), (1, 1, 4)),
    "replication": (lambda: lambda x: F.pad(x, (0, 3, 1, 2), mode="replicate"), (1, 1, 3, 4)),
    "scale": (lambda: lambda x: -3 * x / 2, (2, 3)),
    "residual": (lambda: lambda x: x + 2 * x, (2, 3)),
    "twice": (lambda: lambda x: x + x, (2, 3)),
    "prelu": (lambda: nn.PReLU(init=1.5), (2, 4)),
    "matrix on the left": (lambda: (lambda w: lambda x: w @ x)(torch.randn(4, 3).double()), (2, 3, 5)),
    "data movement": (lambda: lambda x: x.transpose(1, 2).flatten(1).unsqueeze(1)[:, :, :7], (1, 3, 4)),
}  # fmt: skip
CONVOLUTIONS = {
    "zero padding": (lambda: drawn(nn.Conv2d(2, 3, 3, padding=1)), (1, 2, 5, 6)),
    "no padding": (lambda: drawn(nn.Conv2d(3, 2, (3, 2))), (1, 3, 6, 5)),
    "stride": (lambda: drawn(nn.Conv2d(2, 3, 3, stride=2, padding=1)), (1, 2, 7, 7)),
    "dilation": (lambda: drawn(nn.Conv2d(2, 2, 3, dilation=2, padding=2)), (1, 2, 7, 6)),
    "groups": (lambda: drawn(nn.Conv2d(4, 6, 3, groups=2, padding=2)), (1, 4, 5, 5)),
    "depthwise": (lambda: drawn(nn.Conv1d(3, 3, 4, groups=3, padding=2)), (1, 3, 9)),
    "short maps": (lambda: drawn(nn.Conv1d(2, 2, 5, padding=4)), (1, 2, 3)),
    "three axes": (lambda: drawn(nn.Conv3d(1, 2, 2, padding=1)), (1, 1, 3, 3, 3)),
}


@pytest.mark.parametrize("name", EXACT)
def test_constant_is_that_of_the_dense_matrix(name: str) -> None:
    make, shape = EXACT[name]
    op = make()
    assert constant_of(op, shape) == pytest.approx(dense_norm(op, points_of(shape)), rel=1e-9)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_constant_of_a_convolution_is_hardly_above_that_of_the_dense_matrix(name: str) -> None:
    make, shape = CONVOLUTIONS[name]
    op = make()
    found, dense = constant_of(op, shape), dense_norm(op, points_of(shape)[:1])
    assert dense * (1 - 1e-12) <= found <= dense * (2.5 if name in ("stride", "short maps") else 1.4)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("sizes", [(5, 6), (8, 4)])
def test_norm_on_a_torus_is_that_of_the_circular_convolution(sizes: tuple[int, int], dilation: int) -> None:
    kernel = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def op(x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, [dilation] * 4, mode="circular"), kernel, dilation=dilation)

    dense = dense_norm(op, [torch.randn(1, 2, *sizes, dtype=torch.float64)])
    assert convolution_norm(kernel, sizes, (dilation, dilation)) == pytest.approx(dense, rel=1e-12)


def test_a_torus_of_the_size_of_the_maps_would_be_too_small() -> None:
    generator = torch.Generator().manual_seed(0)
    kernels = torch.randn(50, 2, 2, 5, generator=generator, dtype=torch.float64)
    short = 0
    for kernel in kernels:
        dense = dense_norm(lambda x, kernel=kernel: F.conv1d(x, kernel, padding=2), [torch.randn(1, 2, 4).double()])
        assert convolution_norm(kernel, [8], [1]) >= dense * (1 - 1e-12)
        short += convolution_norm(kernel, [4], [1]) < dense * (1 - 1e-6)
    assert short > 0


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_coarse_grid_of_wide_maps_is_a_bound_and_close(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    for _ in range(5):
        kernel = torch.randn(3, 2, k, generator=generator, dtype=torch.float64)
        grid, dilation, factor = fine_enough([3000], [k], [2])
        assert grid[0] <= 16 * k
        finest = convolution_norm(kernel, [3000 + 2 * (k - 1)], [2])
        assert finest * (1 - 1e-6) <= factor * convolution_norm(kernel, grid, dilation) <= 1.006 * finest


def test_spectral_norm_is_the_largest_singular_value() -> None:
    for shape in ((40, 7, 3), (41, 3, 7), (2, 5, 5)):
        matrices = torch.randn(shape, dtype=torch.complex128)
        expected = torch.linalg.matrix_norm(matrices, 2)
        torch.testing.assert_close(spectral_norm(matrices), expected, rtol=1e-13, atol=0)
        assert largest_norm(matrices) == pytest.approx(expected.max().item(), rel=1e-13)
    assert largest_norm(torch.zeros(3, 2, 2)) == 0
    flat, peaked = torch.eye(8, dtype=torch.float64), torch.diag(torch.tensor([1.001] + [0.0] * 7, dtype=torch.float64))
    assert largest_norm(torch.stack([flat] * 12 + [peaked])) == pytest.approx(1.001, rel=1e-13)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "tanh": torch.tanh, "relu6": F.relu6, "hardtanh": F.hardtanh, "abs": torch.abs,
    "neg": torch.neg, "clamp": lambda x: x.clamp(-1, 2), "clamp_min": lambda x: torch.clamp_min(x, -1),
    "clamp_max": lambda x: torch.clamp_max(x, 1), "sin": torch.sin, "cos": torch.cos, "atan": torch.atan,
    "log_sigmoid": F.logsigmoid, "softshrink": F.softshrink, "tanhshrink": F.tanhshrink,
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "minimum": lambda x: torch.minimum(x, torch.ones_like(x)),
    "sigmoid": torch.sigmoid, "gelu": F.gelu, "silu": F.silu, "mish": F.mish, "selu": F.selu,
    "hardswish": F.hardswish, "hardsigmoid": F.hardsigmoid, "erf": torch.erf,
}  # fmt: skip
WITH_PARAMETERS: dict[str, tuple[nn.Module, float]] = {
    "leaky relu": (nn.LeakyReLU(0.2), 1.0), "steep leaky relu": (nn.LeakyReLU(-2.5), 2.5), "elu": (nn.ELU(0.5), 1.0),
    "steep elu": (nn.ELU(1.8), 1.8), "celu": (nn.CELU(2.0), 1.0), "softplus": (nn.Softplus(3.0), 1.0),
    "gelu by tanh": (nn.GELU("tanh"), 1.13),
}  # fmt: skip


def steepest(function: Callable[[Tensor], Tensor]) -> float:
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64, requires_grad=True)
    return float(torch.autograd.grad(function(x).sum(), x)[0].abs().max())


def test_slopes_are_the_largest_there_are() -> None:
    bounds = {
        name: op.lipschitz
        for name, op in CATALOGUE.items()
        if op.lipschitz is not None and op.family in ELEMENTWISE and "::" not in name
    }
    assert set(ACTIVATIONS) == set(bounds)
    for name, function in ACTIVATIONS.items():
        assert bounds[name] * 0.99 < steepest(function) <= bounds[name] * (1 + 1e-12), name


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_slopes_follow_the_parameters(name: str) -> None:
    module, slope = WITH_PARAMETERS[name]
    assert constant_of(module, (2, 3)) == slope
    assert slope * 0.99 < steepest(module) <= slope * (1 + 1e-12)


# -- claims ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "convolution"])
def test_a_constant_unit_has_certificate_zero(name: str) -> None:
    model = mlp(3, 5, 4, 3) if name == "mlp" else unit_gain(Positions())
    first = model.get_submodule("0" if name == "mlp" else "first")
    with torch.no_grad():
        first.weight[1] = 0
        first.bias[1] = 0.8
    data = classes(12, 3, count=3, batch=5) if name == "mlp" else CASES["positions"].data(9, 0)
    found = next(iter(dh.score(model, data, loss="cross_entropy", criterion="certificate").values()))
    assert found[1] < 1e-14
    assert (found > 1e-2).sum() == len(found) - 1


def test_permuted_units_have_permuted_certificates() -> None:
    model, other, order = mlp(3, 5, 4, 3), mlp(3, 5, 4, 3), [3, 0, 4, 1, 2]
    with torch.no_grad():
        other[0].weight.copy_(model[0].weight[order])
        other[0].bias.copy_(model[0].bias[order])
        other[2].weight.copy_(model[2].weight[:, order])
    data = classes(12, 3, count=3)
    before, after = (dh.score(m, data, loss="cross_entropy", criterion="certificate") for m in (model, other))
    torch.testing.assert_close(after["0"], before["0"][order], rtol=1e-12, atol=0)
    torch.testing.assert_close(after["2"], before["2"], rtol=1e-12, atol=0)


def test_certificates_do_not_depend_on_how_rows_are_batched() -> None:
    model = unit_gain(Residual())
    (inputs, targets), *_ = classes(11, 2, 5, 5, count=3)
    whole = dh.score(model, [(inputs, targets)], loss="cross_entropy", criterion="certificate")
    parts = list(zip(inputs.split(4), targets.split(4), strict=True))
    found = dh.score(model, parts, loss="cross_entropy", criterion="certificate")
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=0)


class Behind(nn.Module):
    """A layer, something, and a layer."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.first, self.middle, self.between, self.last = nn.Linear(3, 4), nn.Linear(4, 6), between, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.middle(torch.tanh(self.first(x)))))


class Squared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()


REFUSED = {
    "layer_norm in between": nn.LayerNorm(6),
    "softmax in between": nn.Softmax(-1),
    "mul in between, which multiplies activations": Squared(),
    "square in between": Applied(torch.square),
    "exp in between": Applied(torch.exp),
}


@pytest.mark.parametrize("name", REFUSED)
def test_ops_without_a_constant_are_refused_by_name_and_module(name: str) -> None:
    with pytest.raises(dh.DataError, match=f"no bound behind {name}"):
        dh.score(
            unit_gain(Behind(REFUSED[name])), classes(8, 3, count=3), loss="cross_entropy", criterion="certificate"
        )


def test_ops_before_every_consumer_are_not_asked_for() -> None:
    model = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))
    data = [(x.float(), y) for x, y in classes(8, 3, count=3)]
    assert (dh.score(model, data, loss="cross_entropy", criterion="certificate")["1"] > 0).any()


@pytest.mark.parametrize("loss", ["mse", "squared_error"])
def test_squared_error_is_refused_with_the_bound_that_it_has(loss: str) -> None:
    data = [(torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64))]
    with pytest.raises(dh.DeadheadError, match=r"sqrt\(L\(0\)\) <= sqrt\(L\(1\)\) \+ K dev / sqrt\(2\)"):
        dh.score(mlp(3, 4, 3), data, loss=loss, criterion="certificate")


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(label_smoothing=0.1), lambda outputs, batch: outputs.sum(1)])
def test_losses_of_unknown_slope_are_refused(loss: object) -> None:
    with pytest.raises(dh.DeadheadError, match="slope is not known"):
        dh.score(mlp(3, 4, 3), classes(8, 3, count=3), loss=loss, criterion="certificate")


def test_a_plain_loss_module_is_the_loss_by_name() -> None:
    model, data = mlp(3, 4, 3), classes(8, 3, count=3)
    found, expected = (
        dh.score(model, data, loss=loss, criterion="certificate")["0"]
        for loss in (nn.CrossEntropyLoss(), "cross_entropy")
    )
    assert torch.equal(found, expected)


def test_certify_names_groups_and_units_that_there_are_not() -> None:
    model, data = mlp(3, 4, 3), classes(8, 3, count=3)
    with pytest.raises(dh.DataError, match="no group 'other'"):
        certify(model, data, {"other": [0]})
    with pytest.raises(dh.DataError, match="units 0 to 3"):
        certify(model, data, {"0": [4]})
