"""What can be named on the command line, from the registries: for help, tables and the README."""

from __future__ import annotations

import re
from typing import Any

from deadhead.compensate import COMPENSATIONS
from deadhead.registry import Registry
from deadhead.scores import CRITERIA
from deadhead.select.budget import BUDGETS

KINDS: dict[str, Registry[Any]] = {"criteria": CRITERIA, "compensations": COMPENSATIONS, "budgets": BUDGETS}
"""What `deadhead list` lists."""


def names(kind: str) -> str:
    """The names of a registry for a line of help, in the order of the registry."""
    return ", ".join(KINDS[kind])


def rows(kind: str) -> list[tuple[str, str, str]]:
    """(name, options with their defaults, first sentence) of each entry of a registry, by name."""
    registry = KINDS[kind]
    return [(name, _options(registry[name].options), _plain(registry[name].summary)) for name in sorted(registry)]


def markdown(kind: str) -> str:
    """The table of a registry for a page."""
    lines = [f"| {KINDS[kind].kind} | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {summary} |" for name, _, summary in rows(kind)]
    return "\n".join(lines)


def _options(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={default!r}" for name, default in options.items())


def _plain(summary: str) -> str:
    """A docstring's first sentence without what is only for readers of code."""
    return re.sub(r",? shape \(K,\)", "", summary).replace("`", "").strip()
