"""`lab`: list the experiments, run them, and print what they found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from deadhead.cli.listing import print_listing
from deadhead.cli.resolve import folder_for
from deadhead.cli.resolve import settings as settings_of
from deadhead.errors import DeadheadError
from deadhead.lab.experiments import EXPERIMENTS, run_experiment
from deadhead.lab.findings import Found, judged, takeaway, write_page
from deadhead.lab.runner import Job, Plan, jobs_of, read_plan, run_jobs, run_on_cluster
from deadhead.lab.runner.board import write_board
from deadhead.lab.runner.configuration import plan
from deadhead.progress import Progress as Callback


def list_experiments() -> None:
    """`lab list`: the registered experiments, their settings and what they measure."""
    print_listing("experiments")


def run_and_show(
    name: str | None,
    settings: Sequence[str],
    *,
    every: bool,
    quick: bool,
    seeds: str | None,
    processes: int,
    cluster: str | None,
    out: Path,
    pages: Path | None,
    tensorboard: bool,
) -> None:
    """`lab run`: run one experiment or all, write results and pages, and print the claims with their verdicts."""
    if every == (name is not None):
        raise DeadheadError("Name one experiment or a YAML file, or give --all, and not both.")
    folder_for(out)
    for each in _plans(name, settings, quick, seeds):
        beside = each.variants()
        jobs = {key: jobs_of(of, out) for key, of in {"": each, **beside}.items()}
        how = {**each.cluster, **({"executor": cluster} if cluster else {})}
        records = _run([job for group in jobs.values() for job in group], processes, how, out)
        if tensorboard:
            for place, record in records.items():
                write_board(place / "tensorboard", record["results"])
        variants = {key: [records[job.place] for job in jobs[key]] for key in beside}
        for folder in dict.fromkeys(job.folder for job in jobs[""]):
            group = [job for job in jobs[""] if job.folder == folder]
            _report(each, group, [records[job.place] for job in group], variants, pages)


def show(name: str, out: Path) -> list[Path]:
    """`lab show`: the claims with their verdicts of every combination of settings in a folder of results.

    Args:
        name: an experiment's.
        out: the folder.

    Returns:
        The pages with figures.
    """
    EXPERIMENTS[name]
    folders = sorted({path.parents[1] for path in (out / name).glob("*/seed-*/result.json")})
    if not folders:
        raise DeadheadError(f"{out} has no results of {name}: run `deadhead lab run {name} --out {out}`.")
    pages = []
    for folder in folders:
        records = [json.loads(path.read_text()) for path in sorted(folder.glob("seed-*/result.json"))]
        _print_claims(name, records)
        page = folder / f"{name}.md"
        if page.exists():  # a variant has none: it is on the page of the experiment
            Console().print(Text(f"Page with figures: {page}"))
            pages.append(page)
    return pages


def print_consistency() -> None:
    """`lab consistency`: both tables, from results in memory."""
    _print_consistency(run_experiment("consistency"))


def _plans(name: str | None, settings: Sequence[str], quick: bool, seeds: str | None) -> Iterator[Plan]:
    given = settings_of(settings, "--set")
    count: Any = 1 if seeds is None else int(seeds) if seeds.isdigit() else seeds
    if name is not None and name.endswith((".yaml", ".yml")):
        if quick or seeds is not None:
            raise DeadheadError(f"{name} says how many seeds and whether quick: leave --seeds and --quick out.")
        yield read_plan(Path(name), given)
        return
    for each in [name] if name is not None else sorted(EXPERIMENTS):
        yield plan(each, given, seeds=count, quick=quick)


def _run(jobs: Sequence[Job], processes: int, cluster: dict[str, Any], out: Path) -> dict[Path, dict[str, Any]]:
    """What every job has written, by its folder, run here or on a cluster."""
    jobs = list({job.place: job for job in jobs}.values())
    if cluster:
        parameters = {key: value for key, value in cluster.items() if key != "executor"}
        executor = cluster.get("executor", "slurm")
        found = run_on_cluster(jobs, out / "cluster-logs", executor=executor, **parameters)
    else:
        with _lines() as progress:
            found = run_jobs(jobs, processes=processes, progress=progress)
    return dict(zip([job.place for job in jobs], found, strict=True))


def _report(
    of: Plan,
    jobs: Sequence[Job],
    records: Sequence[dict[str, Any]],
    variants: dict[str, list[dict[str, Any]]],
    pages: Path | None,
) -> None:
    """Write the page of one combination of settings, and print what it says."""
    given = "".join(f" --set {key}={json.dumps(value)}" for key, value in jobs[0].options.items())
    seeds = f" --seeds {len(jobs)}" if of.seeds == tuple(range(len(of.seeds))) else f" --seeds {list(of.seeds)}"
    command = f"deadhead lab run {of.experiment}{' --quick' if of.quick else ''}{given}{seeds}"
    found = Found(of.experiment, records, command, variants)
    path = write_page(found, jobs[0].folder, *([] if pages is None else [pages]))
    if of.experiment in _TABLES:
        _TABLES[of.experiment](records[0]["results"])
    _print_claims(of.experiment, records)
    Console().print(Text(f"Page with figures: {path}"))


def _print_claims(name: str, records: Sequence[dict[str, Any]]) -> None:
    found = judged(EXPERIMENTS[name], records)
    if not found:
        return
    table = Table("claim", "the document says", "number there", "ours", "verdict")
    for claim, each in found:
        numbers = "\n".join(dict.fromkeys(map(str, each.numbers)))
        table.add_row(*map(Text, (claim.id, claim.sentence, claim.number, numbers, each.verdict)))
    Console().print(table)
    Console().print(Text(takeaway(found, len(records))))


@contextmanager
def _lines() -> Iterator[Callback]:
    """A line of progress for every running job, on standard error: its step, and how long that will take."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as lines:

        def tell(label: str, done: int, total: int) -> None:
            job = label.rpartition(": ")[0]
            if job not in tasks:
                tasks[job] = lines.add_task(label, total=total)
            lines.update(tasks[job], description=label, completed=done, total=total)

        yield tell


def _print_consistency(results: dict[str, Any]) -> None:
    console = Console()
    console.print(
        "[bold]Scaling equivalence[/bold]: multiplication by a constant, as a scaled identity matrix and as an "
        "elementwise function. Do both rules give the same relevance, and by what is it multiplied?"
    )
    console.print(_scalings(results["scaling equivalence"]))
    console.print(
        "[bold]Maximum with constants[/bold]: f(a) = max(a, c, ...), all c <= 0, as a nonlinearity and as a maximum. "
        'The essay: "gradient matches gradient"; "I suspect that radial maximum matches slope nonlinearity in the '
        'special case of a maximum of 2", which holds for c = 0 alone; a constant named twice ruins most kinds of '
        "splitting."
    )
    console.print(_maxima(results["maximum with constants"]))
    console.print(
        'The essay is "Visualizing Neural networks, how to blame the bias", AI Alignment Forum. It calls lrp_0 '
        '"normalized", pass "ignore", rescale "slope" and deconvnet "repeat".'
    )


def _scalings(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("matrix rule", "nonlinearity rule", "scale", "essay", "deadhead")
    for row, last in _with_ends(rows):
        scale = "" if row["scale"] is None else "1" if abs(row["scale"] - 1) < 1e-9 else "alpha"
        table.add_row(row["first"], row["second"], scale, row["essay"], _word(row), end_section=last)
    return table


def _maxima(rows: Sequence[dict[str, Any]]) -> Table:
    """A row for each pair of rules, a column for each set of constants."""
    kinds = list(dict.fromkeys(tuple(row["constants"]) for row in rows))
    columns = ["c = " + ", ".join(f"{c:g}" for c in each) for each in kinds]
    table = Table("maximum rule", "nonlinearity rule", *columns, "essay")
    for row, last in _with_ends([row for row in rows if tuple(row["constants"]) == kinds[0]]):
        same = [each for each in rows if (each["first"], each["second"]) == (row["first"], row["second"])]
        table.add_row(row["first"], row["second"], *map(_word, same), row["essay"], end_section=last)
    return table


def _with_ends(rows: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], bool]]:
    """Each row, and whether another first rule follows."""
    follows = [*(row["first"] for row in rows[1:]), ""]
    return [(row, row["first"] != other) for row, other in zip(rows, follows, strict=True)]


def _word(row: dict[str, Any]) -> str:
    return "[green]yes[/green]" if row["agree"] else "no"


_TABLES: dict[str, Callable[[dict[str, Any]], None]] = {"consistency": _print_consistency}
"""How the results of an experiment are printed, where it is not as JSON."""
