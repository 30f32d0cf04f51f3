"""Experiments are found by name, and run with their settings alone."""

from __future__ import annotations

import pytest

from deadhead.errors import DeadheadError
from deadhead.lab.experiments import EXPERIMENTS, run_experiment


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_every_experiment_has_a_summary_and_a_seed(name: str) -> None:
    entry = EXPERIMENTS[name]
    assert entry.summary.endswith(".")
    assert entry.options["seed"] == 0


def test_an_experiment_gives_what_its_settings_say() -> None:
    found = run_experiment("consistency", factor=5.0)["scaling equivalence"]
    assert {each["scale"] for each in found if each["agree"]} == {1.0, 5.0}


def test_names_and_settings_that_do_not_exist() -> None:
    with pytest.raises(DeadheadError, match="no experiment 'circel'; the experiments are consistency"):
        run_experiment("circel")
    with pytest.raises(DeadheadError, match="consistency has no option 'size'; its options are factor, seed"):
        run_experiment("consistency", size=3)
