"""Jobs: what a plan expands to, that a killed run goes on, and that processes do not change numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deadhead.errors import DeadheadError
from deadhead.lab.experiments import EXPERIMENTS
from deadhead.lab.runner import jobs_of, read_plan, run_jobs
from deadhead.lab.runner.cluster import run_on_cluster
from deadhead.lab.runner.configuration import plan
from deadhead.lab.runner.jobs import source_of
from support.quick import each_of

SMALL = {"points": 50, "epochs": 1, "networks": 10, "paths": 8, "flips": 4, "draws": 2, "grid": 5}


def test_a_file_expands_lists_and_ranges_and_evaluates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("experiment: circle\nseeds: range(3)\noptions:\n  networks: [10, 20]\n  epochs: range(1, 3)\n")
    found = read_plan(path, {"points": 9})
    assert [(each["networks"], each["epochs"]) for each in found.options] == [(10, 1), (10, 2), (20, 1), (20, 2)]
    assert {each["points"] for each in found.options} == {9}
    assert found.seeds == (0, 1, 2)
    assert len(jobs_of(found, tmp_path)) == 12
    path.write_text("experiment: circle\nseeds: __import__('os').getpid()\n")
    with pytest.raises(DeadheadError, match="give how many"):
        read_plan(path)
    path.write_text("experiment: !!python/object/apply:os.getpid []\n")
    with pytest.raises(DeadheadError, match="cannot be read as YAML"):
        read_plan(path)
    path.write_text("experiment: circle\nsedes: 3\n")
    with pytest.raises(DeadheadError, match="unknown entry 'sedes': use experiment, seeds, quick, options, cluster"):
        read_plan(path)
    path.write_text("experiment: circle\ncluster: {executor: debug, timeout_min: 2}\n")
    assert read_plan(path).cluster == {"executor": "debug", "timeout_min": 2}
    path.write_text("experiment: circle\noptions: {netwroks: 3}\n")
    with pytest.raises(DeadheadError, match="no option 'netwroks'; its options are units, points"):
        read_plan(path)


def test_a_list_is_one_value_of_an_option_that_is_a_list() -> None:
    assert [each["factors"] for each in plan("consistency", {"factors": [1.0, 2.0]}).options] == [[1.0, 2.0]]
    assert [each["factors"] for each in plan("consistency", {"factors": [[1.0], [2.0]]}).options] == [[1.0], [2.0]]


def test_a_killed_run_goes_on_and_finished_jobs_are_not_run_again(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    entry, ran = EXPERIMENTS["circle"], []

    def dies_once(settings, seed, progress):  # type: ignore[no-untyped-def]
        ran.append(seed)
        if ran == [0, 1]:
            raise KeyboardInterrupt
        return entry.function(settings, seed, progress)

    whole = run_jobs(jobs_of(plan("circle", SMALL, seeds=3), tmp_path / "whole"))
    monkeypatch.setitem(EXPERIMENTS._entries, "circle", replace(entry, function=dies_once))
    jobs = jobs_of(plan("circle", SMALL, seeds=3), tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs)
    assert [job.record() is not None for job in jobs] == [True, False, False]
    again = run_jobs(jobs)
    assert ran == [0, 1, 1, 2]
    assert [each["results"] for each in again] == [each["results"] for each in whole]


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    found = plan("circle", SMALL, seeds=2)
    seen = set()
    one = run_jobs(jobs_of(found, tmp_path / "one"))
    two = run_jobs(
        jobs_of(found, tmp_path / "two"), processes=2, progress=lambda label, *_: seen.add(label.partition(":")[0])
    )
    assert [each["results"] for each in one] == [each["results"] for each in two]
    assert len(seen) == 2


def test_variants_are_run_beside_the_defaults_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(EXPERIMENTS["circle"], variants={"few": {"points": 9}})
    monkeypatch.setitem(EXPERIMENTS._entries, "circle", entry)
    (few,) = plan("circle", seeds=2).variants().values()
    assert (few.options, few.seeds) == (({"points": 9},), (0, 1))
    assert not plan("circle", quick=True).variants()
    assert not plan("circle", {"epochs": 1}).variants()


def test_a_job_is_run_again_when_the_experiments_code_has_changed_but_not_its_texts(tmp_path: Path) -> None:
    sources = {
        "same": 'def f():\n    "A text."\n    return 1  # a note\n',
        "other": "def f():\n    return 2\n",
        "first": "def f():\n    return 1\n",
    }
    found = {}
    for name, text in sources.items():
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        space: dict[str, object] = {}
        exec(compile(text, str(path), "exec"), space)
        found[name] = source_of(replace(EXPERIMENTS["circle"], function=space["f"]))
    assert found["first"] == found["same"] != found["other"]
    (job,) = jobs_of(plan("circle", SMALL), tmp_path)
    (record,) = run_jobs([job])
    assert job.record() == record
    (job.place / "result.json").write_text(json.dumps({**record, "source": "before"}))
    assert job.record() is None


def test_a_record_says_where_it_comes_from_and_a_failed_job_where_to_read(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (job,) = jobs_of(plan("circle", SMALL), tmp_path)
    (record,) = run_jobs([job])
    assert record["settings"]["networks"] == 10
    assert record["seed"] == 0
    assert {"deadhead", "torch", "numpy", "python"} == set(record["versions"])
    last = json.loads((job.place / "progress.jsonl").read_text().splitlines()[-1])
    assert last["done"] == last["total"]

    def fails(settings, seed, progress):  # type: ignore[no-untyped-def]
        raise ValueError("no luck")

    monkeypatch.setitem(EXPERIMENTS._entries, "circle", replace(EXPERIMENTS["circle"], function=fails))
    (other,) = jobs_of(plan("circle", SMALL, seeds=[4]), tmp_path)
    with pytest.raises(DeadheadError, match=r"ValueError: no luck\): .*error\.txt has the traceback"):
        run_jobs([other])
    assert "no luck" in (other.place / "error.txt").read_text()


@pytest.mark.parametrize("executor", each_of(["debug", "local"], ["debug"]))
def test_a_cluster_gives_the_same_numbers(tmp_path: Path, executor: str) -> None:
    pytest.importorskip("submitit")
    found = plan("circle", SMALL, seeds=2)
    here = run_jobs(jobs_of(found, tmp_path / "here"))
    there = run_on_cluster(jobs_of(found, tmp_path / "there"), tmp_path / "logs", executor=executor, timeout_min=2)
    assert [each["results"] for each in here] == [each["results"] for each in there]
