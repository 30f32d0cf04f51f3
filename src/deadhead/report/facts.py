"""What terminal, figures and page all say of a report: numbers and sentences derived from it in one place."""

from __future__ import annotations

import math
from typing import NamedTuple

from deadhead.record import GroupRecord, Measures, Report


class Ranked(NamedTuple):
    """One unit on its place in the ranking of its group."""

    unit: int
    saliency: float
    removed: bool


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
