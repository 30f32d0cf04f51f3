"""A run that is killed and resumed ends with the bits of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support.resumed import KILLED, STEPS, Run, killed


def same_bits(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return (
            first.shape == second.shape and first.dtype == second.dtype
            and bytes(first.numpy().tobytes()) == bytes(second.numpy().tobytes())
        )  # fmt: skip
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same_bits(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same_bits, first, second))
    return bool(first == second)


QUICK = [("end", "sgd"), ("as it goes", "adamw")]
CASES = [
    *QUICK,
    pytest.param("end", "adamw", marks=pytest.mark.exhaustive),
    pytest.param("as it goes", "sgd", marks=pytest.mark.exhaustive),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints of a process that was killed."""
    folder = tmp_path_factory.mktemp("killed")
    killed(folder, QUICK)
    return folder


@pytest.mark.parametrize(("cut", "optimizer"), CASES)
def test_a_run_killed_between_rounds_and_resumed_elsewhere_ends_with_the_same_bits(
    folder: Path, cut: str, optimizer: str
) -> None:
    whole = Run(cut, optimizer)
    whole.train(STEPS)
    if (cut, optimizer) not in QUICK:
        killed(folder, [(cut, optimizer)])
    resumed = Run(cut, optimizer)
    resumed.load(folder / f"{cut} {optimizer}.pt")
    assert resumed.gradual.steps == KILLED
    assert len(resumed.gradual.rounds) == 3
    resumed.train(STEPS)
    assert len(whole.gradual.rounds) == len(resumed.gradual.rounds) == 5
    for open_units in (False, True):
        expected, found = (run.seen(open_units=open_units) for run in (whole, resumed))
        assert expected["added"]
        for part in expected:
            assert same_bits(expected[part], found[part]), part
    first, second = (run.gradual.finish() for run in (whole, resumed))
    assert first.report.before.parameters == second.report.before.parameters
    assert first.plan.order == second.plan.order


def test_the_state_in_which_a_checkpoint_is_taken_is_the_one_it_gives_back(tmp_path: Path) -> None:
    run = Run("end", "adamw")
    run.train(KILLED)
    run.save(tmp_path / "checkpoint.pt")
    other = Run("end", "adamw")
    other.load(tmp_path / "checkpoint.pt")
    assert other.gradual.masks.closed == run.gradual.masks.closed != {}
    for open_units in (False, True):
        assert same_bits(run.seen(open_units=open_units), other.seen(open_units=open_units))
    assert run.gradual.masks.closed == {}


def test_without_the_state_of_the_masks_a_resumed_run_ends_elsewhere(tmp_path: Path) -> None:
    whole = Run("end", "sgd")
    whole.train(KILLED)
    whole.save(tmp_path / "checkpoint.pt")
    whole.train(STEPS)
    forgetful = Run("end", "sgd")
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    forgetful.model.load_state_dict(state["model"], strict=False)
    forgetful.gradual.steps = KILLED
    forgetful.train(STEPS)
    assert not same_bits(whole.model.state_dict(), forgetful.model.state_dict())
