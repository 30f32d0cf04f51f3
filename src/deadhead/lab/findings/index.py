"""The index of all pages of findings in a folder: every claim under its row, and why those fail that fail."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deadhead.lab.experiments import EXPERIMENTS
from deadhead.lab.findings.rows import DOCUMENTS, ROWS, WITHOUT_CLAIM, order, row_of
from deadhead.lab.judges import FAILS, HOLDS, OPEN, PART
from deadhead.text import counted

CLAIM = re.compile(r"[A-F]\d+\.\d+$")


@dataclass(frozen=True)
class Read:
    """What the index takes from a page.

    Args:
        name: the experiment's.
        first: the page's first paragraph.
        command: that makes it.
        work: seeds and duration.
        claims: cells of its table, row by row.
        reasons: heading and lines of each paragraph on why a claim fails, by claim.
    """

    name: str
    first: str
    command: str
    work: str
    claims: Sequence[Sequence[str]]
    reasons: dict[str, list[str]]


def index(folder: Path) -> str:
    """The index of the pages in a folder: experiments, a row for each claim, and why some do not hold.

    Args:
        folder: of pages that `write_page` wrote.
    """
    pages = [_read(path) for path in sorted(folder.glob("*.md")) if path.stem in EXPERIMENTS]
    claims = sorted(((each, cells) for each in pages for cells in each.claims), key=lambda pair: order(pair[1][0]))
    lines = ["# Findings", "", _head([cells for _, cells in claims]), ""]
    lines += ["| experiment | what to take away | command | seeds and duration |", "|---|---|---|---|"]
    lines += [f"| [{each.name}]({each.name}.md) | {each.first} | `{each.command}` | {each.work} |" for each in pages]
    for letter, title in DOCUMENTS.items():
        lines += ["", f"## {letter}. {title}", ""]
        lines += ["| claim | the document says | number there | ours | verdict | figure | made by |", "|" + "---|" * 7]
        for row in (each for each in ROWS if each[0] == letter):
            lines.append(f"| **{row}** | **{ROWS[row]}** | | | | | {WITHOUT_CLAIM.get(row, '')} |")
            lines += [_line(each, cells) for each, cells in claims if row_of(cells[0]) == row]
    reasons = [(claim, text) for each in pages for claim, text in each.reasons.items()]
    if reasons:
        lines += ["", "## Why some do not hold", ""]
        lines += [line for _, text in sorted(reasons, key=lambda pair: order(pair[0])) for line in text]
    return "\n".join(lines).rstrip() + "\n"


def _head(claims: Iterable[Sequence[str]]) -> str:
    verdicts = [cells[5].strip("*") for cells in claims]
    count = {each: verdicts.count(each) for each in (HOLDS, PART, FAILS, OPEN)}
    first = (
        f"Of {counted(len(verdicts), 'claim')} of the documents behind deadhead, {count[HOLDS]} held, "
        f"{count[PART]} held in part and {count[FAILS]} did not hold"
    )
    first += f"; {count[OPEN]} need more seeds. " if count[OPEN] else ". "
    return first + (
        "Every verdict is computed from results over seeds by a judge that made-up results can turn; a page says where "
        "a judge was changed, and a paragraph below says why a claim does not hold."
    )


def _line(page: Read, cells: Sequence[str]) -> str:
    claim, _, sentence, number, ours, verdict, figure = cells
    made = f"[{page.name}]({page.name}.md), {page.work}"
    return f"| {claim} | {sentence} | {number} | {ours} | {verdict} | {figure} | {made} |"


def _read(path: Path) -> Read:
    lines = path.read_text().splitlines()
    made = re.search(r"^Made by `(.*)`: (.*)\.$", "\n".join(lines), re.MULTILINE)
    cells = [[cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")] for line in lines]
    return Read(
        path.stem,
        lines[2],
        made[1] if made else "",
        made[2] if made else "",
        [row for row in cells if len(row) == 7 and CLAIM.match(row[0])],
        _reasons(lines),
    )


def _reasons(lines: Sequence[str]) -> dict[str, list[str]]:
    """Lines below each heading of the third level that names a claim, with that heading."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in lines:
        heading = re.match(r"### ([A-F]\d+\.\d+) ", line)
        if heading:
            current = found[heading[1]] = [line]
        elif line.startswith(("#", "![")):
            current = None
        elif current is not None:
            current.append(line)
    return found
