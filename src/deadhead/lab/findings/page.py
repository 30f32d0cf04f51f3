"""The page of an experiment, made from results: claims with verdicts, why some fail, figures, command and duration."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deadhead.drawing import canvas
from deadhead.files import write_together
from deadhead.lab.experiment import Claim, Experiment, Picture
from deadhead.lab.experiments import EXPERIMENTS
from deadhead.lab.findings.filled import filled
from deadhead.lab.findings.index import index
from deadhead.lab.judges import FAILS, HOLDS, OPEN, PART, Judgement, Results
from deadhead.text import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Record = Mapping[str, Any]
"""What the runner wrote for one seed."""

COLUMNS = ("claim", "where", "the document says", "number there", "ours", "verdict", "figure")


@dataclass(frozen=True)
class Found:
    """What an experiment and its variants have found.

    Args:
        name: the experiment's.
        records: one for each seed.
        command: that makes them.
        variants: records by the variant's name (default: none was run).
    """

    name: str
    records: Sequence[Record]
    command: str
    variants: Mapping[str, Sequence[Record]] = field(default_factory=dict)

    @property
    def entry(self) -> Experiment:
        """The experiment."""
        return EXPERIMENTS[self.name]

    @property
    def results(self) -> Results:
        """One mapping for each seed."""
        return [record["results"] for record in self.records]

    @property
    def beside(self) -> dict[str, Results]:
        """Results of every variant; an empty list where one was not run."""
        return {name: [record["results"] for record in self.variants.get(name, ())] for name in self.entry.variants}

    @property
    def seconds(self) -> float:
        """That all jobs took, variants included."""
        return sum(float(record["seconds"]) for each in (self.records, *self.variants.values()) for record in each)

    def text(self, sentence: str) -> str:
        """A sentence with its placeholders filled."""
        return filled(sentence, self.results, self.beside)


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
        f"Of {counted(len(found), 'claim')}, judged on {counted(seeds, 'seed')}, {len(by[HOLDS])} held, "
        f"{len(by[PART])} held in part and {len(by[FAILS])} did not hold"
    )
    first += f"; {len(by[OPEN])} need more seeds." if by[OPEN] else "."
    wrong = "; ".join(f"{claim.sentence.rstrip('.')} ({claim.id})" for claim in by[FAILS])
    return f"{first} {f'Not confirmed: {wrong}.' if wrong else 'None is refuted.'}"


def page(found: Found) -> dict[str, bytes | str]:
    """The page of an experiment and its figures: contents by file name.

    Args:
        found: its results.

    Returns:
        NAME.md, and NAME-FIGURE.png (or .gif of a film) for each figure.
    """
    entry, name = found.entry, found.name
    verdicts = judged(entry, found.records)
    lines = [f"# {name}", ""]
    lines += [found.text(entry.takeaway), ""] if entry.takeaway else []
    lines += [takeaway(verdicts, len(found.records)), ""] if verdicts else []
    lines += [entry.summary, "", f"Made by `{found.command}`: {_work(found)}.", ""]
    lines += _claims(entry, verdicts) + _why(found, verdicts)
    files: dict[str, bytes | str] = {}
    for picture in entry.pictures:
        file = _file(name, picture)
        files[file] = _film(picture, found.results) if picture.frames else _still(picture, found.results)
        lines += [f"![{picture.caption}]({file})", "", picture.caption, ""]
    settings = ", ".join(f"{key} {_short(value)}" for key, value in found.records[0]["settings"].items())
    versions = ", ".join(f"{key} {value}" for key, value in found.records[0]["versions"].items())
    lines += [f"Settings: {settings}. Versions: {versions}."]
    return files | {f"{name}.md": "\n".join(lines) + "\n"}


def write_page(found: Found, *folders: Path) -> Path:
    """Write the page of an experiment, its figures, and the index of all pages, into each folder.

    Args:
        found: results.
        folders: of pages.

    Returns:
        The path of the page in the last folder.
    """
    files = page(found)
    for folder in folders:
        write_together({folder / file: content for file, content in files.items()})
        write_together({folder / "index.md": index(folder)})
    return folders[-1] / f"{found.name}.md"


def drawn(size: tuple[float, float], draw: Callable[[Figure], None], dpi: int = 110) -> bytes:
    """A figure as PNG.

    Args:
        size: inches.
        draw: called with an empty figure.
        dpi: pixels of an inch.
    """
    content = io.BytesIO()
    with canvas(*size) as whole:
        draw(whole)
        whole.savefig(content, format="png", dpi=dpi, metadata={"Software": None})
    return content.getvalue()


def _still(picture: Picture, results: Results) -> bytes:
    return drawn(picture.size, lambda whole: picture.draw(whole, results))


def _film(picture: Picture, results: Results) -> bytes:
    """A film as GIF: half a second a frame, two for the last."""
    from PIL import Image

    def frame(i: int) -> bytes:
        return drawn(picture.size, lambda whole: picture.draw(whole, results, i))

    pages = [frame(i) for i in range(picture.frames)]
    frames = [Image.open(io.BytesIO(each)).convert("RGB").quantize(64) for each in pages]
    content, durations = io.BytesIO(), [500] * (len(frames) - 1) + [2000]
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)
    return content.getvalue()


def _claims(entry: Experiment, verdicts: Sequence[tuple[Claim, Judgement]]) -> list[str]:
    if not verdicts:
        return []
    figures = {picture.name: f"[{picture.name}]({_file(entry.name, picture)})" for picture in entry.pictures}
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for claim, each in verdicts:
        cells = (claim.id, claim.where, claim.sentence, claim.number, _numbers(each), f"**{each.verdict}**")
        shown = (*(cell.replace("|", "/") for cell in cells), figures.get(claim.picture, ""))
        lines.append("| " + " | ".join(shown) + " |")
    notes = [f"- {claim.id}: {claim.note}" for claim in entry.claims if claim.note]
    lines += ["", "Numbers are means with their range over seeds; of differences, with the 95 % interval.", ""]
    return lines + (["How claims were judged:", "", *notes, ""] if notes else [])


def _why(found: Found, verdicts: Sequence[tuple[Claim, Judgement]]) -> list[str]:
    """A paragraph for each claim that does not wholly hold, with the verdicts of variants below."""
    lines: list[str] = []
    for claim, each in verdicts:
        if claim.why and each.verdict in (PART, FAILS):
            lines += [f"### {claim.id} {each.verdict}: {claim.sentence}", "", found.text(claim.why), ""]
            lines += _by_variant(found, claim)
    return ["## Why not", "", *lines] if lines else []


def _by_variant(found: Found, claim: Claim) -> list[str]:
    lines = []
    for name in claim.variants:
        results = found.beside[name]
        if results:
            each = claim.judge(results)
            changed = ", ".join(f"{key} {_short(value)}" for key, value in found.entry.variants[name].items())
            lines.append(f"- {name} ({changed}): {_numbers(each)}: {each.verdict}")
    return [*lines, ""] if lines else []


def _work(found: Found) -> str:
    variants = f" and {counted(len(found.variants), 'variant')}" if found.variants else ""
    return f"{counted(len(found.records), 'seed')}{variants}, {_duration(found.seconds)} on one core"


def _numbers(judgement: Judgement) -> str:
    return "; ".join(dict.fromkeys(map(str, judgement.numbers)))


def _file(name: str, picture: Picture) -> str:
    return f"{name}-{picture.name}.{'gif' if picture.frames else 'png'}"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 90 else f"{max(seconds, 0.1):.1f} seconds"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
