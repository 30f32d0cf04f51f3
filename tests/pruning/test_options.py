"""Options: what is misspelt is named, with what was probably meant."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import deadhead as dh
from deadhead.pruning.options import Options

MODEL = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
DATA = [(torch.zeros(8, 2), torch.zeros(8, dtype=torch.int64))]


@pytest.mark.parametrize(
    ("given", "meant"),
    [("criteria", "criterion"), ("compensation", "compensate"), ("parms", "params"), ("tests", "test")],
)
def test_an_argument_that_is_misspelt_is_not_taken_for_a_budget(given: str, meant: str) -> None:
    with pytest.raises(dh.BudgetError, match=f"no budget '{given}', and no argument.*did you mean '{meant}'"):
        dh.prune(MODEL, DATA, loss="cross_entropy", units=0.5, **{given: 1})  # type: ignore[arg-type]


def test_an_option_of_a_score_that_is_misspelt_lists_those_there_are() -> None:
    with pytest.raises(
        dh.DataError, match="criterion mrs has no option 'referense'; its options are reference, baseline"
    ):
        dh.score(MODEL, DATA, loss="cross_entropy", criterion="mrs", referense="zero")


def test_options_are_values_that_are_checked_when_they_are_made() -> None:
    assert Options(units=0.5) == Options(units=0.5, only=[])
    assert Options(units=0.5, exclude="conv*").exclude == ("conv*",)
    with pytest.raises(dh.DataError, match="no option 'steps'; it has none"):
        Options(units=0.5, compensate="mean", compensate_options={"steps": 3})
    assert Options(units=0.5, compensate_options={"steps": 3}).compensate_options == {"steps": 3}
    between = Options(units=0.5, rounds=3)
    assert (between.compensate_between, between.chooses_front_to_back) == ("least_squares", False)
    assert Options(units=0.5).chooses_front_to_back
