"""Gauss-Newton compensation against dense least squares, finite differences and what must not change."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import deadhead as dh
import deadhead.compensate.gauss_newton as gauss_newton
from deadhead.compensate import Problem, compensate
from deadhead.data.calibration import as_batch, calibrate, read
from deadhead.data.losses import as_loss
from deadhead.reconstruction.compensation import Compensation
from deadhead.select.plan import plan_of


class Residual(nn.Module):
    """Convolutions with batch norm and a skip, of which some have no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(6)
        self.grouped = nn.Conv2d(6, 8, 3, groups=2)
        self.head = nn.Linear(8, 4, bias=False)

    def forward(self, x):
        h = self.norm2(self.second(torch.relu(self.norm1(self.first(x)))))
        return self.head(torch.tanh(self.grouped(torch.relu(h))).mean((2, 3)))


def settled(model: nn.Module) -> nn.Module:
    """In evaluation mode, with running statistics of its own."""
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(32, 3, 8, 8))
        model.head.weight *= 20
    return model.eval()


def case(model, inputs, targets, loss, removed):
    network = dh.trace(model, inputs[:2])
    calibration = calibrate(read([(inputs, targets)]), seed=0)
    groups = list(network.groups)
    plan = plan_of([(groups[index].name, unit) for index, units in removed.items() for unit in units])
    return Problem(network, groups, plan, calibration, as_loss(loss))


def refine(problem, start, **options):
    return compensate(replace(problem, start=start), "gauss_newton", options)


def value(problem, compensation, batches):
    """The mean divergence of the gated network from the intact one, by the module's own forward where it is intact."""
    network, loss = problem.network, problem.loss
    gates = problem.state(compensation).gates(loss)
    total = rows = 0
    with torch.no_grad():
        for batch in batches:
            wanted = network.module(batch.raw[0])
            total += loss.divergence(gates.outputs({}, batch), wanted, batch).sum().item()
            rows += batch.rows
    return total / rows


@pytest.mark.parametrize("features", [3, 12])
def test_a_linear_consumer_and_squared_error_end_at_the_dense_least_squares(monkeypatch, features):
    torch.manual_seed(features)
    monkeypatch.setattr(gauss_newton, "INPUT_DAMPING", 1e-9)
    monkeypatch.setattr(gauss_newton, "PATIENCE", 40)
    model = nn.Sequential(nn.Linear(5, features + 3), nn.Tanh(), nn.Linear(features + 3, 4)).double().eval()
    inputs = torch.randn(300, 5).double()
    given = case(model, inputs, torch.randn(300, 4).double(), "squared_error", {0: [0, 2, 5]})
    calibration, consumer = given.calibration, "2.weight"
    start = Compensation(tensors={consumer: model[2].weight.detach() * 0.5})
    found = refine(given, start, steps=40)

    kept = [unit for unit in range(features + 3) if unit not in (0, 2, 5)]
    x = torch.cat([batch.raw[0] for batch in calibration.fit])
    hidden, wanted = torch.tanh(model[0](x)).detach(), model(x).detach()
    wide = torch.cat([hidden[:, kept], torch.ones(len(x), 1)], 1).double()
    solution = torch.linalg.lstsq(wide, wanted).solution
    least = (wide @ solution - wanted).square().mean().item()
    assert value(given, start, calibration.fit) > 1.1 * least
    assert value(given, found, calibration.fit) == pytest.approx(least, rel=5e-3)
    torch.testing.assert_close(found.tensors[consumer][:, kept], solution[:-1].T, rtol=0.05, atol=0.02)


def test_the_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    model = Residual().double().eval()
    inputs, targets = torch.randn(40, 3, 8, 8).double(), torch.randint(4, (40,))
    given = case(model, inputs, targets, "cross_entropy", {0: [1, 3], 1: [0], 2: [2]})
    calibration = given.calibration
    objective = gauss_newton._Objective(given, compensate(given))
    objective.blocks, _ = gauss_newton._blocks(objective)
    assert {block.consumer.constant.kind for block in objective.blocks} == {"add", "subtract", "new"}
    here = {name: 0.01 * torch.randn_like(delta) for name, delta in objective.origin().items()}
    now, gradient = objective.gradient(here)
    assert now == pytest.approx(objective.value(here, calibration.fit), rel=1e-12)
    for name in here:
        for place in torch.randperm(here[name].numel())[:6].tolist():
            ends = []
            for step in (1e-6, -1e-6):
                other = {key: delta.clone() for key, delta in here.items()}
                other[name].view(-1)[place] += step
                ends.append(objective.value(other, calibration.fit))
            expected = (ends[0] - ends[1]) / 2e-6
            assert gradient[name].view(-1)[place].item() == pytest.approx(expected, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error", "mse", "binary_cross_entropy"])
def test_held_out_rows_come_nearer_and_targets_are_not_read(loss):
    torch.manual_seed(1)
    model = settled(Residual().train())
    inputs = torch.randn(200, 3, 8, 8)
    targets = torch.randint(4, (200,)) if loss == "cross_entropy" else torch.rand(200, 4)
    given = case(model, inputs, targets, loss, {0: [1, 3, 4, 5], 1: [0]})
    start = compensate(given)
    before = copy.deepcopy(start)
    found = refine(given, start)
    first, least = (value(given, each, given.calibration.held_out) for each in (start, found))
    assert least < 0.95 * first
    assert found.divergence == pytest.approx((first, least), rel=1e-3)
    for name, tensor in before.tensors.items():
        assert torch.equal(tensor, start.tensors[name])
    assert all(torch.equal(tensor, start.biases[name]) for name, tensor in before.biases.items())

    others = 3 - targets if loss == "cross_entropy" else 1 - targets
    again = refine(case(model, inputs, others, loss, {0: [1, 3, 4, 5], 1: [0]}), start)
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in found.tensors.items())


def test_what_nothing_can_improve_stays():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    with torch.no_grad():
        model[2].weight[:, 2] = 0  # a unit that nobody reads
    given = case(model, torch.randn(80, 4), torch.randint(3, (80,)), "cross_entropy", {0: [2]})
    start = compensate(given)
    found = refine(given, start)
    assert found.divergence[1] <= found.divergence[0] < 1e-6
    assert max((found.tensors[name] - tensor).abs().max() for name, tensor in start.tensors.items()) < 1e-3


def test_consumers_that_are_too_large_stay_and_are_told(monkeypatch):
    torch.manual_seed(3)
    monkeypatch.setattr(gauss_newton, "STATISTICS_BYTES", 8 * 20**2)
    model = nn.Sequential(nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    data = [(torch.randn(200, 4), torch.randint(3, (200,)))]
    pruned = dh.prune(model, data, loss="cross_entropy", units=0.5, curve=0)
    assert any(
        "2.weight was left as least squares" in note and "too large for gauss_newton" in note
        for note in pruned.report.notes
    )
    assert not any("4.weight" in note for note in pruned.report.notes)


def test_a_loss_of_ones_own_is_left_alone_and_outputs_are_compared_by_squares():
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 2)).eval()
    inputs = torch.randn(300, 4)

    def nothing(outputs, batch):
        return outputs.square().sum(1)  # least where the network gives nothing

    given = case(model, inputs, torch.zeros(300), nothing, {0: [0, 1, 2, 3]})
    start = Compensation(tensors={"2.weight": model[2].weight.detach() * 0.7})
    found = refine(given, start)
    first, least = (value(given, each, given.calibration.held_out) for each in (start, found))
    assert least < 0.3 * first
    assert found.divergence == pytest.approx((first, least), rel=1e-3)


def test_outputs_that_cannot_be_compared_leave_all_as_it_is():
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 2))

        def forward(self, x):
            return {"loss": self.body(x).square().mean(), "deep": self.body(x).sum()}

    torch.manual_seed(4)
    data = [{"x": torch.randn(60, 4)}]
    model = Whole().eval()
    pruned = dh.prune(model, data, loss="model", units=0.5, curve=0)
    alone = dh.prune(model, data, loss="model", units=0.5, curve=0, compensate="least_squares")
    assert any("left as least squares had fitted it: Outputs of shape" in note for note in pruned.report.notes)
    for name, tensor in alone.model.state_dict().items():
        assert torch.equal(tensor, pruned.model.state_dict()[name])


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error", "mse", "binary_cross_entropy"])
def test_divergences_are_least_at_what_is_wanted(loss):
    torch.manual_seed(5)
    wanted = torch.randn(6, 5).double()
    targets = torch.randint(5, (6,)) if loss == "cross_entropy" else torch.rand(6, 5).double()
    batch, divergence = as_batch((wanted, targets)), as_loss(loss).divergence
    outputs = wanted.clone().requires_grad_()
    at = divergence(outputs, wanted, batch)
    assert at.shape == (6,)
    assert at.detach().abs().max() < 1e-12
    assert torch.autograd.grad(at.sum(), outputs)[0].abs().max() < 1e-12
    for _ in range(20):
        moved = wanted + torch.randn_like(wanted)
        moved = moved if loss != "cross_entropy" else moved - moved.mean(1, keepdim=True)
        assert divergence(moved, wanted, batch).min() > 0
    classes = torch.full((6,), 0.5).double()
    if loss in ("squared_error", "mse"):
        torch.testing.assert_close(divergence(wanted + 1, wanted, batch), 2 * classes)


def test_a_prune_by_it_is_verified_and_better_than_least_squares_alone():
    torch.manual_seed(6)
    model = settled(Residual().train())
    data = [(torch.randn(1000, 3, 8, 8), torch.randint(4, (1000,)))]
    wanted = model(data[0][0]).detach()
    apart = {}
    for method in ("gauss_newton", "least_squares"):
        pruned = dh.prune(model, data, loss="cross_entropy", units=0.75, compensate=method, curve=0)
        assert pruned.report.difference < 1e-5
        apart[method] = (pruned.model(data[0][0]) - wanted).square().mean().item()
    assert apart["gauss_newton"] < 0.95 * apart["least_squares"]
