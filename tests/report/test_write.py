from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deadhead.pruning.record import GroupRecord, Report
from deadhead.report import write

# The package re-exports the function under the module's own name.
module = importlib.import_module("deadhead.report.write")


def test_json_round_trips(report_of: Callable[..., Report], tmp_path: Path) -> None:
    report = report_of()
    page, numbers = write(report, tmp_path / "new" / "folder")
    assert (page, numbers) == (tmp_path / "new/folder/report.html", tmp_path / "new/folder/report.json")
    found = json.loads(numbers.read_text(encoding="utf-8"))
    assert found.pop("headline") == report.headline
    assert found.pop("left_alone") == [list(pair) for pair in report.left_alone]
    expected = report.to_dict()
    del expected["headline"], expected["left_alone"]
    assert found == expected
    assert report.headline in page.read_text(encoding="utf-8")


def test_numbers_that_json_has_not_become_null(report_of: Callable[..., Report], tmp_path: Path) -> None:
    group = GroupRecord("g", "channel", 3, [0], [float("nan"), float("-inf"), 2.0], [])
    report = report_of(
        groups=[group], difference=float("nan"), settings={"path": Path("a/b"), "set": (1, float("inf"))}
    )

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    found = json.loads(write(report, tmp_path)[1].read_text(encoding="utf-8"), parse_constant=refuse)
    assert found["groups"][0]["saliency"] == [None, None, 2.0]
    assert found["difference"] is None
    assert found["settings"] == {"path": "a/b", "set": [1, None]}


def test_failed_rendering_leaves_the_folder_as_it_was(
    report_of: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(report_of(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(module, "render_page", lambda report: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(report_of(model="other"), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(ZeroDivisionError):
        write(report_of(), tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_failed_writing_leaves_no_part_of_a_file(
    report_of: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: object, target: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write(report_of(), tmp_path)
    assert list(tmp_path.iterdir()) == []
