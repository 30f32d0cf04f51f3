"""`lab`: the documents' experiments and claims, by machine."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from deadhead.lab.experiments.consistency import Comparison, maxima, scalings


def show_consistency() -> None:
    """`lab consistency`: 000's consistency rules for every pair of rules."""
    console = Console()
    console.print(
        "[bold]Scaling equivalence[/bold]: multiplication by a constant, as a scaled identity matrix and as an "
        "elementwise function. Do both rules give the same relevance, and by what is it multiplied?"
    )
    console.print(_scalings(scalings()))
    console.print(
        "[bold]Maximum with constants[/bold]: f(a) = max(a, c, ...), all c <= 0, as a nonlinearity and as a maximum. "
        '000: "gradient matches gradient"; "I suspect that radial maximum matches slope nonlinearity in the special '
        'case of a maximum of 2", which holds for c = 0 alone; a constant named twice ruins most kinds of splitting.'
    )
    console.print(_maxima(maxima()))


def _scalings(rows: Sequence[Comparison]) -> Table:
    table = Table()
    for name in ("matrix rule", "nonlinearity rule", "scale", "000", "deadhead"):
        table.add_column(name)
    for row, last in _with_ends(rows):
        scale = "" if row.scale is None else "1" if abs(row.scale - 1) < 1e-9 else "alpha"
        table.add_row(row.first, row.second, scale, row.document, _word(row), end_section=last)
    return table


def _maxima(rows: Sequence[Comparison]) -> Table:
    """A row for each pair of rules, a column for each set of constants."""
    kinds = list(dict.fromkeys(row.constants for row in rows))
    table = Table()
    for name in ("maximum rule", "nonlinearity rule", *("c = " + ", ".join(f"{c:g}" for c in each) for each in kinds)):
        table.add_column(name)
    table.add_column("000")
    for row, last in _with_ends([row for row in rows if row.constants == kinds[0]]):
        same = [each for each in rows if (each.first, each.second) == (row.first, row.second)]
        table.add_row(row.first, row.second, *map(_word, same), row.document, end_section=last)
    return table


def _with_ends(rows: Sequence[Comparison]) -> list[tuple[Comparison, bool]]:
    """Each row, and whether another first rule follows."""
    follows = [*(row.first for row in rows[1:]), ""]
    return [(row, row.first != other) for row, other in zip(rows, follows, strict=True)]


def _word(row: Comparison) -> str:
    return "[green]yes[/green]" if row.ours else "no"
