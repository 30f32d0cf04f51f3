"""Experiments are found by name, and run with their settings alone."""

from __future__ import annotations

import pytest

from deadhead.errors import DeadheadError
from deadhead.lab.experiments import EXPERIMENTS, run_experiment
from deadhead.lab.findings.rows import ROWS, row_of


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_every_experiment_has_a_summary_a_seed_and_claims_that_name_what_exists(name: str) -> None:
    entry = EXPERIMENTS[name]
    assert entry.summary.endswith(".")
    assert entry.options["seed"] == 0
    assert len({claim.id for claim in entry.claims}) == len(entry.claims)
    assert len(entry.claims) + len(entry.pictures) > 0
    assert entry.read({}, quick=True) is not None
    for changed in entry.variants.values():
        entry.read(changed)
    for claim in entry.claims:
        assert claim.picture in {"", *(picture.name for picture in entry.pictures)}
        assert set(claim.variants) <= set(entry.variants)
        assert row_of(claim.id) in ROWS


def test_no_claim_is_judged_twice() -> None:
    claims = [claim.id for name in EXPERIMENTS for claim in EXPERIMENTS[name].claims]
    assert len(claims) == len(set(claims))


def test_an_experiment_gives_what_its_settings_say() -> None:
    found = run_experiment("consistency", factor=5)["scaling equivalence"]
    assert {each["scale"] for each in found if each["agree"]} == {1.0, 5.0}


def test_names_settings_and_types_that_do_not_exist() -> None:
    with pytest.raises(DeadheadError, match=r"no experiment 'circel'; did you mean 'circle'\?"):
        run_experiment("circel")
    with pytest.raises(DeadheadError, match="consistency has no option 'size'; its options are factor"):
        run_experiment("consistency", size=3)
    with pytest.raises(DeadheadError, match=r"networks of the experiment circle is 2\.5: give a whole number"):
        run_experiment("circle", networks=2.5)
    with pytest.raises(DeadheadError, match="give a number"):
        run_experiment("consistency", factors=[1, "two"])
