"""What a prune did, in numbers: plain data that the report tables, figures and pages are made from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from deadhead.files import json_text
from deadhead.text import counted


@dataclass(frozen=True)
class Measures:
    """Size, speed and quality of one network, as measured.

    Args:
        units: The units that can be removed, counted.
        parameters: The entries of all parameter tensors, tied ones once.
        macs: Multiply-adds of one sample.
        bytes: Size on disk of the weights as safetensors.
        memory: Bytes of parameters, buffers and the most activations of one sample that exist at once.
        latency: Median seconds of one forward pass over `latency_rows` samples.
        latency_rows: Samples in the batch that was timed.
        loss: Mean over the samples.
        accuracy: A fraction in [0, 1], or None where the targets are not classes.
    """

    units: int
    parameters: int
    macs: int
    bytes: int
    memory: int
    latency: float
    latency_rows: int
    loss: float
    accuracy: float | None


@dataclass(frozen=True)
class Point:
    """One network between the intact and the smallest one, as measured on the held-out samples after compensation.

    Args:
        units: Remaining units.
        parameters: Remaining parameters.
        macs: Remaining multiply-adds of one sample.
        loss: Mean over the held-out samples.
        accuracy: A fraction in [0, 1], or None where the targets are not classes.
        purpose: Why it was measured: "accepted" (the intact network, and those that the search accepted before its
            result), "result", "refused" (the search tried it and refused it), or "comparison" (no decision used it: it
            shows what more or less pruning would give).
    """

    units: int
    parameters: int
    macs: int
    loss: float
    accuracy: float | None
    purpose: str = "accepted"


@dataclass(frozen=True)
class PredictedPoint:
    """One network between the intact and the smallest one, with the loss that the criterion predicts for it.

    The loss is that of the intact network on the held-out samples plus the scores of all removed units, each at its
    turn in its group. The scores are from the other calibration samples, and as exact as the criterion: `obs` is of
    second order, with the remaining units of the group refitted. What removals in one group change for another is
    ignored.

    Args:
        units: Remaining units.
        parameters: Remaining parameters.
        macs: Remaining multiply-adds of one sample.
        loss: The predicted loss.
    """

    units: int
    parameters: int
    macs: int
    loss: float


@dataclass(frozen=True)
class GroupRecord:
    """One group of units: what it is, the score of each unit, and which units were removed.

    Args:
        name: The group's name.
        kind: What its units are: "channel", "unit", "head" and so on.
        units: How many it had.
        removed: Indices of the removed units, ascending.
        saliency: The score of each unit by the report's criterion, (units,).
        consumers: The modules that read the group.
        approximate: Whether a normalisation takes statistics over its units, so that removing some is approximate.
        order: The units in the order of removal: those removed first, then, where it is known, those kept in the
            order in which they would be removed next. Empty where it is not known: then it is that of the saliencies.
    """

    name: str
    kind: str
    units: int
    removed: list[int]
    saliency: list[float]
    consumers: list[str]
    approximate: bool = False
    order: list[int] = field(default_factory=list)

    @property
    def kept(self) -> int:
        """How many units were kept."""
        return self.units - len(self.removed)


@dataclass(frozen=True)
class Report:
    """Everything that is known about one prune; `to_dict` is what `report.json` holds.

    Args:
        model: Name of the model's class.
        budget: What was asked for, as text.
        criterion: What ranked the units.
        compensation: How the remaining weights were changed.
        loss_name: The loss.
        evaluated_on: What `before` and `after` were measured on: "test" samples that no decision used, or the
            "held-out" part of the calibration data.
        rows: How many samples those are.
        calibration_rows: Samples of calibration data.
        before: The intact network, as measured.
        after: The pruned network, as measured.
        predicted_loss: The loss before plus the increase that was predicted from the calibration data, or None.
        difference: The largest difference between the pruned network and its gated original, relative to the largest
            absolute output of the latter. Where the width was pruned, the gated original normalises over the remaining
            units, as the pruned network does.
        tolerance: What `difference` must not exceed.
        groups: What happened to each group.
        approximation: Where the width was pruned, the difference from a gated original that normalises over all units.
        curve: The intact network, each that the search tried, and those measured for comparison, on the held-out
            calibration samples, most units first.
        predicted_curve: The curve that the criterion predicts, from the intact network through the result to the
            smallest, most units first; empty where its scores are not in the unit of the loss.
        left_alone: Pairs of what was not pruned and the reason.
        notes: Further facts, in sentences.
        seconds: The duration of each step.
        settings: The options of the prune.
        environment: Versions, machine, device and date.
    """

    model: str
    budget: str
    criterion: str
    compensation: str
    loss_name: str
    evaluated_on: str
    rows: int
    calibration_rows: int
    before: Measures
    after: Measures
    predicted_loss: float | None
    difference: float
    tolerance: float
    groups: list[GroupRecord]
    approximation: float | None = None
    curve: list[Point] = field(default_factory=list)
    predicted_curve: list[PredictedPoint] = field(default_factory=list)
    left_alone: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """One sentence that says both what was kept and what was removed."""
        total = sum(group.units for group in self.groups)
        removed = sum(len(group.removed) for group in self.groups)
        kept = 100 * (total - removed) / total if total else 100.0
        groups, pruned = counted(len(self.groups), "group"), sum(bool(group.removed) for group in self.groups)
        groups = groups if pruned == len(self.groups) else f"{pruned} of {groups}"
        return f"keeps {kept:.3g} % of the units: removes {removed:,} of {total:,} in {groups}"

    def to_dict(self) -> dict[str, Any]:
        """The report as nested dicts and lists, with its headline."""
        return {"headline": self.headline, **dataclasses.asdict(self)}

    def to_json(self) -> str:
        """The text of `report.json`: valid JSON, in which NaN and infinities are null."""
        return json_text(self.to_dict(), indent=2) + "\n"

    def __str__(self) -> str:
        lines = [f"{self.model}: {self.headline}", f"{'':14}{'before':>14}{'after':>14}"]
        for name, before, after in rows(self.before, self.after):
            if name != "accuracy" or self.after.accuracy is not None:
                lines.append(f"{name:14}{before:>14}{after:>14}")
        lines.append(f"measured on {counted(self.rows, 'sample')} ({self.evaluated_on})")
        if self.predicted_loss is not None:
            lines.append(f"predicted loss {self.predicted_loss:.4g}, measured {self.after.loss:.4g}")
        lines.append(
            f"difference from the original with the removed units masked: {self.difference:.2g} relative (tolerance "
            f"{self.tolerance:.0e})"
        )
        lines += [f"not pruned: {name}: {reason}" for name, reason in self.left_alone]
        return "\n".join([*lines, *self.notes])


def rows(before: Measures, after: Measures) -> list[tuple[str, str, str]]:
    """The before/after table as text: (quantity, before, after)."""

    def accuracy(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.2f} %"

    return [
        ("units", f"{before.units:,}", f"{after.units:,}"),
        ("parameters", f"{before.parameters:,}", f"{after.parameters:,}"),
        ("multiply-adds", f"{before.macs:,}", f"{after.macs:,}"),
        ("size on disk", _bytes(before.bytes), _bytes(after.bytes)),
        ("memory", _bytes(before.memory), _bytes(after.memory)),
        ("latency", _seconds(before.latency), _seconds(after.latency)),
        ("loss", f"{before.loss:.4g}", f"{after.loss:.4g}"),
        ("accuracy", accuracy(before.accuracy), accuracy(after.accuracy)),
    ]


def _bytes(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.4g} {unit}"
        value /= 1000
    return f"{value:.4g} GB"


def _seconds(value: float) -> str:
    return f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} µs"
