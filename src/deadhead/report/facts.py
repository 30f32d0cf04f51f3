"""What terminal, figures and page all say of a report: numbers and sentences derived from it in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from deadhead.record import GroupRecord, Measures, Point, Report


class Ranked(NamedTuple):
    """One unit on its place in the ranking of its group."""

    unit: int
    saliency: float
    removed: bool


class Way(NamedTuple):
    """The points of a curve: those accepted, of which the last may be the result, and those beyond it."""

    taken: list[Point]
    result: Point | None
    refused: list[Point]


def costs(before: Measures, after: Measures) -> list[tuple[str, float]]:
    """Pairs of a cost and what is left of it, as a fraction of the intact network; costs that were 0 are left out.

    >>> before = Measures(64, 1000, 5000, 4000, 600, 2e-3, 32, 0.1, 0.99)
    >>> after = Measures(32, 250, 1000, 1000, 600, 1e-3, 32, 0.1, 0.98)
    >>> costs(before, after)[:2]
    [('units', 0.5), ('parameters', 0.25)]
    """
    pairs = [
        ("units", before.units, after.units),
        ("parameters", before.parameters, after.parameters),
        ("multiply-adds", before.macs, after.macs),
        ("size on disk", before.bytes, after.bytes),
        ("memory", before.memory, after.memory),
        ("latency", before.latency, after.latency),
    ]
    return [(name, new / old) for name, old, new in pairs if old > 0 and math.isfinite(new / old)]


def ranked(group: GroupRecord) -> list[Ranked]:
    """The units of a group by rising saliency, those whose saliency is not finite last.

    >>> [entry.unit for entry in ranked(GroupRecord("g", "channel", 3, [2], [0.5, float("nan"), 0.1], []))]
    [2, 0, 1]
    """
    removed = set(group.removed)
    entries = [Ranked(unit, saliency, unit in removed) for unit, saliency in enumerate(group.saliency)]
    return sorted(entries, key=lambda entry: (not math.isfinite(entry.saliency), entry.saliency, entry.unit))


def way(report: Report) -> list[Point]:
    """The curve of a report where there is a curve to see: with fewer than three points it is only before and after."""
    return report.curve if len(report.curve) >= 3 else []


def divided(points: Sequence[Point], chosen: int | None) -> Way:
    """`points` on either side of the result, which has `chosen` units left; None takes them all for accepted.

    >>> way = divided([Point(8, 0, 0, 0.1, None), Point(6, 0, 0, 0.2, None), Point(5, 0, 0, 0.9, None)], 6)
    >>> [point.units for point in way.taken], way.result.units, [point.units for point in way.refused]
    ([8, 6], 6, [5])
    """
    least = -1 if chosen is None else chosen
    return Way(
        [point for point in points if point.units >= least],
        next((point for point in points if point.units == chosen), None),
        [point for point in points if point.units < least],
    )


def is_wide(points: Sequence[Point]) -> bool:
    """Whether the losses span more than two powers of ten, so that most of them look alike on a linear axis."""
    found = [point.loss for point in points if math.isfinite(point.loss)]
    return bool(found) and min(found) > 0 and max(found) > 100 * min(found)


def tried(report: Report) -> str:
    """What was measured on the way, in short sentences: how much, what was kept, and what was refused next."""
    points = way(report)
    if not points:
        return ""

    def told(point: Point) -> str:
        accuracy = "" if point.accuracy is None else f", accuracy {100 * point.accuracy:.2f} %"
        return f"{point.units:,} of {points[0].units:,} units, loss {point.loss:.4g}{accuracy}"

    found = divided(points, report.after.units)
    text = f"{len(points) - 1:,} smaller networks were measured on held-out calibration rows."
    if found.result is not None:
        text += f" Kept: {told(found.result)}."
    if found.refused:
        text += f" Refused: {told(found.refused[0])}."
    return text


def verdict(report: Report) -> tuple[bool, str]:
    """Whether the pruned network equals its gated original within tolerance, and the sentence that says so."""
    # A difference that is not a number fails.
    passed = report.difference <= report.tolerance
    word = "Passed" if passed else "FAILED"
    return passed, (
        f"{word}: the pruned network and its gated original differ by at most {report.difference:.2g} of the largest "
        f"output; the tolerance is {report.tolerance:.0e}."
    )


def losses(report: Report) -> list[tuple[str, float]]:
    """The intact, the predicted (where there is one) and the measured loss, with what each is called."""
    predicted = [] if report.predicted_loss is None else [("predicted for the pruned", report.predicted_loss)]
    return [("intact, measured", report.before.loss), *predicted, ("pruned, measured", report.after.loss)]


def prediction(report: Report) -> str:
    """One sentence that sets the predicted loss beside the measured one."""
    measured = f"{report.after.loss:.4g} measured on {report.rows:,} {report.evaluated_on} rows"
    if report.predicted_loss is None:
        return f"No loss was predicted; {measured}, from {report.before.loss:.4g} intact."
    return f"{report.predicted_loss:.4g} predicted, {measured}, from {report.before.loss:.4g} intact."


def reasons(report: Report) -> list[tuple[str, list[str]]]:
    """What was left alone, gathered by reason in the order of first mention."""
    gathered: dict[str, list[str]] = {}
    for name, reason in report.left_alone:
        gathered.setdefault(reason, []).append(name)
    return list(gathered.items())


def shorten(name: str, width: int) -> str:
    """`name` in at most `width` characters, shortened before its middle: the end of a path tells most.

    >>> shorten("encoder.layers.11.mlp.dense", 15)
    'encod…mlp.dense'
    """
    if len(name) <= width:
        return name
    head = width // 3
    return f"{name[:head]}…{name[len(name) - (width - head - 1) :]}"
