"""The page about the lab: its Python runs, its YAML is read, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from deadhead.cli.app import lab
from deadhead.lab.experiments import EXPERIMENTS
from deadhead.lab.runner import read_plan

PAGE = (Path(__file__).parents[2] / "docs/lab.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.S)


def test_its_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    exec(compile(blocks("python")[0], "lab.md", "exec"), {})
    torch.set_num_threads(threads)
    assert capsys.readouterr().out.startswith("More nodes, lower mean loss. ")


def test_its_file_is_a_plan(tmp_path: Path) -> None:
    path = tmp_path / "circle.yaml"
    path.write_text(blocks("yaml")[0])
    plan = read_plan(path, {"epochs": 5})
    assert [each["units"] for each in plan.options] == [10, 20, 40]
    assert plan.seeds == (0, 1, 2, 3, 4)
    assert plan.cluster["executor"] == "slurm"


def test_its_commands_exist() -> None:
    commands = [line.split() for block in blocks("sh") for line in block.splitlines()]
    known = {each.name for each in lab.registered_commands}
    for words in commands:
        assert words[:2] == ["deadhead", "lab"]
        assert words[2] in known
        assert words[3] in {*EXPERIMENTS, "--all", "circle.yaml", "#"}
