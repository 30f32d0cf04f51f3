"""Text to read: counts with their noun, lists that are cut short, and tables of aligned columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun in the right number.

    Args:
        count: How many.
        noun: The noun for one.
        plural: The noun for several; by default `noun` with an s.

    Example:
        >>> counted(1, "unit"), counted(2048, "unit"), counted(0, "pass", "passes")
        ('1 unit', '2,048 units', '0 passes')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listed(names: Iterable[str], most: int) -> str:
    """Names with commas, of many the first `most` and how many more there are.

    Example:
        >>> listed(["a", "b", "c"], 3), listed("abcdef", 3)
        ('a, b, c', 'a, b, c and 3 more')
    """
    found = list(names)
    # "and 1 more" takes as much room as the name that it hides.
    if len(found) <= most + 1:
        return ", ".join(found)
    return f"{', '.join(found[:most])} and {len(found) - most:,} more"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int, right: Sequence[int] = ()) -> str:
    """Rows as aligned columns that are wrapped where they would be wider than `width` characters.

    Args:
        headings: One for each column.
        rows: The cells of each row, as text.
        width: The most characters of a line; columns of words share what is there, none narrower than 8.
        right: The columns that are aligned right, as numbers are; they are not wrapped.

    Returns:
        Lines without spaces at their end, joined by newlines.

    Example:
        >>> print(table(["group", "units"], [["conv1", "8"], ["fc", "1,024"]], 40, right=[1]))
        group  units
        conv1      8
        fc     1,024
    """
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    words = [column for column in range(len(headings)) if column not in right]
    spare = width - 2 * (len(headings) - 1)
    while words and sum(widths) > spare:
        widest = max(words, key=lambda column: widths[column])
        if widths[widest] <= 8:
            break
        widths[widest] -= 1
    lines = []
    for row in [headings, *rows]:
        cells = [
            [cell] if column in right else textwrap.wrap(cell, widths[column]) or [""]
            for column, cell in enumerate(row)
        ]
        for place in range(max(map(len, cells))):
            parts = [cell[place] if place < len(cell) else "" for cell in cells]
            aligned = [
                part.rjust(widths[column]) if column in right else part.ljust(widths[column])
                for column, part in enumerate(parts)
            ]
            lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)
