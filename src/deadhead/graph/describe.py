"""A network's groups of units as text: tables of what can be pruned, and of what is fixed and why."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence

from deadhead.graph.units.groups import Group, Site
from deadhead.text import counted, listed, table

MOST_GROUPS = 40
"""The maximum number of groups that are listed unless all of them are asked for."""


def describe(
    title: str,
    groups: Sequence[Group],
    fixed: Mapping[str, str],
    width: int | None = None,
    most_groups: int | None = MOST_GROUPS,
) -> str:
    """The groups of units, what makes and what reads each, and why other outputs are fixed, as text.

    Args:
        title: What stands in the first line, before the counts.
        groups: One row each.
        fixed: The reason for each module whose outputs cannot be pruned; modules of the same reason share a row.
        width: The maximum number of characters of a line; by default the terminal's.
        most_groups: The maximum number of groups that are listed, the first and the last ones; None lists all.
    """
    width = shutil.get_terminal_size((100, 24)).columns if width is None else width
    units = counted(sum(group.size for group in groups), "unit")
    lines = textwrap.wrap(f"{title}: {counted(len(groups), 'group')}, {units} that can be pruned", width)
    rows = [
        [group.name, f"{group.size:,}", group.kind, _modules(group.producers), _modules(group.consumers) or "nothing"]
        for group in groups
    ]
    if most_groups is not None and len(rows) > most_groups:
        head = most_groups * 3 // 4
        hidden = len(rows) - most_groups
        rows[head : head + hidden] = [[f"({hidden:,} more)", "", "", "", ""]]
    if rows:
        lines += ["", table(["group", "units", "kind", "made by", "read by"], rows, width, right=[1])]
    reasons: dict[str, list[str]] = {}
    for module, why in fixed.items():
        reasons.setdefault(why, []).append(module)
    if reasons:
        cells = [[counted(len(names), "module"), listed(names, 3), why] for why, names in reasons.items()]
        lines += ["", table(["fixed", "which", "why"], cells, width)]
    return "\n".join(lines)


def _modules(sites: Sequence[Site]) -> str:
    return listed(dict.fromkeys(site.module for site in sites), 3)
