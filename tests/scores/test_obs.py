"""The optimal brain surgeon as a criterion and front to back, against dense least squares in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import read
from deadhead.data.losses import as_loss
from deadhead.gates.gates import Gates
from deadhead.reconstruction import curvature as output_curvature
from deadhead.reconstruction.curvature import output_curvatures, root_of
from deadhead.reconstruction.weighing import SCORE_DAMPING
from deadhead.scores import obs
from support.networks import Flat, Residual, TwoReaders, classes, conv_pair, mlp, unit_gain, values
from support.references import inputs_of


def patches(module: nn.Module, x: Tensor) -> Tensor:
    """(groups, rows and positions, columns) that a linear or convolutional module reads."""
    if isinstance(module, nn.Linear):
        return x.reshape(1, -1, x.shape[-1])
    assert isinstance(module, nn.Conv2d)
    unfolded = F.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride)  # type: ignore[arg-type]
    return unfolded.movedim(1, 2).reshape(-1, module.groups, unfolded.shape[1] // module.groups).movedim(1, 0)


def gradients(model: nn.Module, module: str, data: list[tuple[Tensor, Tensor]], loss: Any) -> Tensor:
    """The gradient of the summed losses at what a module gives: (rows and positions, outputs)."""
    found = []
    for x, t in data:
        seen: list[Tensor] = []
        handle = model.get_submodule(module).register_forward_hook(lambda _, args, out, seen=seen: seen.append(out))
        total = loss(model(x), t).sum()
        handle.remove()
        (gradient,) = torch.autograd.grad(total, seen)
        found.append(gradient.movedim(1, -1).flatten(0, -2))
    return torch.cat(found)


def absolute(outputs: Tensor, batch: Any) -> Tensor:
    """A loss of the user's own, without a known predictive distribution."""
    target = batch[1] if isinstance(batch, (tuple, list)) else batch
    return (outputs - target).abs().sum(1) + 0.1 * (outputs**2).sum(1)


def cost(model: nn.Module, module: str, data: list[tuple[Tensor, Tensor]], gone: list[int], loss: Any) -> float:
    """Half the least `tr(S E[(W' a~ - W a~)(..)^T])`, damped, over W' without some input columns."""
    reader = model.get_submodule(module)
    weight = reader.weight.detach()  # type: ignore[union-attr]
    weight = weight.flatten(1)
    read = torch.cat([patches(reader, each) for each in inputs_of(model, module, data)], 1)
    g = gradients(model, module, data, loss)
    rows, total = sum(len(t) for _, t in data), 0.0
    outputs = weight.shape[0] // len(read)
    for place, a in enumerate(read):
        wide = torch.cat([a, torch.ones(len(a), 1, dtype=a.dtype)], 1)
        extra = SCORE_DAMPING * (a.square().mean(0)).mean() * torch.ones(wide.shape[1], dtype=a.dtype)
        extra[-1] = 1e-12
        part = torch.cat([weight[place * outputs : (place + 1) * outputs], weight.new_zeros(outputs, 1)], 1)
        mine = g[:, place * outputs : (place + 1) * outputs]
        s = mine.T @ mine / rows
        # The damped problem is a plain one with a row more for each column.
        stacked = torch.cat([wide / len(wide) ** 0.5, torch.diag(extra.sqrt())])
        wanted = stacked @ part.T
        kept = [column for column in range(wide.shape[1]) if column not in gone]
        solution = torch.linalg.lstsq(stacked[:, kept], wanted, driver="gelsd").solution
        error = stacked[:, kept] @ solution - wanted
        total += float((error @ s * error).sum()) / 2
    return total


CASES: dict[str, tuple[Any, tuple[int, ...], dict[str, dict[str, Any]]]] = {
    "mlp": (lambda: mlp(3, 6, 5, 2), (3,), {"0": {"2": lambda u: [u]}, "2": {"4": lambda u: [u]}}),
    "flattened channels": (
        lambda: unit_gain(Flat()), (2, 6, 6),
        {"conv1": {"conv2": lambda u: range(9 * u, 9 * u + 9)}, "conv2": {"fc1": lambda u: range(4 * u, 4 * u + 4)}},
    ),
    "residual": (
        lambda: unit_gain(Residual()), (2, 5, 5),
        {"a1": {"a2": lambda u: range(9 * u, 9 * u + 9)},
         "stem": {"a1": lambda u: range(9 * u, 9 * u + 9), "b1": lambda u: [u], "fc": lambda u: [u]}},
    ),
    "several consumers": (
        lambda: unit_gain(TwoReaders()), (3,), {"hidden": {"left": lambda u: [u], "right": lambda u: [u]}},
    ),
    "grouped, strided": (
        lambda: nn.Sequential(*conv_pair(groups=2, padding=1, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        (2, 5, 5), {"0": {"2": lambda u: range(9 * u, 9 * u + 9)}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_scores_are_what_dense_least_squares_loses(name: str) -> None:
    """The least score is the least cost of all, and each next one what the loss of the best fit rises by."""
    make, shape, readers = CASES[name]
    model = make().double()
    wide = model(torch.randn(1, *shape, dtype=torch.float64)).shape[1]
    data = values(40, *shape, out=wide, batch=16)
    found = dh.score(model, data, loss=absolute, criterion="obs")
    for group, consumers in readers.items():
        order = found[group].argsort().tolist()

        def spent(units: list[int], consumers: dict[str, Any] = consumers) -> float:
            return sum(
                cost(model, module, data, [c for u in units for c in which(u)], absolute)
                for module, which in consumers.items()
            )

        first = [spent([unit]) for unit in range(len(order))]
        assert float(found[group].min()) == pytest.approx(min(first), rel=1e-5, abs=1e-12)
        assert first[order[0]] == pytest.approx(min(first), rel=1e-5, abs=1e-12)
        before, highest = first[order[0]], first[order[0]]
        for step in range(1, len(order) - 1):
            now = spent(order[: step + 1])
            highest = max(highest, now - before)
            assert float(found[group][order[step]]) == pytest.approx(highest, rel=1e-4, abs=1e-10)
            before = now


def test_curvature_at_outputs_is_the_gauss_newton_matrix() -> None:
    model, data = mlp(3, 5, 4).double(), [(x, t) for x, t in classes(4000, 3, count=4)]
    network = dh.trace(model, data[0][0][:2])
    found = output_curvatures(Gates(network, as_loss("cross_entropy")), {"2.weight": 1}, read(data))["2.weight"][0]
    p = model(data[0][0]).softmax(1).detach()
    expected = (torch.diag_embed(p) - p[:, :, None] * p[:, None, :]).mean(0)
    assert float((found - expected).abs().max()) < 0.03
    root = root_of(found)
    torch.testing.assert_close(root.T @ root, found, rtol=1e-9, atol=1e-12)


def test_front_to_back_beats_choosing_once() -> None:
    """On a network with learned weights: chosen and fitted front to back, half of it loses less than by mrs."""
    torch.manual_seed(0)
    x = torch.randn(1200, 8)
    t = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2:5].sum(1) > 0).long()
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(250):
        optimizer.zero_grad()
        F.cross_entropy(model(x[:800]), t[:800]).backward()
        optimizer.step()
    test = [(x[800:], t[800:])]
    losses = {
        criterion: dh.prune(
            model, [(x[:800], t[:800])], loss="cross_entropy", units=0.4, criterion=criterion, test=test
        ).report.after.loss
        for criterion in ("obs", "mrs", "magnitude", "random")
    }
    assert losses["obs"] < losses["mrs"]
    assert losses["obs"] < 0.7 * min(losses["magnitude"], losses["random"])


def test_units_that_nothing_linear_reads_are_judged_by_their_derivatives() -> None:
    class Squares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.gate = nn.Linear(3, 5), nn.Linear(3, 5)

        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("nk,nk->n", self.enter(x), self.gate(x))[:, None]

    model, data = unit_gain(Squares()).double(), values(3000, 3, out=1)
    found = dh.score(model, data, loss="squared_error", criterion="obs")
    x, _ = data[0]
    product = (model.enter(x) * model.gate(x)).detach()
    ((name, scores),) = found.items()
    # The curvature of squared error is one, and d/dalpha of (alpha a)(alpha b) at 1 is 2 a b.
    ratio = scores / (0.5 * (2 * product).square().mean(0))
    assert name == "enter"
    assert 0.8 < float(ratio.min()) <= float(ratio.max()) < 1.2  # one draw of a target for each row
    order = dh.prune(model, data, loss="squared_error", units=3).plan
    assert order.count == 2


def test_groups_in_passes_of_their_own_score_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = unit_gain(Flat()).double(), [(x.double(), t) for x, t in classes(30, 2, 6, 6, count=4)]
    together = dh.score(model, data, loss="cross_entropy", criterion="obs")
    passes = []
    original = obs.grams
    monkeypatch.setattr(obs, "STATISTICS_BYTES", 1)
    monkeypatch.setattr(obs, "grams", lambda *args: passes.append(1) or original(*args))
    apart = dh.score(model, data, loss="cross_entropy", criterion="obs")
    assert len(passes) == len(apart) == 3
    for name, value in together.items():
        torch.testing.assert_close(apart[name], value, rtol=1e-9, atol=0)


def test_many_outputs_are_weighed_by_a_diagonal(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = mlp(3, 5, 4).double(), [(x, t) for x, t in classes(50, 3, count=4)]
    network = dh.trace(model, data[0][0][:2])
    gates, batches = Gates(network, as_loss("cross_entropy")), read(data)
    full = output_curvatures(gates, {"2.weight": 1}, batches)["2.weight"]
    monkeypatch.setattr(output_curvature, "MOST_OUTPUTS", 3)
    diagonal = output_curvatures(gates, {"2.weight": 1}, batches)["2.weight"]
    torch.testing.assert_close(diagonal, full.diagonal(dim1=1, dim2=2))
    scores = dh.score(network, data, loss="cross_entropy", criterion="obs")["0"]
    assert scores.shape == (5,)
    assert (scores > 0).all()


def test_without_an_output_weight_all_errors_of_outputs_count_alike() -> None:
    model, data = mlp(3, 6, 5, 2).double(), [(x.double(), t) for x, t in classes(60, 3)]
    options: dict[str, Any] = {"loss": "cross_entropy", "criterion": "obs", "output_weight": "none"}
    found = dh.score(model, data, **options)["2"]

    reader = model[4]
    a = torch.cat([patches(reader, each)[0] for each in inputs_of(model, "4", data)])
    wide = torch.cat([a, torch.ones(len(a), 1, dtype=a.dtype)], 1)
    extra = SCORE_DAMPING * a.square().mean(0).mean() * torch.ones(wide.shape[1], dtype=a.dtype)
    extra[-1] = 1e-12
    stacked = torch.cat([wide / len(wide) ** 0.5, torch.diag(extra.sqrt())])
    weight = torch.cat([reader.weight.detach(), torch.zeros(2, 1, dtype=a.dtype)], 1)
    least = []
    for unit in range(5):
        kept = [column for column in range(6) if column != unit]
        solution = torch.linalg.lstsq(stacked[:, kept], stacked @ weight.T, driver="gelsd").solution
        least.append(float((stacked[:, kept] @ solution - stacked @ weight.T).square().sum()) / 2)
    assert float(found.min()) == pytest.approx(min(least), rel=1e-6)
    assert int(found.argmin()) == least.index(min(least))
    with pytest.raises(dh.DataError, match="output_weight"):
        dh.score(model, data, **{**options, "output_weight": "all"})
