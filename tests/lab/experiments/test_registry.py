"""Experiments are found by name, and run with their settings alone."""

from __future__ import annotations

import pytest

from deadhead.errors import DeadheadError
from deadhead.lab.experiments import EXPERIMENTS, run_experiment
from deadhead.lab.findings.rows import ROWS, WITHOUT_CLAIM, row_of


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


CLAIMS = {
    "A": (1, 2, 4, 3, 8, 4, 4),
    "B": (2, 1, 2, 2, 1, 2, 2, 1),
    "C": (1, 1, 3, 2, 5, 3),
    "D": (3, 1, 1, 4, 12, 7, 1, 5, 2, 1, 1),
    "E": (1, 0, 10, 2, 4, 14, 2, 3, 17, 4, 2, 1, 0),
    "F": (3, 2, 1, 0, 1),
}
"""How many claims the documents make of each row."""


def test_every_claim_of_the_documents_is_judged_once() -> None:
    found = sorted(claim.id for name in EXPERIMENTS for claim in EXPERIMENTS[name].claims)
    wanted = [
        f"{letter}{row}.{number}"
        for letter, counts in CLAIMS.items()
        for row, count in enumerate(counts, 1)
        for number in range(1, count + 1)
    ]
    assert found == sorted(wanted)
    assert len(wanted) == 159
    assert {row for row in ROWS if not any(row_of(claim) == row for claim in wanted)} == set(WITHOUT_CLAIM)


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
