from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from deadhead.cut.surgery import Surgery
from deadhead.pruning.pruned import Pruned
from deadhead.pruning.record import GroupRecord, Point, PredictedPoint, Report
from deadhead.report import write
from deadhead.select.plan import plan_of

# The package re-exports the function under the module's own name.
module = importlib.import_module("deadhead.report.write")


def strictly(path: Path) -> dict[str, Any]:
    """What a parser reads that knows no NaN and no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    return found


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

    found = strictly(write(report, tmp_path)[1])
    assert found["groups"][0]["saliency"] == [None, None, 2.0]
    assert found["difference"] is None
    assert found["settings"] == {"path": "a/b", "set": [1, None]}


def test_a_pruned_network_is_saved_with_the_same_valid_json(report_of: Callable[..., Report], tmp_path: Path) -> None:
    group = GroupRecord("g", "channel", 2, [0], [float("nan"), float("inf")], [])
    point = Point(2, 0, 0, float("nan"), float("-inf"))
    report = report_of(groups=[group], curve=[point], predicted_curve=[PredictedPoint(2, 0, 0, float("inf"))])
    Pruned(nn.Linear(1, 1), plan_of([]), report, Surgery({}, [], {}, [])).save(tmp_path / "saved")
    found = strictly(tmp_path / "saved" / "report.json")
    assert found["groups"][0]["saliency"] == [None, None]
    assert (found["curve"][0]["loss"], found["predicted_curve"][0]["loss"]) == (None, None)
    assert (tmp_path / "saved" / "report.json").read_text() == write(report, tmp_path)[1].read_text()


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
