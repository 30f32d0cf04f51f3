"""What terminal, figures and page all say of a report: numbers and sentences derived from it in one place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from deadhead.pruning.record import GroupRecord, Measures, Point, PredictedPoint, Report


class RemovalOrder(NamedTuple):
    """One unit at its place in the order of removal of its group."""

    unit: int
    saliency: float
    removed: bool


class Curve(NamedTuple):
    """The points of a curve by purpose: those accepted, of which one may be the result, those refused, and those that
    were measured for comparison only."""

    accepted: list[Point]
    result: Point | None
    refused: list[Point]
    comparison: list[Point]

    @property
    def measured(self) -> list[Point]:
        """All but those refused, most units first."""
        return sorted([*self.accepted, *self.comparison], key=lambda point: -point.units)


def costs(before: Measures, after: Measures) -> list[tuple[str, float]]:
    """Each cost of the pruned network as a fraction of the intact one's; costs that were 0 are left out.

    Example:
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


def in_order(group: GroupRecord) -> list[RemovalOrder]:
    """The units of a group in the order of removal: those removed first, then those kept as they would follow.

    Where the record does not know the order of a unit, it comes after those whose order is known, by rising saliency;
    saliencies that are not finite come last.

    Example:
        >>> [entry.unit for entry in in_order(GroupRecord("g", "channel", 4, [0, 2], [0.5, 0.3, 0.1, 0.2], []))]
        [2, 0, 3, 1]
        >>> known = GroupRecord("g", "channel", 4, [0, 2], [0.5, 0.3, 0.1, 0.2], [], order=[0, 2, 1, 3])
        >>> [entry.unit for entry in in_order(known)]
        [0, 2, 1, 3]
    """
    removed, place = set(group.removed), {unit: place for place, unit in enumerate(group.order)}
    entries = [RemovalOrder(unit, saliency, unit in removed) for unit, saliency in enumerate(group.saliency)]

    def key(entry: RemovalOrder) -> tuple[bool, int, bool, float, int]:
        finite = math.isfinite(entry.saliency)
        known = place.get(entry.unit, len(entries))
        return not entry.removed, known, not finite, entry.saliency if finite else 0.0, entry.unit

    return sorted(entries, key=key)


def spread_of(values: Sequence[float]) -> tuple[float, float] | None:
    """The smallest and the largest absolute value above 0, where they differ by more than two powers of ten: then a
    linear axis would show the small ones as nothing. None where a linear axis shows them all.

    Example:
        >>> spread_of([0.0, 1e-6, 0.5]), spread_of([0.1, 0.5])
        ((1e-06, 0.5), None)
    """
    found = [abs(value) for value in values if math.isfinite(value) and value != 0]
    return (min(found), max(found)) if found and max(found) > 100 * min(found) else None


def quantity_of(report: Report) -> str:
    """What the saliencies of a report are, as a label for an axis."""
    return "predicted rise of the loss" if report.predicted_curve else "saliency"


def again(report: Report) -> str:
    """A sentence for removed units that score higher than kept ones, where there are any."""
    if report.criterion != "obs" or not any(_is_mixed(group) for group in report.groups):
        return ""
    return (
        "The scores are those in the intact network. Where a removed unit scores higher than a kept one, the units of "
        "its group were chosen again after the groups before it had been pruned."
    )


def _is_mixed(group: GroupRecord) -> bool:
    entries = [entry for entry in in_order(group) if math.isfinite(entry.saliency)]
    removed = [entry.saliency for entry in entries if entry.removed]
    kept = [entry.saliency for entry in entries if not entry.removed]
    return bool(removed and kept) and max(removed) > min(kept)


def shown_curve(report: Report) -> list[Point]:
    """The curve of a report where there is a curve to see: fewer than three points, without a predicted curve between
    them, are only before and after."""
    return report.curve if len(report.curve) >= 3 or report.predicted_curve else []


def by_purpose(points: Sequence[Point]) -> Curve:
    """Points by what they were measured for.

    Example:
        >>> curve = by_purpose([Point(8, 0, 0, 0.1, None), Point(6, 0, 0, 0.2, None, "result"),
        ...                     Point(5, 0, 0, 0.9, None, "refused")])
        >>> [point.units for point in curve.accepted], curve.result.units, [point.units for point in curve.refused]
        ([8, 6], 6, [5])
    """
    return Curve(
        [point for point in points if point.purpose in ("accepted", "result")],
        next((point for point in points if point.purpose == "result"), None),
        [point for point in points if point.purpose == "refused"],
        [point for point in points if point.purpose == "comparison"],
    )


def purpose_label(point: Point, intact: Point) -> str:
    """What a point was measured for, in a word or two."""
    if point is intact:
        return "intact"
    return {"accepted": "", "comparison": "for comparison"}.get(point.purpose, point.purpose)


def predicted_at(predicted_curve: Sequence[PredictedPoint], units: int) -> float | None:
    """The loss predicted for so many remaining units, by linear interpolation; None outside of the curve.

    Example:
        >>> predicted_at([PredictedPoint(8, 0, 0, 0.1), PredictedPoint(4, 0, 0, 0.3)], 6)
        0.2
    """
    for place in predicted_curve:
        if place.units == units:
            return place.loss
    for more, less in itertools.pairwise(predicted_curve):
        if more.units > units > less.units:
            share = (more.units - units) / (more.units - less.units)
            return (1 - share) * more.loss + share * less.loss
    return None


def is_wide(points: Sequence[Point], predicted_curve: Sequence[PredictedPoint] = ()) -> bool:
    """Whether the losses span more than two powers of ten, so that most of them look alike on a linear axis; with a
    predicted curve, whose end is far above the result, more than one."""
    losses = [point.loss for point in points] + [place.loss for place in predicted_curve]
    found = [loss for loss in losses if math.isfinite(loss)]
    return bool(found) and min(found) > 0 and max(found) > (10 if predicted_curve else 100) * min(found)


def curve_summary(report: Report) -> str:
    """What was measured around the result, in short sentences: how much, the result, and what lies beyond it."""
    points = shown_curve(report)
    if not points:
        return ""

    def described(point: Point) -> str:
        predicted = predicted_at(report.predicted_curve, point.units)
        beside = "" if predicted is None else f" ({report.criterion} predicted {predicted:.4g})"
        accuracy = "" if point.accuracy is None else f", accuracy {100 * point.accuracy:.2f} %"
        return f"{point.units:,} of {points[0].units:,} units, loss {point.loss:.4g}{beside}{accuracy}"

    curve, count = by_purpose(points), len(points) - 1
    networks = "1 smaller network was" if count == 1 else f"{count:,} smaller networks were"
    text = f"{networks} measured on held-out calibration samples."
    if curve.result is not None:
        text += f" Result: {described(curve.result)}."
    if curve.refused:
        text += f" Refused: {described(curve.refused[0])}."
    smaller = [point for point in curve.comparison if curve.result is not None and point.units < curve.result.units]
    if smaller:
        text += f" Smaller, for comparison: {described(smaller[0])}."
    return text


def prediction_method(report: Report) -> str:
    """How the predicted curve is computed, and what it ignores."""
    if not shown_curve(report) or not report.predicted_curve:
        return ""
    second = report.criterion == "obs" or report.criterion.startswith("taylor2")
    exact = ", to second order" if second else ", to first order" if report.criterion == "taylor1" else ""
    score = "score at its turn in its group, the remaining units refitted" if report.criterion == "obs" else "score"
    other = " The predicted loss of the result is computed otherwise, from the weights that were changed."
    return (
        f"Predicted by {report.criterion}: the intact loss plus each removed unit's {score}, computed on calibration "
        f"samples{exact}; what removals in one group change for another is ignored."
        f"{other if report.predicted_loss is not None else ''}"
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


def loss_summary(report: Report) -> str:
    """One sentence that sets the predicted loss beside the measured one."""
    samples = "sample" if report.rows == 1 else "samples"
    measured = f"{report.after.loss:.4g} measured on {report.rows:,} {report.evaluated_on} {samples}"
    if report.predicted_loss is None:
        return f"No loss was predicted; {measured}, from {report.before.loss:.4g} intact."
    return f"{report.predicted_loss:.4g} predicted, {measured}, from {report.before.loss:.4g} intact."


def reasons(report: Report) -> list[tuple[str, list[str]]]:
    """What was not pruned, gathered by reason in the order of first mention."""
    gathered: dict[str, list[str]] = {}
    for name, reason in report.left_alone:
        gathered.setdefault(reason, []).append(name)
    return list(gathered.items())
