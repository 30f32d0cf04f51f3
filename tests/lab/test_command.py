"""`deadhead lab`: runs experiments, and shows what they found."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deadhead.cli import main
from deadhead.lab.experiments import EXPERIMENTS


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["deadhead", "lab", *arguments])
    try:
        main()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def test_all_experiments_run_and_show_what_they_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    circle = EXPERIMENTS["circle"]
    # Every experiment has a quick run, and every figure is drawn, in its own tests.
    few = {"circle": replace(circle, pictures=circle.pictures[2:3]), "consistency": EXPERIMENTS["consistency"]}
    monkeypatch.setattr(EXPERIMENTS, "_entries", few)
    assert run(monkeypatch, "run", "--all", "--quick", "--pages", "pages") == 0
    for name in EXPERIMENTS:
        assert (tmp_path / "pages" / f"{name}.md").exists()
        capsys.readouterr()
        assert run(monkeypatch, "show", name) == 0
        assert EXPERIMENTS[name].claims[0].id in capsys.readouterr().out
    assert (tmp_path / f"pages/circle-{circle.pictures[2].name}.png").exists()
    assert "[circle](circle.md)" in (tmp_path / "pages/index.md").read_text()


def test_a_variant_stands_on_the_page_and_a_board_beside_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)
    entry = EXPERIMENTS["consistency"]
    claims = [
        replace(claim, why="Was {factor_mean} and {five.factor_mean}.", variants=("five",)) for claim in entry.claims
    ]

    def function(settings: Any, seed: int, progress: Any) -> dict[str, Any]:
        return {**entry.function(settings, seed, progress), "factor_mean": settings.factor}

    changed = replace(entry, function=function, claims=claims, variants={"five": {"factor": 5.0}})
    monkeypatch.setattr(EXPERIMENTS, "_entries", {"consistency": changed})
    assert run(monkeypatch, "run", "consistency", "--cluster", "debug", "--tensorboard") == 0
    assert len(list(tmp_path.glob("lab-results/consistency/*/seed-0/tensorboard/events*"))) == 2
    (page,) = tmp_path.glob("lab-results/consistency/*/consistency.md")
    assert "Was 3 and 5." in page.read_text()
    assert "- five (factor 5): " in page.read_text()
    assert "1 seed and 1 variant" in page.read_text()
    capsys.readouterr()
    opened = []
    monkeypatch.setattr("typer.launch", opened.append)
    assert run(monkeypatch, "show", "consistency", "--open") == 0
    assert opened == [str(page.relative_to(tmp_path))]


def test_what_cannot_be_run_or_shown_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "run") == 2
    assert "Name one experiment or a YAML file, or give --all" in " ".join(capsys.readouterr().err.split())
    assert run(monkeypatch, "show", "circle") == 2
    assert "has no results of circle" in " ".join(capsys.readouterr().err.split())
    assert run(monkeypatch, "run", "circle", "--seeds", "many") == 2
    assert "seeds is 'many'" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
