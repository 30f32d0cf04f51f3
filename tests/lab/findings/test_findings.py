"""Pages and their index: verdicts and numbers come from results, and change with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deadhead.errors import DeadheadError
from deadhead.lab.experiment import Claim, Picture
from deadhead.lab.experiments import EXPERIMENTS
from deadhead.lab.findings import Found, filled, write_page
from deadhead.lab.findings.page import page
from deadhead.lab.judges import Share
from deadhead.lab.runner import jobs_of, run_jobs
from deadhead.lab.runner.configuration import plan

RECORD = {"seconds": 1.0, "settings": {"factor": 2.5}, "versions": {"torch": "2"}}


def records(*values: float) -> list[dict[str, object]]:
    return [{**RECORD, "results": {"gain": value, "curve": [value, 2 * value]}} for value in values]


def test_verdicts_of_a_page_change_with_its_results(tmp_path: Path) -> None:
    (record,) = run_jobs(jobs_of(plan("consistency"), tmp_path / "out"))
    text = write_page(Found("consistency", [record], "the command"), tmp_path).read_text()
    assert "Of 2 claims, judged on 1 seed, 1 held, 1 held in part and 0 did not hold." in text
    assert "1 held, 1 held in part and 0 did not hold" in (tmp_path / "index.md").read_text()
    other = {**record, "results": {**record["results"], "table_mismatches": 2, "scale_error": 1.0}}
    text = write_page(Found("consistency", [other], "the command"), tmp_path).read_text()
    assert "0 held, 1 held in part and 1 did not hold. Not confirmed: The gradient rule" in text
    assert "0 held, 1 held in part and 1 did not hold" in (tmp_path / "index.md").read_text()


def test_placeholders_are_filled_from_results_and_variants() -> None:
    results = [{"a": 1.0, "b": [1.0, 3.0], "c": {"d": 0.25}}, {"a": 2.0, "b": [1.0, 5.0], "c": {"d": 0.25}}]
    beside = {"longer": [{"a": 7.0}], "shorter": []}
    text = "{a} {b[1]} {b} {c.d:%} {a:mean} {c.d:mean%} {longer.a} {shorter.a}"
    assert filled(text, results, beside) == "1.5 (1 to 2) 4 (3 to 5) 2.5 (1 to 5) 25 % 1.5 25 % 7 (not run)"
    assert filled("{a}", [{"a": None}]) == "(no case)"
    with pytest.raises(DeadheadError, match=r"no result 'e' for the sentence 'So \{e\}': use one of a, b, c"):
        filled("So {e}", results)


def test_a_page_says_why_a_claim_fails_and_what_variants_say_and_the_index_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Claim("B3.1", "Here", "It gains.", "1", Share("gain", low=0), {"gain": 1}, {"gain": -1},
                  picture="gains", why="It has {gain:mean}, longer {longer.gain}.", variants=("longer",))  # fmt: skip
    pictures = (
        Picture("gains", "Gains.", (2, 2), lambda whole, results: whole.subplots().plot(results[0]["curve"])),
        Picture("film", "A film.", (2, 2), lambda whole, _, i: whole.subplots().plot([0, i]), frames=2),
    )
    entry = replace(EXPERIMENTS["consistency"], claims=(claim,), pictures=pictures,
                    takeaway="Gains are {gain:mean}.", variants={"longer": {"factor": 9.0}})  # fmt: skip
    monkeypatch.setitem(EXPERIMENTS._entries, "consistency", entry)
    found = Found("consistency", records(*[-1.0] * 5), "deadhead lab run consistency", {"longer": records(*[4.0] * 5)})
    files = page(found)
    assert sorted(files) == ["consistency-film.gif", "consistency-gains.png", "consistency.md"]
    assert files["consistency-film.gif"].startswith(b"GIF89a")  # type: ignore[arg-type]
    lines = write_page(found, tmp_path).read_text().splitlines()
    assert lines[2] == "Gains are -1."
    reason = [
        "### B3.1 does not hold: It gains.",
        "",
        "It has -1, longer 4.",
        "",
        "- longer (factor 9): gain 4: holds",
    ]
    assert lines[lines.index(reason[0]) :][:5] == reason
    index = (tmp_path / "index.md").read_text().splitlines()
    assert index[index.index(reason[0]) :][:5] == reason
    (row,) = [line for line in index if line.startswith("| B3.1 |")]
    assert "[gains](consistency-gains.png) | [consistency](consistency.md), 5 seeds and 1 variant" in row
    above = index[: index.index(row)][::-1]
    assert next(line for line in above if line.startswith("| **")).startswith("| **B3** |")
    held = Found("consistency", records(*[1.0] * 5), "deadhead lab run consistency")
    assert "Why not" not in write_page(held, tmp_path).read_text()
