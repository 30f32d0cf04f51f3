"""One job: an experiment with its settings and one seed, whose result is a file that is there whole or not at all."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
import platform
import subprocess
import time
import traceback
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from deadhead.errors import DeadheadError
from deadhead.files import append_line, json_text, write_together
from deadhead.lab.experiment import Experiment
from deadhead.lab.experiments import EXPERIMENTS
from deadhead.lab.runner.configuration import Plan
from deadhead.progress import Progress

WORDS = ("__init__", "claims", "figures", "why")
"""Files of an experiment's folder that its results do not depend on."""
EVERY = 0.5
"""Seconds between lines of progress."""


@dataclass(frozen=True)
class Job:
    """An experiment, its options and a seed, and the folder of its combination of settings.

    Args:
        experiment: its name.
        options: settings that differ from the defaults.
        seed: fixes all that is drawn.
        quick: start from the quick run's settings.
        folder: of the results of all seeds with these settings.
    """

    experiment: str
    options: dict[str, Any]
    seed: int
    quick: bool
    folder: Path

    @property
    def place(self) -> Path:
        """The folder of this seed."""
        return self.folder / f"seed-{self.seed}"

    @property
    def label(self) -> str:
        """A name for a line of progress."""
        given = "".join(f" {name}={value}" for name, value in self.options.items())
        return f"{self.experiment}{given} seed {self.seed}"

    def record(self) -> dict[str, Any] | None:
        """What the finished job has written, or None; None, too, where the experiment's file has changed since."""
        path = self.place / "result.json"
        if not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_text())
        return found if found.get("source") == source_of(EXPERIMENTS[self.experiment]) else None


def jobs_of(plan: Plan, out: Path) -> list[Job]:
    """The jobs of a plan, in folders out/EXPERIMENT/SETTINGS/seed-N; SETTINGS is a hash of the resolved settings.

    Args:
        plan: what to run.
        out: folder of all results.
    """
    entry, jobs = EXPERIMENTS[plan.experiment], []
    for options in plan.options:
        text = json_text(dataclasses.asdict(entry.read(options, quick=plan.quick)))
        folder = out / plan.experiment / hashlib.sha256(text.encode()).hexdigest()[:8]
        jobs += [Job(plan.experiment, options, seed, plan.quick, folder) for seed in plan.seeds]
    return jobs


def source_of(entry: Experiment) -> str:
    """A hash of the code that gives an experiment's results, without docstrings, comments and imports.

    It is the code of the folder of its function but for `WORDS`, or of its one file.

    Args:
        entry: the experiment.
    """
    own = Path(inspect.getfile(entry.function))
    parts = sorted(own.parent.glob("*.py")) if own.name == "experiment.py" else [own]
    code = "".join(_code(path) for path in parts if path.stem not in WORDS)
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def _code(path: Path) -> str:
    """What a file computes, as a text that does not change with its comments."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not _says_nothing(each)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _says_nothing(node: ast.AST) -> bool:
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return text or isinstance(node, (ast.Import, ast.ImportFrom))


def run_job(job: Job, progress: Progress | None = None) -> None:
    """Run a job, unless its result is there, and write result.json and progress.jsonl into its folder.

    Torch computes on one thread meanwhile, so that several processes give the same numbers as one.

    Args:
        job: what to run.
        progress: called as `progress("LABEL: STEP", done, total)`.

    Raises:
        DeadheadError: the experiment failed; error.txt in its folder has the traceback.
    """
    if job.record() is not None:
        return
    entry = EXPERIMENTS[job.experiment]
    settings = entry.read(job.options, quick=job.quick)
    start, last = time.monotonic(), -EVERY

    def advance(step: str, done: int, total: int) -> None:
        nonlocal last
        elapsed = time.monotonic() - start
        if elapsed - last >= EVERY or done == total:
            last = elapsed
            line = {"step": step, "done": done, "total": total, "seconds": round(elapsed, 2)}
            append_line(job.place / "progress.jsonl", json_text(line))
        if progress is not None:
            progress(f"{job.label}: {step}", done, total)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = entry.function(settings, job.seed, advance)
    except Exception as error:
        path = job.place / "error.txt"
        write_together({path: traceback.format_exc()})
        raise DeadheadError(
            f"The job {job.label} failed ({type(error).__name__}: {error}): {path} has the traceback; finished jobs "
            "are kept, and are not run again."
        ) from error
    finally:
        torch.set_num_threads(threads)
    record = {
        "experiment": job.experiment,
        "settings": dataclasses.asdict(settings),
        "seed": job.seed,
        "quick": job.quick,
        "versions": {name: version(name) for name in ("deadhead", "torch", "numpy")}
        | {"python": platform.python_version()},
        "git": _revision(),
        "source": source_of(entry),
        "seconds": round(time.monotonic() - start, 2),
        "results": results,
    }
    write_together({job.place / "result.json": json_text(record)})


def _revision() -> str | None:
    """The git revision of the source, with a plus where files differ from it, or None outside a repository."""
    folder = Path(__file__).parent
    try:
        said = [
            subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, check=True, timeout=10).stdout
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no", "."])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return said[0].strip() + ("+" if said[1].strip() else "")
