"""Verification: a cut that is wrong is found, whatever it is, and nothing of the user's was touched by then."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from support.networks import Flat, Residual, classes, unit_gain
from support.snapshot import Unharmed

DATA = classes(24, 2, 5, 5)
FAST: dict[str, Any] = {"loss": "cross_entropy", "criterion": "magnitude", "units": 0.5}
Damage = Callable[[nn.Module], object]


def scale(model: nn.Module) -> None:
    model.a1.weight.data[0, 0, 1, 1] += 1e-3


def permute(model: nn.Module) -> None:
    model.fc.weight.data = model.fc.weight.data.flip(1)


def forget_statistics(model: nn.Module) -> None:
    model.norm.running_mean.zero_()


def forget_a_bias(model: nn.Module) -> None:
    model.b2.bias.data.zero_()


def not_a_number(model: nn.Module) -> None:
    model.fc.bias.data[0] = float("nan")


def other_output(model: nn.Module) -> None:
    model.fc.weight.data = model.fc.weight.data.repeat(2, 1)
    model.fc.bias.data = model.fc.bias.data.repeat(2)


def other_structure(model: nn.Module) -> None:
    model.fc.register_forward_hook(lambda module, args, output: (output, output))


DAMAGES = [scale, permute, forget_statistics, forget_a_bias, not_a_number, other_output, other_structure]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("inplace", [False, True])
def test_a_wrong_cut_raises_and_leaves_all_as_it_was(
    damage: Damage, inplace: bool, unharmed: Unharmed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = sys.modules["deadhead.pruning.steps"]
    model = unit_gain(Residual())
    right = path.cut

    def wrong(*args: Any, **kwargs: Any) -> nn.Module:
        smaller = right(*args, **kwargs)
        damage(smaller)
        return smaller

    monkeypatch.setattr(path, "cut", wrong)
    with unharmed(model, tmp_path, DATA[0][0]), pytest.raises(dh.CutError, match=r"differs from its gated original"):
        dh.prune(model, DATA, **FAST, inplace=inplace)


def test_a_right_cut_is_right_to_rounding() -> None:
    for model, data in ((unit_gain(Residual()), DATA), (unit_gain(Flat()), classes(24, 2, 6, 6, count=4))):
        for compensate in ("zero", "mean", "least_squares"):
            report = dh.prune(model, data, **FAST, compensate=compensate).report
            assert report.difference <= report.tolerance == 1e-10


def test_the_tolerance_is_that_of_the_models_precision() -> None:
    model = unit_gain(Residual()).float()
    report = dh.prune(model, [(DATA[0][0].float(), DATA[0][1])], **FAST).report
    assert report.difference <= report.tolerance == 1e-5


class Literal(nn.Module):
    """Its forward has a size written down, so its own group cannot be cut; the one behind can."""

    def __init__(self, wrong: bool) -> None:
        super().__init__()
        self.wrong = wrong
        self.first, self.second, self.last = nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        hidden = hidden / self.first.out_features if self.wrong else hidden.reshape(-1, 8)
        return self.last(torch.relu(self.second(hidden)))


@pytest.mark.parametrize("wrong", [False, True])
def test_a_group_whose_cut_fails_or_computes_something_else_is_left_whole_with_its_reason(wrong: bool) -> None:
    model = unit_gain(Literal(wrong))
    pruned = dh.prune(model, classes(24, 3), **FAST)
    assert pruned.model.first.out_features == 8
    assert pruned.model.second.out_features == 3
    reason = dict(pruned.report.left_alone)["first"]
    assert ("computes something else" if wrong else "fails") in reason
    assert [group.name for group in pruned.report.groups] == ["second"]


def test_where_nothing_can_be_cut_the_reasons_are_named(unharmed: Unharmed) -> None:
    model = unit_gain(Literal(False))
    with unharmed(model), pytest.raises(dh.CutError, match=r"Nothing in Literal can be cut: first: .*forward fails"):
        dh.prune(model, classes(24, 3), **FAST, only="first")
    plain = nn.Sequential(nn.Linear(3, 4), nn.LogSoftmax(1)).double()
    with unharmed(plain), pytest.raises(dh.CutError, match=r"Nothing in Sequential can be cut.*softmax"):
        dh.prune(plain, classes(24, 3), loss="cross_entropy", units=0.5)
    empty = nn.Flatten()
    with unharmed(empty), pytest.raises(dh.CutError, match=r"no group of units"):
        dh.prune(empty, classes(24, 3), loss="cross_entropy", units=0.5)
