"""`deadhead lab`: every experiment runs quickly, and shows what it found."""

from __future__ import annotations

import sys
from pathlib import Path

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


def test_all_experiments_run_quickly_and_show_what_they_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "run", "--all", "--quick", "--pages", "pages") == 0
    for name in EXPERIMENTS:
        assert (tmp_path / "pages" / f"{name}.md").exists()
        capsys.readouterr()
        assert run(monkeypatch, "show", name) == 0
        assert EXPERIMENTS[name].claims[0].id in capsys.readouterr().out
    assert "[circle](circle.md)" in (tmp_path / "pages/index.md").read_text()


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
