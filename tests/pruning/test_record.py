"""The report of a prune has what was measured and what was predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import deadhead as dh
from deadhead.data.calibration import calibrate, read
from support.networks import Flat, Residual, classes, mlp, unit_gain
from support.references import accuracy, entropy

FAST: dict[str, Any] = {"loss": "cross_entropy", "criterion": "magnitude", "units": 0.5}
DATA = classes(24, 2, 5, 5)


def residual() -> nn.Module:
    return unit_gain(Residual())


def test_the_report_has_what_was_measured() -> None:
    model = residual()
    test = classes(11, 2, 5, 5, seed=3)
    pruned = dh.prune(model, DATA, loss="cross_entropy", units=0.5, exclude="b1", test=test, seed=4)
    report = pruned.report
    assert (report.model, report.budget, report.criterion) == ("Residual", "units=0.5", "obs")
    assert (report.compensation, report.loss_name) == ("gauss_newton", "cross_entropy")
    assert (report.evaluated_on, report.rows, report.calibration_rows) == ("test", 11, 24)
    assert report.before.parameters == sum(p.numel() for p in model.parameters())
    assert report.after.parameters == sum(p.numel() for p in pruned.model.parameters())
    assert (report.before.units, report.after.units) == (15, 10)
    assert report.before.loss == pytest.approx(entropy(model, test), rel=1e-10)
    assert report.after.loss == pytest.approx(entropy(pruned.model, test), rel=1e-10)
    assert report.after.accuracy == pytest.approx(accuracy(pruned.model, test), rel=1e-6)
    assert 0 < report.after.latency < 1
    assert report.after.latency_rows == 11
    assert [group.name for group in report.groups] == ["stem", "a1"]
    assert report.groups[0].consumers == ["a1", "b1", "fc"]
    assert report.groups[0].kind == "channel"
    assert dict(report.left_alone)["fc"] == "it is an output of the model"
    assert "b1" in dict(report.left_alone)
    assert "removes 5 of 10 in 2 groups" in report.headline
    assert report.settings["seed"] == 4
    assert all(seconds >= 0 for seconds in report.seconds.values())
    assert json.loads(json.dumps(report.to_dict()))["headline"] == report.headline


def test_multiply_adds_are_those_of_one_row_worked_out_by_hand() -> None:
    model = unit_gain(Flat())
    pruned = dh.prune(model, classes(24, 2, 6, 6, count=4), **FAST)

    def by_hand(c1: int, c2: int, f1: int) -> int:
        return 36 * 9 * 2 * c1 + 16 * 9 * c1 * c2 + 4 * c2 * f1 + f1 * 4

    assert pruned.report.before.macs == by_hand(6, 5, 7)
    assert pruned.report.after.macs == by_hand(3, 2, 4)


def test_the_size_on_disk_is_that_of_the_file(tmp_path: Path) -> None:
    pruned = dh.prune(residual(), DATA, **FAST)
    pruned.save(tmp_path)
    assert (tmp_path / "weights.safetensors").stat().st_size == pruned.report.after.bytes
    assert pruned.report.before.bytes > pruned.report.after.bytes


def test_without_a_test_set_the_held_out_rows_are_measured() -> None:
    model = residual()
    pruned = dh.prune(model, DATA, **FAST, seed=2)
    held = [(batch.inputs, batch.targets) for batch in calibrate(read(DATA), seed=2).held_out]
    assert pruned.report.evaluated_on == "held-out"
    assert pruned.report.rows == 5 == sum(len(y) for _, y in held)
    assert pruned.report.before.loss == pytest.approx(entropy(model, held), rel=1e-10)
    assert pruned.report.after.loss == pytest.approx(entropy(pruned.model, held), rel=1e-10)


def test_the_saliencies_are_those_of_the_rows_that_decide() -> None:
    model = residual()
    pruned = dh.prune(model, DATA, loss="cross_entropy", units=0.5, criterion="mrs")
    fit = [(batch.inputs, batch.targets) for batch in calibrate(read(DATA)).fit]
    expected = dh.score(model, fit, loss="cross_entropy")
    for group in pruned.report.groups:
        assert group.saliency == pytest.approx(expected[group.name].tolist(), rel=1e-10)


def test_the_predicted_loss_is_near_the_measured_one_for_small_changes() -> None:
    model = mlp(3, 12, 2)
    inputs = torch.randn(4000, 3, dtype=torch.float64)
    data = [(inputs, model(inputs).detach() + 0.3 * torch.randn(4000, 2, dtype=torch.float64))]
    for loss in ("mse", "squared_error"):
        pruned = dh.prune(model, data, loss=loss, units=8, compensate="mean", samples=4000)
        report = pruned.report
        assert report.predicted_loss is not None
        rise = report.after.loss - report.before.loss
        assert rise > 0.02
        assert report.predicted_loss - report.before.loss == pytest.approx(rise, rel=0.3)


def test_there_is_no_predicted_loss_where_the_loss_has_no_known_distribution() -> None:
    pruned = dh.prune(residual(), DATA, **{**FAST, "loss": lambda outputs, batch: outputs.square().sum(1)})
    assert pruned.report.predicted_loss is None
    assert pruned.report.loss_name == "<lambda>"
