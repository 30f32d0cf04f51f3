"""What the commands do: read their arguments, call the library, print."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import deadhead as dh
from deadhead.cli.resolve import amount, data_of, example_of, folder_for, loss_of, model_of, settings
from deadhead.data.calibration import Batch, as_batch
from deadhead.errors import DataError
from deadhead.files import json_text, write_together
from deadhead.graph.describe import describe
from deadhead.pruning.options import Options
from deadhead.pruning.prune import prune_with
from deadhead.pruning.record import Point
from deadhead.report import curve_figure, print_report, progress_bars, write
from deadhead.scores.result import Scores
from deadhead.select.plan import Plan, plan_of
from deadhead.text import counted


def show_units(model: str, data: str | None, shape: str | None, trust: bool) -> None:
    """`inspect`: the groups of units, and why other outputs are fixed."""
    if (data is None) == (shape is None):
        raise DataError("Give either --data or --shape, so that the model can be run once.")
    module = model_of(model, trust)
    example: Any = example_of(shape) if shape is not None else _first(data or "").inputs
    network = dh.trace(module, example)
    print(describe(type(module).__name__, network.groups, network.fixed, most_groups=None))


def _first(data: str) -> Batch:
    for raw in data_of(data):
        return as_batch(raw)
    raise DataError(f"--data {data} holds no batches.")


def show_scores(
    model: str,
    data: str,
    out: Path | None,
    *,
    loss: str,
    criterion: str,
    options: Sequence[str],
    trust: bool,
    **reading: Any,
) -> None:
    """`score`: the saliencies of each group, and of every unit as JSON."""
    if out is not None:
        _refuse_missing_folder(out)
    with progress_bars() as progress:
        found = dh.score(
            model_of(model, trust), data_of(data, progress=progress), loss=loss_of(loss), criterion=criterion,
            progress=progress, **settings(options, "--criterion-option"), **reading,
        )  # fmt: skip
    print_scores(found, criterion)
    if out is not None:
        write_together({out: json_text({name: values.tolist() for name, values in found.items()})})
        Console().print(f"wrote {out}")


def print_scores(scores: Scores, criterion: str) -> None:
    """A row for each group: how its scores are distributed, and which units have the lowest."""
    table = Table(title=f"scores by {criterion}", title_justify="left")
    table.add_column("group", overflow="fold")
    for name in ("units", "minimum", "median", "maximum"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("lowest units", overflow="fold")
    for name in scores:
        table.add_row(_plain(name), *scores.summary(name))
    Console().print(table)


def find_order(model: str, data: str, out: Path, *, loss: str, remove: str | None, trust: bool, **options: Any) -> None:
    """`oracle`: the order, the losses, and the state of a run that was stopped."""
    _refuse_missing_folder(out)
    checkpoint = out.with_name(out.name + ".state")
    with progress_bars() as progress:
        batches = iter(data_of(data, progress=progress))
        first = next(batches, None)
        if first is None:
            raise DataError(f"--data {data} holds no batches.")
        network = dh.trace(model_of(model, trust), as_batch(first).inputs)
        found = dh.oracle(
            network, chain([first], batches), loss=loss_of(loss), remove=amount(remove, "--remove"),
            checkpoint=checkpoint, progress=progress, **options,
        )  # fmt: skip
    total = sum(group.size for group in network.select(options["only"], options["exclude"]))
    points = [Point(total - removed, 0, 0, value, None) for removed, value in enumerate(found.losses)]
    picture, drawn = out.with_suffix(".png"), io.BytesIO()
    curve_figure(points, f"{type(network.module).__name__}: loss after each removed unit").savefig(drawn, dpi=120)
    write_together({out: json_text(asdict(found)), picture: drawn.getvalue()})
    checkpoint.unlink(missing_ok=True)
    passes = counted(round(found.passes), "pass", "passes")
    table = Table(title=f"{counted(len(found.order), 'unit')} removed, by {passes} over the data")
    for name in ("removed", "last removed", "loss"):
        table.add_column(name, justify="left" if name == "last removed" else "right", overflow="fold")
    last = len(found.order)
    for place in sorted({round(part * last / 12) for part in range(13)}):
        name, unit = found.order[place - 1] if place else ("", "")
        table.add_row(f"{place:,}", _plain(f"{name} {unit}"), f"{found.losses[place]:.4g}")
    Console().print(table)
    Console().print(f"wrote {out} and {picture}; `deadhead prune {model} --data {data} --plan {out}` removes them")


def _refuse_missing_folder(out: Path) -> None:
    if not out.absolute().parent.is_dir():
        raise DataError(f"--out {out}: the folder {out.parent} does not exist.")


def options_of(
    budgets: Mapping[str, str | float | None],
    other_budget: str | None,
    plan: Path | None,
    first: int | None,
    criterion_options: Sequence[str],
    compensate_options: Sequence[str],
    others: Mapping[str, Any],
) -> Options:
    """The options of a prune from what was written on the command line."""
    given: dict[str, Any] = {
        name: amount(value, f"--{name.replace('_', '-')}") if isinstance(value, str) else value
        for name, value in budgets.items()
    }
    return Options(
        **given, budgets=settings([other_budget] if other_budget else [], "--budget"), plan=_plan_of(plan, first),
        criterion_options=settings(criterion_options, "--criterion-option"),
        compensate_options=settings(compensate_options, "--compensate-option"), **others,
    )  # fmt: skip


def _plan_of(file: Path | None, first: int | None) -> Plan | None:
    """The plan that a file of `oracle` holds."""
    if file is None:
        if first is not None:
            raise DataError("--first says how many units of --plan to remove; give --plan too.")
        return None
    try:
        order = [(str(name), int(unit)) for name, unit in json.loads(file.read_text())["order"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"--plan {file} is not a file that `deadhead oracle` wrote ({type(error).__name__})."
        ) from error
    if first is not None and not 1 <= first <= len(order):
        raise DataError(f"--first {first} is out of range: {file} holds {counted(len(order), 'removal')}.")
    return plan_of(order[:first])


def prune_model(
    model: str,
    data: str,
    out: Path,
    options: Options,
    *,
    test: str | None,
    loss: str,
    trust: bool,
) -> None:
    """`prune`: the whole path, the folder and the report."""
    folder = folder_for(out)
    with progress_bars() as progress:
        batches = iter(data_of(data, progress=progress))
        first = next(batches, None)
        pruned = prune_with(
            options, model_of(model, trust), [] if first is None else chain([first], batches), loss=loss_of(loss),
            test=None if test is None else data_of(test, "test"), progress=progress,
        )  # fmt: skip
    pruned.save(folder)
    try:
        pruned.export(folder / "model.pt2")
        program = f"{folder / 'model.pt2'} runs without the class"
    except dh.TraceError as error:
        program = f"no {folder / 'model.pt2'}: {error}"
    page, _ = write(pruned.report, folder)
    print_report(pruned.report)
    Console().print(f"wrote {folder}: deadhead.load({str(folder)!r}, model) reads it back; look at {page}; {program}")


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)
