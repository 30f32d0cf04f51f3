"""The experiment `regulariser`: wrong labels, and what holds at quick size."""

from __future__ import annotations

import torch

from deadhead.lab.experiments.regulariser.experiment import Regulariser, spoil, ways
from support.data import needs_data
from support.lab import drawn_all, quick


def test_spoiled_labels_are_wrong_evenly_over_the_other_classes() -> None:
    truth = torch.arange(10).repeat(2000)
    found = spoil(truth, 0.2, torch.Generator().manual_seed(0))
    wrong = found != truth
    assert int(wrong.sum()) == 4000
    shifts = ((found - truth) % 10)[wrong].bincount(minlength=10)
    assert shifts[0] == 0
    assert shifts[1:].min() > 350
    assert torch.equal(truth, torch.arange(10).repeat(2000))
    assert found.min() == 0
    assert found.max() == 9


def test_copies_end_at_the_sizes_of_the_settings() -> None:
    found = ways(Regulariser())
    assert list(found) == ["twin", "mrs, 0.2", "mrs, 0.4", "mrs", "obs", "random"]
    assert max(found["mrs, 0.4"].rounds) == 80
    assert found["mrs, 0.4"].rounds[80]["fc1"] == 39
    assert found["mrs"].rounds[100]["fc1"] == found["random"].rounds[100]["fc1"] == 26


@needs_data
def test_the_quick_run_memorises_wrong_labels_and_less_when_pruned() -> None:
    found = quick("regulariser")
    assert found["twin_fitted"] > 0.5
    assert found["mrs_parameters"] == 4019
    assert found["fitted_change"] <= 0.05
    assert found["gap_change"] < 0
    assert found["twin_gap"] > found["twin_test_loss"] - found["twin_train_loss"]  # spoiled labels are harder
    assert len(found["curves"]["twin"]) == len(found["epochs"])


@needs_data
def test_its_figures_draw() -> None:
    drawn_all("regulariser")
