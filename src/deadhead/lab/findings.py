"""Pages of findings, made from results: claims with verdicts, figures, command and duration."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deadhead.drawing import canvas
from deadhead.files import write_together
from deadhead.lab.experiment import Claim, Experiment
from deadhead.lab.experiments import EXPERIMENTS
from deadhead.lab.judges import FAILS, HOLDS, OPEN, PART, Judgement
from deadhead.text import counted

Record = Mapping[str, Any]


def judged(entry: Experiment, records: Sequence[Record]) -> list[tuple[Claim, Judgement]]:
    """Each claim of an experiment with the verdict of its records, one for each seed."""
    results = [record["results"] for record in records]
    return [(claim, claim.judge(results)) for claim in entry.claims]


def takeaway(found: Sequence[tuple[Claim, Judgement]], seeds: int) -> str:
    """Two sentences from verdicts: how many claims hold, and which do not.

    Args:
        found: claims with verdicts.
        seeds: how many were run.
    """
    by: dict[str, list[Claim]] = {HOLDS: [], PART: [], FAILS: [], OPEN: []}
    for claim, judgement in found:
        by[judgement.verdict].append(claim)
    first = (
        f"Of {counted(len(found), 'claim')}, judged on {counted(seeds, 'seed')}, {len(by[HOLDS])} hold, "
        f"{len(by[PART])} hold in part and {len(by[FAILS])} do not hold"
    )
    first += f"; {len(by[OPEN])} need more seeds." if by[OPEN] else "."
    wrong = "; ".join(f"{claim.sentence.rstrip('.')} ({claim.id})" for claim in by[FAILS])
    return f"{first} {f'Not confirmed: {wrong}.' if wrong else 'None is refuted.'}"


def page(name: str, records: Sequence[Record], command: str) -> dict[str, bytes | str]:
    """The page of an experiment and its figures: contents by file name.

    Args:
        name: the experiment's.
        records: what the runner wrote, one for each seed.
        command: that makes them.

    Returns:
        NAME.md, and NAME-FIGURE.png for each figure.
    """
    entry, results = EXPERIMENTS[name], [record["results"] for record in records]
    found = judged(entry, records)
    seconds = sum(record["seconds"] for record in records)
    lines = [f"# {name}", "", takeaway(found, len(records)), "", entry.summary, ""]
    lines += [f"Made by `{command}`: {counted(len(records), 'seed')}, {_duration(seconds)} on one core.", ""]
    lines += ["| claim | where | the document says | number there | ours | verdict |", "|---|---|---|---|---|---|"]
    for claim, each in found:
        numbers = "; ".join(dict.fromkeys(map(str, each.numbers)))
        cells = (claim.id, claim.where, claim.sentence, claim.number, numbers, f"**{each.verdict}**")
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    notes = [f"- {claim.id}: {claim.note}" for claim in entry.claims if claim.note]
    lines += ["", "Numbers are means with their range over seeds; of differences, with the 95 % interval.", ""]
    lines += ["How claims were judged:", "", *notes, ""] if notes else []
    files: dict[str, bytes | str] = {}
    for picture in entry.pictures:
        file = f"{name}-{picture.name}.png"
        files[file] = drawn(picture.size, lambda whole, draw=picture.draw: draw(whole, results))
        lines += [f"![{picture.caption}]({file})", "", picture.caption, ""]
    settings = ", ".join(f"{key} {_short(value)}" for key, value in records[0]["settings"].items())
    versions = ", ".join(f"{key} {value}" for key, value in records[0]["versions"].items())
    lines += [f"Settings: {settings}. Versions: {versions}."]
    files[f"{name}.md"] = "\n".join(lines) + "\n"
    return files


def drawn(size: tuple[float, float], draw: Any) -> bytes:
    """A figure as PNG.

    Args:
        size: inches.
        draw: called with an empty figure.
    """
    content = io.BytesIO()
    with canvas(*size) as whole:
        draw(whole)
        whole.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return content.getvalue()


def write_page(folder: Path, name: str, records: Sequence[Record], command: str) -> Path:
    """Write the page of an experiment, its figures, and the index of all pages in the folder.

    Args:
        folder: of the pages.
        name: the experiment's.
        records: what the runner wrote, one for each seed.
        command: that makes them.

    Returns:
        The path of the page.
    """
    write_together({folder / file: content for file, content in page(name, records, command).items()})
    write_together({folder / "index.md": index(folder)})
    return folder / f"{name}.md"


def index(folder: Path) -> str:
    """The index of the pages in a folder: a row for each claim, with a link to its page."""
    pages = [path for path in sorted(folder.glob("*.md")) if path.stem in EXPERIMENTS]
    rows, done = [], {HOLDS: 0, PART: 0, FAILS: 0, OPEN: 0}
    durations = []
    for path in pages:
        text = path.read_text()
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            if len(cells) == 6 and re.match(r"[A-F]\d+\.\d+$", cells[0]):
                verdict = cells[5].strip("*")
                done[verdict] += 1
                shown = (cells[0], *cells[2:], f"[{path.stem}]({path.name})")
                rows.append((cells[0], "| " + " | ".join(shown) + " |"))
        made = re.search(r"^Made by (`.*`): (.*) on one core\.$", text, re.MULTILINE)
        if made:
            durations.append(f"| [{path.stem}]({path.name}) | {made[1]} | {made[2]} |")
    rows.sort(key=lambda row: [int(x) if x.isdigit() else x for x in re.findall(r"[A-F]|\d+", row[0])])
    head = (
        f"Of {counted(sum(done.values()), 'claim')} of the documents that deadhead implements, {done[HOLDS]} hold, "
        f"{done[PART]} hold in part and {done[FAILS]} do not hold. "
        "Every verdict is computed from results over seeds by a judge; a page says where one was changed."
    )
    table = ["| claim | the document says | number there | ours | verdict | experiment |", "|---|---|---|---|---|---|"]
    commands = ["| experiment | command | seeds and duration |", "|---|---|---|"]
    parts = ["# Findings", "", head, "", *commands, *durations, "", *table, *(row for _, row in rows)]
    return "\n".join(parts) + "\n"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 90 else f"{max(seconds, 0.1):.1f} seconds"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
