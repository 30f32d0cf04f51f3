"""What was measured is written: JSON lines while it runs, JSON and a picture at the end, TensorBoard on request."""

from __future__ import annotations

import builtins
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deadhead as dh
from deadhead.files import append_line
from deadhead.training.watching.events import UNITS_SHOWN
from deadhead.training.watching.history import SERIES, History, Measured, Record, read_history
from deadhead.training.watching.watch import Watch, watch
from support.networks import Flat, classes, mlp, unit_gain, values


def train(steps: int = 4, model: nn.Module | None = None, **options: Any) -> Watch:
    model = mlp(2, 4, 2) if model is None else model
    data = values(6, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, data=data, loss="mse", every=2, mrp_every=2, **options) as seen:
        for _ in range(steps):
            optimizer.zero_grad()
            F.mse_loss(model(data[0][0]), data[0][1]).backward()
            optimizer.step()
    return seen


def assert_same(found: History, expected: History) -> None:
    assert found.steps == expected.steps
    torch.testing.assert_close(torch.tensor(found.loss), torch.tensor(expected.loss), equal_nan=True, rtol=0, atol=0)
    for name in expected.groups:
        for series in SERIES:
            one, other = found.series(name, series), expected.series(name, series)
            torch.testing.assert_close(one, other, equal_nan=True, rtol=0, atol=0)
        for one, other in zip(found.records, expected.records, strict=True):
            a, b = one.groups[name], other.groups[name]
            assert (list(a.dead), list(a.frozen), dict(a.causes)) == (list(b.dead), list(b.frozen), dict(b.causes))
            assert dict(a.thresholds) == dict(b.thresholds)


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    model = mlp(2, 4, 2)
    with torch.no_grad():
        model[2].weight[:, 1] = 0
    seen = train(model=model)
    seen.save(tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"history.json", "units.png"}
    assert (tmp_path / "new" / "units.png").read_bytes().startswith(b"\x89PNG")
    back = read_history(tmp_path / "new" / "history.json")
    assert_same(back, seen.history)
    assert torch.equal(back.histograms("0")[2], seen.history.histograms("0")[2])
    assert len(json.loads((tmp_path / "new" / "history.json").read_text())) == 3, "one record a line, and plain JSON"


def test_a_line_of_json_is_appended_at_each_measurement(tmp_path: Path) -> None:
    path = tmp_path / "run" / "history.jsonl"
    model, data = mlp(2, 4, 2), values(6, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, data=data, loss="mse", every=1, folder=tmp_path / "run") as seen:
        for step in range(3):
            lines = path.read_text().splitlines()
            assert [json.loads(line)["step"] for line in lines] == list(range(step + 1))
            optimizer.step()
    assert_same(read_history(path), seen.history)
    first = json.loads(path.read_text().splitlines()[0])
    assert first["groups"]["0"]["incoming_gradient"] == [None] * 4, "what was not measured is null"
    assert set(first["groups"]["0"]) >= {*SERIES, "histograms", "dead", "frozen", "causes", "thresholds"}


SCRIPT = """
import os, sys, torch
import torch.nn.functional as F
from torch import nn
from deadhead.training.watching.watch import watch
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
x = torch.randn(8, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with watch(model, optimizer, data=[(x, x[:, :1])], loss="mse", every=1, folder=sys.argv[1]) as seen:
    for step in range(10):
        if step == 3:
            os._exit(9)
        F.mse_loss(model(x), x[:, :1]).backward()
        optimizer.step()
"""


def test_a_killed_run_leaves_what_it_had(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], check=False)
    assert done.returncode == 9
    assert read_history(tmp_path / "history.jsonl").steps == [0, 1, 2, 3]


def test_a_line_that_was_cut_short_is_left_out_and_the_next_starts_anew(tmp_path: Path) -> None:
    path, history = tmp_path / "history.jsonl", train().history
    append_line(path, history.records[0].line())
    with path.open("a") as file:
        file.write(history.records[1].line()[:40])
    assert read_history(path).steps == [0]
    append_line(path, history.records[2].line())
    assert read_history(path).steps == [0, 4]


def test_a_step_that_was_measured_again_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    for step, loss in ((0, 3.0), (50, 2.0), (100, 1.5), (50, 2.1)):
        append_line(path, Record(step, loss, {}).line())
    history = read_history(path)
    assert (history.steps, history.loss) == ([0, 50, 100], [3.0, 2.1, 1.5])


@pytest.mark.parametrize("text", ["hello\n", '{"a": 1}\n', "[1, 2]\n"])
def test_a_file_that_is_no_history_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(dh.LoadError, match=r"other\.json is no history"):
        read_history(tmp_path / "other.json")


def test_only_so_many_measurements_hold_histograms() -> None:
    history = History()
    seen = train(0).history.records[0].groups["0"]
    for step in range(300):
        history.add(Record(step, 0.0, {"0": Measured(seen.values, dict(seen.histograms))}))
    steps = history.histograms("0")[0]
    assert len(steps) <= 64
    assert steps[0] == 0
    assert steps[-1] == 299
    assert len(history.series("0", "mrs")) == 300


def test_what_the_history_does_not_have_is_named() -> None:
    history = train().history
    with pytest.raises(dh.DataError, match="no group 'conv9'; it has: 0"):
        history.series("conv9", "mrs")
    with pytest.raises(dh.DataError, match="no series 'mrx'; the series are mrp, mrs"):
        history.series("0", "mrx")
    with pytest.raises(dh.DataError, match="no histograms 'middle'"):
        history.histograms("0", "middle")


def test_the_figure_has_a_panel_for_each_series_and_a_line_for_each_unit() -> None:
    model, data = unit_gain(Flat()), classes(12, 2, 6, 6, count=4)
    with torch.no_grad():
        model.norm.bias[2] = -100
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, data=data, loss="cross_entropy", every=1) as seen:
        optimizer.step()
    drawn = seen.figure(units={"conv1": [0, 2], "fc1": [1, 3, 4, 6]})
    panels = {axes.get_title(): axes for axes in drawn.axes[:7]}
    assert [title.split("\n")[0] for title in panels] == [
        "Mean replacement", "Mean replacement", "Gradient at the output", "Incoming weights", "Outgoing weights",
        "Incoming weights'", "Loss on the probe",
    ]  # fmt: skip
    assert all(axes.get_xlabel() == "optimizer steps" for axes in panels.values())
    lines = drawn.axes[1].get_lines()
    assert [line.get_label() for line in lines] == ["0", "2 (dead)"]
    expected = seen.history.series("conv1", "mrs")
    for unit, line in zip((0, 2), lines, strict=True):
        assert list(line.get_ydata()) == expected[:, unit].tolist()
        assert list(line.get_xdata()) == [0, 1]
    titles = [axes.get_title() for axes in drawn.axes]
    assert "Unit 2: raw output" in titles
    assert "Unit 2: what consumers read" in titles
    assert len(drawn.axes[15].get_lines()) == 4
    with pytest.raises(dh.DataError, match="no unit 9 to draw"):
        seen.figure(units={"fc1": [9]})
    default = seen.figure()
    labels = [line.get_label() for line in default.axes[1].get_lines()]
    assert "2 (dead)" in labels
    assert len(labels) == 6
    import matplotlib.pyplot as plt

    assert not plt.get_fignums(), "the figure belongs to no window"


def test_tensorboard_has_scalars_and_histograms_of_each_unit(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = train(tensorboard=tmp_path)
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0, "scalars": 0})
    events.Reload()
    for name in ("mrs", "mrp", "outgoing"):
        series = seen.history.series("0", name)
        for unit in range(4):
            found = events.Scalars(f"{name}/0/{unit}")
            there = series[:, unit].isfinite()
            assert [each.step for each in found] == [s for s, ok in zip(seen.history.steps, there, strict=True) if ok]
            assert [each.value for each in found] == pytest.approx(series[there, unit].tolist(), rel=1e-6)
    assert [each.value for each in events.Scalars("loss")] == pytest.approx(seen.history.loss, rel=1e-6)
    assert [each.value for each in events.Scalars("dead/0")] == [0, 0, 0]
    held = events.Histograms("output/0/2")
    assert [each.step for each in held] == [0, 2, 4]
    assert held[0].histogram_value.num == 6


def test_of_a_wide_group_the_first_units_are_shown_or_those_chosen() -> None:
    class Writer:
        def __init__(self) -> None:
            self.tags: set[str] = set()

        def add_scalar(self, tag: str, *_: Any) -> None:
            self.tags.add(tag)

        def add_histogram_raw(self, tag: str, **_: Any) -> None:
            self.tags.add(tag)

        def flush(self) -> None:
            pass

        def close(self) -> None:
            raise AssertionError("the caller's writer is not closed")

    first, chosen = Writer(), Writer()
    train(model=mlp(2, 20, 2), tensorboard=first)
    train(model=mlp(2, 20, 2), tensorboard=chosen, units={"0": [3, 19]})

    def shown(writer: Writer) -> list[int]:
        return sorted(int(tag.rpartition("/")[2]) for tag in writer.tags if tag.startswith("mrs/"))

    assert shown(first) == list(range(UNITS_SHOWN))
    assert shown(chosen) == [3, 19]
    assert {tag for tag in chosen.tags if tag.startswith("read/")} == {"read/0/3", "read/0/19"}


def test_a_missing_tensorboard_is_named_before_training_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith(("torch.utils.tensorboard", "tensorboard")):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(dh.DataError, match=r"needs the package tensorboard.*pip install tensorboard"):
        train(tensorboard=tmp_path)
    monkeypatch.undo()
    with pytest.raises(dh.DataError, match=r"tensorboard is a folder or .*SummaryWriter, not a int"):
        train(tensorboard=3)


def test_the_penalty_is_left_out_by_itself_where_it_takes_too_many_passes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("deadhead.training.watching.measuring.MRP_UNITS", 3)
    caplog.set_level(logging.WARNING, "deadhead")
    seen = train()
    assert seen.history.series("0", "mrp").isnan().all()
    assert [record.message for record in caplog.records] == [
        "The mean replacement penalty takes a pass for each of 4 units and is left out: choose units= "
        "(at most 3 in all), or call measure(mrp=True)."
    ]
    seen.measure(mrp=True)
    assert seen.history.series("0", "mrp")[-1].isfinite().all()
