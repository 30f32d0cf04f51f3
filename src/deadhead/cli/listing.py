"""What can be named on the command line, from the registries: for help, `deadhead list` and the README's tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deadhead.compensate import COMPENSATIONS
from deadhead.errors import DeadheadError
from deadhead.registry import Registry
from deadhead.relevance.registry import METHODS
from deadhead.scores import CRITERIA
from deadhead.scores.criterion import COMMON
from deadhead.select.budget import BUDGETS


def _experiments() -> Registry[Any]:
    # They bring SciPy's statistics along, half of a second that no other command should wait for.
    from deadhead.lab.experiments import EXPERIMENTS

    return EXPERIMENTS


KINDS: dict[str, Callable[[], Registry[Any]]] = {
    "criteria": lambda: CRITERIA,
    "compensations": lambda: COMPENSATIONS,
    "budgets": lambda: BUDGETS,
    "methods": lambda: METHODS,
    "experiments": _experiments,
}
"""What `deadhead list` lists, and where it is found."""


def names(kind: str) -> str:
    """The names of a registry for a line of help."""
    return ", ".join(sorted(KINDS[kind]()))


def rows(kind: str) -> list[tuple[str, str, str]]:
    """(name, options with their defaults, first sentence) of each entry of a registry, by name."""
    registry = KINDS[kind]()
    return [(name, _options(registry[name].options), _plain(registry[name].summary)) for name in sorted(registry)]


def markdown(kind: str) -> str:
    """The table of a registry for a page."""
    lines = [f"| {KINDS[kind]().kind} | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {summary} |" for name, _, summary in rows(kind)]
    return "\n".join(lines)


def print_listing(kind: str | None) -> None:
    """Print the table of one registry, or of all.

    Raises:
        DeadheadError: where there is no such registry.
    """
    if kind is not None and kind not in KINDS:
        raise DeadheadError(f"There is nothing to list by the name {kind!r}; give one of {', '.join(KINDS)}.")
    for each in KINDS if kind is None else (kind,):
        table = Table(title=each, title_justify="left")
        for column in (KINDS[each]().kind, "what it is", "options"):
            table.add_column(column, overflow="fold")
        for name, options, summary in rows(each):
            table.add_row(Text(name), Text(summary), Text(options))
        Console().print(table)
        if each == "criteria":
            Console().print(f"Every criterion also has the options {', '.join(COMMON)}.")


def _options(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={default!r}" for name, default in options.items())


def _plain(summary: str) -> str:
    """A docstring's first sentence without what is only for readers of code."""
    return re.sub(r",? shape \(K,\)", "", summary).strip()
