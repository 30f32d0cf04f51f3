"""What a prune did, in numbers: plain data that the report tables, figures and pages are made from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measures:
    """Size, speed and quality of one network, as measured.

    `units` counts the removable units, `parameters` the entries of all parameter tensors (tied ones once), `macs` the
    multiply-adds of one input row, `bytes` the size on disk of the weights as safetensors, `memory` the bytes of
    parameters, buffers and the most activations of one row that are alive at once, `latency` the median seconds of one
    forward pass over `latency_rows` rows. `loss` is the mean over rows, `accuracy` a fraction in
    [0, 1], or None where the targets are not classes.
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
    """One place on the way from the intact network to the pruned one: what is left there, in units, parameters and
    multiply-adds of a row, and the loss and accuracy that were measured on the held-out rows, compensated.

    `purpose` says why it was measured: on the "way" (the intact network, too), as the "result", because it was tried
    and "refused", or, deciding nothing, as an "aside" to show what more or less pruning would give.
    """

    units: int
    parameters: int
    macs: int
    loss: float
    accuracy: float | None
    purpose: str = "way"


@dataclass(frozen=True)
class Forecast:
    """One place on the curve that a criterion predicts from the scores of the intact network, without measuring: the
    sizes there, and the loss of the intact network on the held-out rows plus the scores of all units that go, each at
    its turn in its group.

    The scores are from the other calibration rows, and as exact as the criterion: `obs` is of second order, with the
    rest of the group taking over. What removals in one group change for another is left out.
    """

    units: int
    parameters: int
    macs: int
    loss: float


@dataclass(frozen=True)
class GroupRecord:
    """One group of units: what it is, what each unit was found to be worth, and which units went.

    `saliency[k]` is the score of unit k by the report's criterion, `removed` lists unit indices in ascending order,
    `consumers` names the modules that read the group. Where a normalisation takes statistics over its units, taking
    some off is `approximate`.
    """

    name: str
    kind: str
    units: int
    removed: list[int]
    saliency: list[float]
    consumers: list[str]
    approximate: bool = False

    @property
    def kept(self) -> int:
        return self.units - len(self.removed)


@dataclass(frozen=True)
class Report:
    """Everything that is known about one prune; `to_dict` is what `report.json` holds.

    `before` and `after` were measured on `rows` rows of `evaluated_on` ("test" rows that no decision saw, or the
    "held-out" part of the calibration data). `predicted_loss` is the loss before plus the increase that the
    calibration data foretold. `difference` is verify's largest difference between the pruned network and its
    gated original, relative to the largest absolute output of the latter; it must not exceed `tolerance`. Where the
    width was pruned, the gated original normalises over what is left, as the pruned network does; `approximation` is
    the difference from one that goes on normalising over all units. `curve` has a point for the intact network, one
    for each time that a plan was tried, and those measured beside, on the held-out part of the calibration rows, most
    units first. `forecast` is the curve that the criterion predicts, from the intact network through the result to the
    smallest one, most units first; empty where its scores are not in the unit of the loss. `left_alone` pairs what was
    not pruned with the reason. `seconds` has the duration of each step.
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
    forecast: list[Forecast] = field(default_factory=list)
    left_alone: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """One sentence that cannot be read the wrong way round: what stays and what goes."""
        total = sum(group.units for group in self.groups)
        removed = sum(len(group.removed) for group in self.groups)
        kept = 100 * (total - removed) / total if total else 100.0
        groups = "1 group" if len(self.groups) == 1 else f"{len(self.groups)} groups"
        return f"keeps {kept:.3g} % of the units: removes {removed:,} of {total:,} in {groups}"

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON types, with its headline."""
        return {"headline": self.headline, **dataclasses.asdict(self)}

    def __str__(self) -> str:
        lines = [f"{self.model}: {self.headline}", f"{'':14}{'before':>14}{'after':>14}"]
        for name, before, after in rows(self.before, self.after):
            lines.append(f"{name:14}{before:>14}{after:>14}")
        if self.predicted_loss is not None:
            lines.append(f"predicted loss {self.predicted_loss:.4g}, measured {self.after.loss:.4g}")
        lines.append(f"pruned against gated: {self.difference:.2g} relative (tolerance {self.tolerance:.0e})")
        lines += [f"left alone: {name}: {reason}" for name, reason in self.left_alone]
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
    return f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} us"
