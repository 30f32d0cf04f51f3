"""Compensation of every kind of product, against least squares on design matrices that the op itself gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import calibrate, read
from deadhead.data.losses import as_loss
from deadhead.gates.gates import Gates
from deadhead.reconstruction.curvature import output_curvatures
from deadhead.select.plan import plan_of
from support.networks import unit_gain, values
from support.quick import each_of
from support.readers import READINGS, Read, inputs, reader
from support.references import Data

JUDGED = (
    "transposed, groups", "transposed, output padding", "experts with a bias", "experts, transposed", "w x of maps",
    "einsum, two axes of outputs", "einsum over positions", "addmm from the left",
)  # fmt: skip
ROWS = 25
"""Of every first batch, so that tests share what they trace."""
METHODS = ("obs", "least_squares", "least_squares_one_pass")


@pytest.fixture(autouse=True)
def undamped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deadhead.reconstruction.solve.FIT_DAMPINGS", (0.0,))
    monkeypatch.setattr("deadhead.reconstruction.weighing.SCORE_DAMPING", 1e-5)


def data_of(model: Read, name: str, rows: int = 60) -> Data:
    x = inputs(name, rows, seed=3)
    return [(part, model(part).detach()) for part in x.split(ROWS)]


def fitted(data: Data) -> Tensor:
    """The inputs that were fitted to."""
    return torch.cat([batch.inputs for batch in calibrate(read(data)).fit])  # type: ignore[misc]


def units_of(name: str) -> tuple[int, list[list[int]]]:
    """The axis of the units in what the reader reads, and the entries of each."""
    made, groups = READINGS[name].made, 1
    if "groups" in name or "three" in name:
        groups = 2
    elif "all of it" in name:
        groups = 3
    each = 6 // groups
    return 1 if isinstance(made, int) else -1, [[g * each + k for g in range(groups)] for k in range(each)]


def group_of(model: Read, name: str) -> str:
    """The name of the group whose units those are."""
    network = dh.trace(model, inputs(name, ROWS))
    names = [group.name for group in network.groups if group.consumers[0].weight == "weight"]
    return names[-1]


def prune(model: nn.Module, data: Data, group: str, unit: int, count: int, method: str) -> dh.Pruned:
    if method == "obs":
        return dh.prune(model, data, loss="squared_error", units=count - 1, only=group, curve=0)
    return dh.prune(model, data, loss="squared_error", plan=plan_of([(group, unit)]), compensate=method, curve=0)


def closed(model: Read, name: str, x: Tensor, which: list[int], keep: bool = False) -> Tensor:
    """What the reader reads without some units, or only them."""
    axis, units = units_of(name)
    entries = torch.tensor([e for k in which for e in units[k]])
    h = model.units(x).detach()
    mask = torch.zeros(h.shape[axis], dtype=h.dtype).index_fill(0, entries, 1.0)
    shape = [1] * h.dim()
    shape[axis] = -1
    return h * (mask if keep else 1 - mask).reshape(shape)


def design(model: Read, h: Tensor) -> Tensor:
    """What the op gives for each single weight, and for each single bias: (all entries of the result, weights)."""
    found = []
    for parameter in (model.weight, model.bias):
        for place in range(0 if parameter is None else parameter.numel()):
            weight = torch.zeros_like(model.weight).detach()
            bias = None if model.bias is None else torch.zeros_like(model.bias).detach()
            (weight if parameter is model.weight else bias).view(-1)[place] = 1.0  # type: ignore[union-attr]
            found.append(model.reading.op(h, weight, bias).flatten())
    return torch.stack(found, 1)


def best(model: Read, name: str, x: Tensor, which: list[int]) -> Tensor:
    """What the best weights on the other units give, by dense least squares."""
    wanted = model(x).detach()
    columns = design(model, closed(model, name, x, which))
    return (columns @ torch.linalg.lstsq(columns, wanted.flatten(), driver="gelsd").solution).reshape(wanted.shape)


@pytest.mark.parametrize("method", each_of(METHODS[1:], METHODS[1:2]))
@pytest.mark.parametrize("name", READINGS)
def test_least_squares_is_the_dense_solution(name: str, method: str) -> None:
    model = reader(name)
    data = data_of(model, name)
    _, units = units_of(name)
    pruned = prune(model, data, group_of(model, name), 1, len(units), method)
    assert not [note for note in pruned.report.notes if "not compensated" in note]
    x = fitted(data)
    wanted, expected = model(x), best(model, name, x, [1])
    assert (expected - wanted).abs().max() > 1e-3 * wanted.abs().max()
    torch.testing.assert_close(pruned.model(x), expected, rtol=0, atol=1e-7 * float(wanted.abs().max()))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", each_of(READINGS, JUDGED))
def test_a_unit_that_is_another_one_negated_is_taken_over(name: str, method: str) -> None:
    model = reader(name)
    _, units = units_of(name)
    with torch.no_grad():
        for own, other in zip(units[1], units[0], strict=True):
            if hasattr(model, "up"):
                model.up[..., own] = -model.up[..., other]
            else:
                model.first.weight[own] = -model.first.weight[other]
                model.first.bias[own] = -model.first.bias[other]  # type: ignore[index]
    data, group = data_of(model, name), group_of(model, name)
    pruned = prune(model, data, group, 1, len(units), method)
    assert pruned.plan.removed[group].tolist() in ([0], [1])
    gone = pruned.plan.removed[group].tolist()
    x = inputs(name, 7, seed=9)
    wanted = model(x)
    without = model.reading.op(closed(model, name, x, gone), model.weight, model.bias)
    assert (without - wanted).abs().max() > 0.01 * wanted.abs().max()
    torch.testing.assert_close(pruned.model(x), wanted, rtol=0, atol=1e-9 * float(wanted.abs().max()))
    predicted = pruned.report.predicted_loss
    assert predicted is not None
    assert abs(predicted) < 1e-9


@pytest.mark.parametrize("name", READINGS)
def test_the_mean_goes_to_the_bias(name: str) -> None:
    model = reader(name)
    data = data_of(model, name)
    pruned = prune(model, data, group_of(model, name), 1, 6, "mean")
    left = [note for note in pruned.report.notes if "not compensated" in note]
    if model.bias is None:
        assert left == ["weight was not compensated: it has no bias to which the constant could be added"]
        return
    assert not left
    x = fitted(data)
    gone = model.reading.op(closed(model, name, x, [1], keep=True), model.weight, torch.zeros_like(model.bias)).detach()
    axes = (0, *range(2, gone.dim())) if isinstance(READINGS[name].made, int) else (0,)
    assert pruned.model.bias is not None
    change = (pruned.model.bias - model.bias).detach()  # type: ignore[operator]
    torch.testing.assert_close(change, gone.mean(axes).reshape(change.shape), rtol=1e-9, atol=1e-12)


def absolute(outputs: Tensor, batch: Any) -> Tensor:
    return (outputs - batch[1] - 0.3).abs().flatten(1).sum(1) + 0.1 * (outputs**2).flatten(1).sum(1)


@pytest.mark.parametrize("name", JUDGED)
def test_obs_is_half_of_what_dense_least_squares_loses_by_the_curvature(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deadhead.reconstruction.weighing.SCORE_DAMPING", 1e-13)
    model = reader(name)
    data = data_of(model, name, rows=30)
    group = group_of(model, name)
    scores = dh.score(model, data, loss=absolute, criterion="obs")[group]
    x, t = (torch.cat(parts) for parts in zip(*data, strict=True))
    made = model(x).detach().requires_grad_()
    (g,) = torch.autograd.grad(absolute(made, (x, t)).sum(), made)
    _, units = units_of(name)
    # The axes of what is given: rows and positions are averaged over, outputs weighed, groups apart.
    if isinstance(READINGS[name].made, int):
        parts = len(units[0])

        def outputs(value: Tensor) -> Tensor:
            return value.movedim(1, -1).reshape(-1, parts, value.shape[1] // parts).movedim(1, 0)
    elif name.startswith("experts"):

        def outputs(value: Tensor) -> Tensor:
            return value.movedim(1, 0) if value.shape[1] == 2 else value.movedim(2, 0)
    else:

        def outputs(value: Tensor) -> Tensor:
            return value.flatten(1)[None]

    s = outputs(g).transpose(1, 2) @ outputs(g) / len(x)
    costs = []
    for unit in range(len(units)):
        error = outputs(best(model, name, x, [unit]) - made.detach())
        costs.append(0.5 * float((error @ s * error).sum()) / error.shape[1])
    assert int(scores.argmin()) == costs.index(min(costs))
    assert float(scores.min()) == pytest.approx(min(costs), rel=1e-6)


def test_curvature_at_experts_is_that_of_each() -> None:
    name = "experts"
    model = reader(name)
    data = data_of(model, name)
    network = dh.trace(model, data[0][0])
    found = output_curvatures(Gates(network, as_loss(absolute)), ["weight"], read(data))["weight"]
    x, t = (torch.cat(parts) for parts in zip(*data, strict=True))
    made = model(x).detach().requires_grad_()
    (g,) = torch.autograd.grad(absolute(made, (x, t)).sum(), made)
    expected = torch.einsum("neo,nep->eop", g, g) / len(x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


# -- what stands behind, and who else uses it --------------------------------------------------------------------------


class Decoder(nn.Module):
    """A transposed convolution without a bias, and a batch norm behind it or nothing."""

    def __init__(self, behind: bool) -> None:
        super().__init__()
        self.first, self.up = nn.Conv2d(2, 6, 1), nn.ConvTranspose2d(6, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4) if behind else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.up(torch.sigmoid(self.first(x))))


@pytest.mark.parametrize("behind", [True, False])
def test_the_constant_of_a_transposed_convolution_goes_to_the_norm_behind(behind: bool) -> None:
    model = unit_gain(Decoder(behind))
    with torch.no_grad():
        model.first.weight[2] = 0.0
    data = values(30, 2, 4, 4, out=1)
    data = [(x, model(x).detach()) for x, _ in data]
    pruned = dh.prune(model, data, loss="mse", plan=plan_of([("first", 2)]))
    x = data[0][0]
    assert pruned.model.up.bias is None
    same = (pruned.model(x) - model(x)).abs().max() < 1e-9
    assert same == behind  # a constant unit is a constant behind


class Twice(nn.Module):
    """One module that reads the units twice, or a parameter by two ops that lay it out alike."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first = nn.Conv2d(2, 6, 1)
        self.reader = nn.ConvTranspose2d(6, 4, 3, stride=2) if how == "transposed" else nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        if self.how == "transposed":
            return torch.sin(self.reader(h)) + self.reader(h**3)[..., :9, :9]
        h = h.mean((2, 3))
        weight = self.reader.weight
        match self.how:
            case "module":
                return torch.sin(self.reader(h)) + self.reader(h**3)
            case "two ops":
                return torch.sin(torch.einsum("oi,ni->no", weight, h)) + (weight @ (h**3).mT).mT
        return F.linear(h, weight) + h @ self.reader.weight.mT


@pytest.mark.parametrize("how", ["transposed", "module", "two ops", "and its transpose"])
@pytest.mark.parametrize("method", METHODS)
def test_a_weight_that_reads_units_twice_is_compensated_for_both(how: str, method: str) -> None:
    model = unit_gain(Twice(how))
    with torch.no_grad():
        model.first.weight[1], model.first.bias[1] = -model.first.weight[0], -model.first.bias[0]
    x = torch.randn(50, 2, 4, 4, dtype=torch.float64)
    pruned = prune(model, [(x, model(x).detach())], "first", 1, 6, method)
    assert not [note for note in pruned.report.notes if "not compensated" in note]
    x = torch.randn(5, 2, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(pruned.model(x), model(x), rtol=0, atol=1e-9)


class Left(nn.Module):
    """Weights that read units and cannot be compensated."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.first = how, nn.Linear(3, 6)
        self.second = nn.Linear(3, 6)
        self.last, self.end = nn.Linear(6, 3), nn.Linear(6, 3)
        self.w = nn.Parameter(torch.randn(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        h, other = torch.tanh(self.first(x)), torch.sin(self.second(x))
        match self.how:
            case "transpose":
                return self.last(F.linear(h, self.w).cos()) + self.end(torch.tanh(other @ self.w))
            case "tied":
                return torch.cos(F.linear(h, self.second.weight.T)) + self.last(other)
            case "three":
                return torch.einsum("ni,io,no->no", h, self.w, x.repeat(1, 2))
            case "scaled":
                return torch.addmm(x.repeat(1, 2), h, self.w, alpha=0.5)
            case "computed":
                return F.linear(h, self.w.exp())
        return torch.einsum("ni,io->n", h, self.w)[:, None]


REASONS = {
    "transpose": ("w", "its weight is laid out in one way for linear and in another for matmul"),
    "tied": ("second.weight", "its weight is used elsewhere too: linear in second"),
    "three": ("w", "einsum multiplies more than two tensors at once"),
    "scaled": ("w", "addmm scales what it adds"),
    "computed": ("linear", "its weight is computed from other parameters"),
    "summed": ("w", "einsum sums the weight over an axis that the units do not lie along"),
}


@pytest.mark.parametrize("how", REASONS)
@pytest.mark.parametrize("compensate", ["least_squares", "mean"])
def test_what_is_left_has_its_reason(how: str, compensate: str) -> None:
    model = unit_gain(Left(how))
    x = torch.randn(40, 3, dtype=torch.float64)
    groups = [group.name for group in dh.trace(model, x).groups]
    pruned = dh.prune(model, [(x, model(x).detach())], loss="mse", only=groups, units=3, compensate=compensate)
    name, why = REASONS[how]
    assert f"{name} was not compensated: {why}" in pruned.report.notes
    assert pruned.report.difference <= 1e-10


@pytest.mark.parametrize("name", READINGS)
def test_the_oracle_closes_units_at_every_kind_of_product(name: str) -> None:
    model = reader(name)
    x = inputs(name, ROWS)
    group = group_of(model, name)

    def loss(outputs: Tensor, batch: Any) -> Tensor:
        return (outputs**2).flatten(1).sum(1)

    scores = dh.score(model, [(x, x)], loss=loss, criterion="oracle")[group]
    _, units = units_of(name)
    for unit in range(len(units)):
        made = model.reading.op(closed(model, name, x, [unit]), model.weight, model.bias)
        rise = (loss(made, None) - loss(model(x), None)).mean()
        torch.testing.assert_close(scores[unit], rise.detach(), rtol=1e-9, atol=1e-10)
