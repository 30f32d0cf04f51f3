"""A report as tables on the terminal."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deadhead.pruning.record import GroupRecord, Point, Report, rows
from deadhead.report.facts import (
    costs,
    curve_summary,
    loss_summary,
    predicted_at,
    prediction_method,
    purpose_label,
    reasons,
    shown_curve,
    verdict,
)
from deadhead.text import listed

LINES = 12
"""So many points of a curve are shown at most; a curve measured step by step may have hundreds."""


def print_report(report: Report, console: Console | None = None) -> None:
    """Print a report: the headline first, then tables and the sentences that explain them.

    Args:
        report: What a prune did.
        console: Where to print; by default standard output.

    Example:
        >>> from deadhead.pruning.record import GroupRecord, Measures, Report
        >>> before = Measures(4, 100, 400, 400, 600, 1e-3, 32, 0.1, 0.99)
        >>> after = Measures(2, 50, 200, 200, 600, 5e-4, 32, 0.11, 0.98)
        >>> group = GroupRecord("conv1", "channel", 4, [0, 2], [0.0, 2.0, 0.1, 3.0], ["conv2"])
        >>> report = Report("net", "units=0.5", "mrs", "constant", "cross_entropy", "test", 100, 400, before, after,
        ...                 0.105, 1e-7, 1e-4, [group])
        >>> print_report(report, Console(width=100))  # doctest: +ELLIPSIS
        net keeps 50 % of the units: removes 2 of 4 in 1 group
        ...
    """
    console = console or Console()

    def say(*parts: str | Text) -> None:
        console.print(Text.assemble(*parts), highlight=False)

    say(Text(report.model, "bold"), " ", report.headline)
    console.print(_measures(report))
    console.print(_groups(report.groups, console.width))
    if points := shown_curve(report):
        console.print(_curve(points, report))
    say(Text("loss  ", "bold"), loss_summary(report))
    if sentences := curve_summary(report):
        say(Text("measured  ", "bold"), sentences)
    if sentences := prediction_method(report):
        say(Text("predicted  ", "bold"), sentences)
    passed, sentence = verdict(report)
    say(Text("verify  ", "bold"), Text(sentence, "green" if passed else "bold red"))
    for reason, names in reasons(report):
        say(Text("not pruned  ", "bold"), listed(names, 12), ": ", reason)
    for note in report.notes:
        say(Text("note  ", "bold"), note)


def _measures(report: Report) -> Table:
    remaining = dict(costs(report.before, report.after))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1), title_justify="left")
    table.add_column("")
    for heading in ("before", "after", "remaining"):
        table.add_column(heading, justify="right")
    for name, before, after in rows(report.before, report.after):
        table.add_row(name, before, after, f"{100 * remaining[name]:.3g} %" if name in remaining else "")
    return table


def _curve(points: list[Point], report: Report) -> Table:
    """The points of the curve, the loss that was predicted beside the one measured; of many those with a purpose first,
    and of the others some at even distances."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    accurate = any(point.accuracy is not None for point in points)
    table.add_column("curve")
    for heading in (
        "units",
        "remaining",
        "loss",
        *(["predicted"] if report.predicted_curve else []),
        *(["accuracy"] if accurate else []),
    ):
        table.add_column(heading, justify="right")
    for point in _some(points):
        predicted = predicted_at(report.predicted_curve, point.units)
        cells = [purpose_label(point, points[0]), f"{point.units:,}", f"{100 * point.units / points[0].units:.3g} %"]
        cells.append(f"{point.loss:.4g}")
        if report.predicted_curve:
            cells.append("-" if predicted is None else f"{predicted:.4g}")
        if accurate:
            cells.append("-" if point.accuracy is None else f"{100 * point.accuracy:.2f} %")
        table.add_row(*cells)
    return table


def _some(points: list[Point]) -> list[Point]:
    if len(points) <= LINES:
        return points
    refused = [place for place, point in enumerate(points) if point.purpose == "refused"]
    must = {
        0,
        *refused[:1],
        *(place for place, point in enumerate(points) if point.purpose in ("result", "comparison")),
    }
    others = [place for place in range(len(points)) if place not in must]
    count = max(LINES - len(must), 0)
    return [points[place] for place in sorted(must | {others[i * len(others) // count] for i in range(count)})]


def _groups(groups: list[GroupRecord], width: int) -> Table:
    """One row for each group, with the highest saliency of a removed unit; what reads it only on a wide terminal."""
    roomy = width >= 100
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    table.add_column("group", overflow="fold")
    table.add_column("kind", overflow="fold")
    for heading in ("kept", "removed"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("maximum saliency of removed", justify="right")
    if roomy:
        table.add_column("read by", overflow="fold")
    for group in groups:
        removed = [group.saliency[unit] for unit in group.removed if math.isfinite(group.saliency[unit])]
        cells: list[str | Text] = [
            Text(group.name),
            Text(group.kind),
            f"{group.kept:,} of {group.units:,}",
            f"{len(group.removed):,}",
            f"{max(removed):.2g}" if removed else "-",
        ]
        if roomy:
            cells.append(Text(listed(group.consumers, 3)))
        table.add_row(*cells)
    return table
