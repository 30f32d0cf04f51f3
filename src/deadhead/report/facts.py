"""What terminal, figures and page all say of a report: numbers and sentences derived from it in one place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from deadhead.pruning.record import Forecast, GroupRecord, Measures, Point, Report


class Ranked(NamedTuple):
    """One unit on its place in the ranking of its group."""

    unit: int
    saliency: float
    removed: bool


class Way(NamedTuple):
    """The points of a curve, each by what it was measured for: those accepted, of which one may be the result, those
    refused, and those that only show what more or less pruning would give."""

    taken: list[Point]
    result: Point | None
    refused: list[Point]
    aside: list[Point]

    @property
    def measured(self) -> list[Point]:
        """All but those refused, most units first."""
        return sorted([*self.taken, *self.aside], key=lambda point: -point.units)


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
    """The curve of a report where there is a curve to see: fewer than three points, without a forecast between them,
    are only before and after."""
    return report.curve if len(report.curve) >= 3 or report.forecast else []


def divided(points: Sequence[Point]) -> Way:
    """`points` by what they were measured for.

    >>> way = divided([Point(8, 0, 0, 0.1, None), Point(6, 0, 0, 0.2, None, "result"),
    ...                Point(5, 0, 0, 0.9, None, "refused")])
    >>> [point.units for point in way.taken], way.result.units, [point.units for point in way.refused]
    ([8, 6], 6, [5])
    """
    return Way(
        [point for point in points if point.purpose in ("way", "result")],
        next((point for point in points if point.purpose == "result"), None),
        [point for point in points if point.purpose == "refused"],
        [point for point in points if point.purpose == "aside"],
    )


def purpose(point: Point, intact: Point) -> str:
    """What a point was measured for, in a word or two."""
    if point is intact:
        return "intact"
    return {"way": "", "aside": "for comparison"}.get(point.purpose, point.purpose)


def predicted_at(forecast: Sequence[Forecast], units: int) -> float | None:
    """The loss that a forecast has for so many units left, by linear interpolation; None outside of it.

    >>> predicted_at([Forecast(8, 0, 0, 0.1), Forecast(4, 0, 0, 0.3)], 6)
    0.2
    """
    for place in forecast:
        if place.units == units:
            return place.loss
    for more, less in itertools.pairwise(forecast):
        if more.units > units > less.units:
            share = (more.units - units) / (more.units - less.units)
            return (1 - share) * more.loss + share * less.loss
    return None


def is_wide(points: Sequence[Point], forecast: Sequence[Forecast] = ()) -> bool:
    """Whether the losses span more than two powers of ten, so that most of them look alike on a linear axis; with a
    forecast, which is steepest where nobody wants to go, more than one."""
    losses = [point.loss for point in points] + [place.loss for place in forecast]
    found = [loss for loss in losses if math.isfinite(loss)]
    return bool(found) and min(found) > 0 and max(found) > (10 if forecast else 100) * min(found)


def tried(report: Report) -> str:
    """What was measured around the result, in short sentences: how much, what was kept, and what lies beyond it."""
    points = way(report)
    if not points:
        return ""

    def told(point: Point) -> str:
        predicted = predicted_at(report.forecast, point.units)
        beside = "" if predicted is None else f" ({report.criterion} predicted {predicted:.4g})"
        accuracy = "" if point.accuracy is None else f", accuracy {100 * point.accuracy:.2f} %"
        return f"{point.units:,} of {points[0].units:,} units, loss {point.loss:.4g}{beside}{accuracy}"

    found, count = divided(points), len(points) - 1
    networks = "1 smaller network was" if count == 1 else f"{count:,} smaller networks were"
    text = f"{networks} measured on held-out calibration rows."
    if found.result is not None:
        text += f" Kept: {told(found.result)}."
    if found.refused:
        text += f" Refused: {told(found.refused[0])}."
    further = [point for point in found.aside if found.result is not None and point.units < found.result.units]
    if further:
        text += f" Further, for comparison: {told(further[0])}."
    return text


def foretold(report: Report) -> str:
    """What the predicted curve is, and what it leaves out."""
    if not way(report) or not report.forecast:
        return ""
    second = report.criterion == "obs" or report.criterion.startswith("taylor2")
    exact = ", to second order" if second else ", to first order" if report.criterion == "taylor1" else ""
    score = "score at its turn in its group, the others taking over" if report.criterion == "obs" else "score by itself"
    other = " The predicted loss of the result is found otherwise, from the weights that were changed."
    return (
        f"Predicted by {report.criterion}: the intact loss plus each removed unit's {score}, found on calibration rows"
        f"{exact}, without what removals in other groups change.{other if report.predicted_loss is not None else ''}"
    )


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
