"""`lab`: list the experiments, run one, and print its results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from deadhead.cli.listing import print_listing
from deadhead.cli.resolve import settings as settings_of
from deadhead.lab.experiments import run_experiment


def list_experiments() -> None:
    """`lab list`: the registered experiments, their settings and what they measure."""
    print_listing("experiments")


def run_and_show(name: str, settings: Sequence[str], seed: int | None) -> None:
    """`lab run`: run an experiment with settings of the form name=value, and print its results."""
    given = settings_of(settings, "--set")
    if seed is not None:
        given["seed"] = seed
    results = run_experiment(name, **given)
    _TABLES.get(name, _print_plain)(results)


def _print_plain(results: dict[str, Any]) -> None:
    Console().print_json(json.dumps(results))


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
