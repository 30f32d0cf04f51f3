"""Error surfaces, mean saliency by position, thresholds of estimates, adjustments in training."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.scores.criterion import thresholded
from support.networks import Flat, classes, mlp, unit_gain
from support.references import inputs_of


def surface_by_hooks(
    model: nn.Module, data: list[tuple[Tensor, Tensor]], reader: str, columns: list[int], gains: Tensor
) -> Tensor:
    """The mean loss with some columns of what a module reads times each gain."""
    found = []
    for gain in gains.tolist():

        def scale(_: nn.Module, args: tuple[Tensor], gain: float = gain) -> Tensor:
            x = args[0].clone()
            x[:, columns] *= gain
            return x

        handle = model.get_submodule(reader).register_forward_pre_hook(scale)
        with torch.no_grad():
            found.append(torch.cat([F.cross_entropy(model(x), t, reduction="none") for x, t in data]).mean())
        handle.remove()
    return torch.stack(found)


@pytest.mark.parametrize(("group", "reader", "wide"), [("conv1", "conv2", 1), ("conv2", "fc1", 4), ("fc1", "fc2", 1)])
def test_a_surface_is_a_loop_over_gains(group: str, reader: str, wide: int) -> None:
    model = unit_gain(Flat()).double()
    data = [(x.double(), t) for x, t in classes(9, 2, 6, 6, count=4, batch=4)]
    gains = torch.tensor([0.0, 0.001, 0.5, 1.0, 1.7, 10.0], dtype=torch.float64)
    found = dh.error_surface(model, data, loss="cross_entropy", units=[(group, 1)], gains=gains)
    expected = surface_by_hooks(model, data, reader, list(range(wide, 2 * wide)), gains)
    torch.testing.assert_close(found[group, 1], expected, rtol=1e-10, atol=0)
    assert (expected - expected[3]).abs().max() > 1e-3


def test_the_documents_gains_are_the_default_and_zero_is_the_oracle() -> None:
    model, data = mlp(3, 4, 3).double(), [(x.double(), t) for x, t in classes(6, 3, count=3)]
    found = dh.error_surface(model, data, loss="cross_entropy")
    oracle = dh.score(model, data, loss="cross_entropy", criterion="oracle")["0"]
    assert list(found) == [("0", unit) for unit in range(4)]
    for (_, unit), curve in found.items():
        assert curve.shape == (10_001,)
        torch.testing.assert_close(curve[0] - curve[1000], oracle[unit], rtol=1e-9, atol=1e-12)
    coarse = dh.error_surface(model, data, loss="cross_entropy", gains=torch.linspace(0, 10, 101, dtype=torch.float64))
    torch.testing.assert_close(found["0", 2][::100], coarse["0", 2], rtol=1e-10, atol=0)


def test_a_surface_of_what_is_left() -> None:
    model, data = mlp(3, 5, 4, 3).double(), [(x.double(), t) for x, t in classes(8, 3, count=3)]
    gains = torch.tensor([0.0, 2.0], dtype=torch.float64)
    found = dh.error_surface(model, data, loss="cross_entropy", units=[("2", 0)], gains=gains, removed=[("0", 1)])
    with torch.no_grad():
        model[2].weight[:, 1] = 0
    expected = dh.error_surface(model, data, loss="cross_entropy", units=[("2", 0)], gains=gains)
    torch.testing.assert_close(found["2", 0], expected["2", 0], rtol=1e-10, atol=0)


@pytest.mark.parametrize("unit", [("0", 9), ("nowhere", 0), ("0", -1)])
def test_a_surface_of_no_unit_is_refused(unit: tuple[str, int]) -> None:
    with pytest.raises(dh.DataError, match=r"no unit .* of .*; the groups, and their sizes, are 0 \(4\)"):
        dh.error_surface(mlp(3, 4, 3), classes(6, 3, count=3), loss="cross_entropy", units=[unit])


def test_saliency_by_position_is_the_sum_of_absolute_values() -> None:
    model = unit_gain(Flat()).double()
    data = [(x.double(), t) for x, t in classes(9, 2, 6, 6, count=4, batch=4)]
    found = dh.score(model, data, loss="cross_entropy", criterion="mrs_positions")
    mean = torch.cat(inputs_of(model, "conv2", data)).mean((0, 2, 3))
    total = torch.zeros(len(mean), dtype=torch.float64)
    for x, t in data:
        held: list[Tensor] = []

        def keep(_: nn.Module, args: tuple[Tensor], held: list[Tensor] = held) -> Tensor:
            held.append(args[0].detach().requires_grad_())
            return held[0]

        handle = model.conv2.register_forward_pre_hook(keep)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), t, reduction="sum"), held)
        handle.remove()
        total += ((held[0].detach() - mean[None, :, None, None]) * gradient).abs().sum((0, 2, 3))
    torch.testing.assert_close(found["conv1"], total, rtol=1e-10, atol=1e-12)
    summed = dh.score(model, data, loss="cross_entropy", criterion="mrs")
    assert all((found[name] >= summed[name] - 1e-9).all() for name in found)


@pytest.mark.parametrize("by", ["mean", "median"])
def test_large_estimates_become_the_middle_of_all(by: str) -> None:
    values = {"a": torch.tensor([1.0, -2, 30]).double(), "b": torch.tensor([2.0, -90, 3, 9]).double()}
    everything = sorted([1.0, -2, 30, 2, -90, 3, 9])
    absolute = sorted(map(abs, everything))
    middle = everything[3] if by == "median" else sum(everything) / 7
    limit = 2 * (absolute[3] if by == "median" else sum(absolute) / 7)
    found = thresholded(values, by, 2.0, together=True)
    for name, value in values.items():
        expected = [middle if abs(each) > limit else each for each in value.tolist()]
        assert found[name].tolist() == pytest.approx(expected)
    alone = thresholded(values, by, 2.0, together=False)
    assert alone["b"].tolist() != found["b"].tolist()


def test_score_thresholds_what_it_found() -> None:
    model, data = mlp(3, 8, 6, 3), classes(12, 3)
    plain = dh.score(model, data, loss="cross_entropy", criterion="taylor2")
    found = dh.score(model, data, loss="cross_entropy", criterion="taylor2", threshold="median", threshold_at=1.5)
    expected = thresholded(plain, "median", 1.5, together=True)
    assert any((expected[name] != plain[name]).any() for name in plain)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    with pytest.raises(dh.DataError, match="must be mean, median or None"):
        dh.score(model, data, loss="cross_entropy", threshold="mode")


def test_the_units_that_training_moved_least_score_least() -> None:
    model = nn.Sequential(*unit_gain(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))))
    optimizer = torch.optim.Adam(model.parameters(), 0.02, weight_decay=0.1)
    data = classes(20, 1, 5, 5, count=2)
    moved = torch.zeros(4, dtype=torch.float64)
    with dh.watch(model, optimizer) as seen:
        for _ in range(5):
            before = model[0].weight.detach().clone()
            for x, t in data:
                optimizer.zero_grad()
                F.cross_entropy(model(x), t).backward()
                model[0].weight.grad[2] *= 0  # what stands still but for its decay
                optimizer.step()
            moved += (model[0].weight.detach() - before).abs().double().sum((1, 2, 3))
    optimizer.step()
    assert seen.steps == 5
    found = dh.score(model, data, loss="cross_entropy", criterion="gradient", adjustments=seen.adjustments)
    torch.testing.assert_close(found["0"], moved, rtol=1e-5, atol=1e-7)
    pruned = dh.prune(
        model, data, loss="cross_entropy", units=2, criterion="gradient",
        criterion_options={"adjustments": seen.adjustments},
    )  # fmt: skip
    assert pruned.plan.removed["0"].tolist() == sorted(moved.argsort()[:2].tolist())


def test_adjustments_of_another_network_are_refused() -> None:
    model, data = mlp(3, 8, 3), classes(12, 3)
    with pytest.raises(dh.DataError, match=r"needs adjustments=.*deadhead\.watch"):
        dh.score(model, data, loss="cross_entropy", criterion="gradient")
    adjustments = {"0.weight": torch.zeros(2, 2)}
    with pytest.raises(dh.DataError, match=r"0\.weight have shape \(2, 2\), the network's is \(8, 3\)"):
        dh.score(model, data, loss="cross_entropy", criterion="gradient", adjustments=adjustments)
    with pytest.raises(dh.DataError, match="holds no parameter of this model"):
        dh.watch(model, torch.optim.SGD(mlp(2, 2).parameters(), 0.1))
