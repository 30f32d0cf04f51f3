"""The history of a training run: what was measured at each step, as arrays, JSON and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deadhead.errors import DataError, LoadError
from deadhead.files import json_text, write_together
from deadhead.training.watching.histograms import Histogram

SERIES = {
    "mrp": "mean replacement penalty",
    "mrs": "mean replacement saliency",
    "output_gradient": "L1 norm of the gradient at the output",
    "incoming": "L1 norm of the incoming weights",
    "outgoing": "L1 norm of the outgoing weights",
    "incoming_gradient": "L1 norm of the incoming weights' gradient",
}
"""{name: what it is}, a number for each unit at each measurement."""

HISTOGRAMS = {"output": "raw output", "read": "what consumers read"}
"""{name: of what}: before and after the nonlinearity."""

HISTOGRAMS_HELD = 64
"""At most so many measurements hold their histograms in memory; then every second of them lets go of its own."""


@dataclass(frozen=True)
class Measured:
    """What was measured of one group at one step.

    Attributes:
        values: {name of `SERIES`: a number for each unit, (K,), float64}; NaN where it was not measured.
        histograms: {name of `HISTOGRAMS`: the units' values}.
        dead: the dead units.
        frozen: the frozen units.
        causes: {dead unit: its cause}.
        thresholds: {"dead": ..., "frozen": ..., "by": ...}, as in `Thresholds`.
        revived: the units that were re-initialised after this measurement.
    """

    values: Mapping[str, Tensor]
    histograms: dict[str, Histogram] = field(default_factory=dict)
    dead: Sequence[int] = ()
    frozen: Sequence[int] = ()
    causes: Mapping[int, str] = field(default_factory=dict)
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    revived: Sequence[int] = ()

    def plain(self) -> dict[str, Any]:
        """All of it as numbers, texts, lists and dicts."""
        return {
            **{name: value.tolist() for name, value in self.values.items()},
            "histograms": {
                name: {"low": each.low, "high": each.high, "counts": each.counts.tolist()}
                for name, each in self.histograms.items()
            },
            "dead": list(self.dead),
            "frozen": list(self.frozen),
            "causes": dict(self.causes),
            "thresholds": dict(self.thresholds),
            "revived": list(self.revived),
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Measured:
        """What `plain` gave."""

        def numbers(values: Sequence[Any]) -> Tensor:
            return torch.tensor([torch.nan if each is None else each for each in values], dtype=torch.float64)

        return cls(
            {name: numbers(plain[name]) for name in SERIES},
            {
                name: Histogram(each["low"], each["high"], torch.tensor(each["counts"], dtype=torch.int32))
                for name, each in plain["histograms"].items()
            },
            plain["dead"],
            plain["frozen"],
            {int(unit): cause for unit, cause in plain["causes"].items()},
            plain["thresholds"],
            plain["revived"],
        )


@dataclass(frozen=True)
class Record:
    """One measurement.

    Attributes:
        step: after how many steps of the optimizer.
        loss: the mean loss on the probe; NaN where it was not finite.
        groups: {group: what was measured}; empty where the loss was not finite.
    """

    step: int
    loss: float
    groups: Mapping[str, Measured]

    def line(self) -> str:
        """The record as one line of JSON; numbers that are not finite are null."""
        groups = {name: measured.plain() for name, measured in self.groups.items()}
        return json_text({"step": self.step, "loss": self.loss, "groups": groups})

    @classmethod
    def of_line(cls, line: str) -> Record:
        """The record that `line` wrote."""
        plain = json.loads(line)
        loss = torch.nan if plain["loss"] is None else float(plain["loss"])
        return cls(int(plain["step"]), loss, {name: Measured.of(each) for name, each in plain["groups"].items()})


class History:
    """Measurements in the order in which they were made.

    Attributes:
        records: the measurements.

    Example:
        >>> history = History()
        >>> for step in (0, 50):
        ...     mrs = torch.tensor([1.0, step], dtype=torch.float64)
        ...     history.add(Record(step, 0.5, {"conv1": Measured({"mrs": mrs})}))
        >>> history.steps, history.loss
        ([0, 50], [0.5, 0.5])
        >>> history.series("conv1", "mrs")
        tensor([[ 1.,  0.],
                [ 1., 50.]], dtype=torch.float64)
    """

    def __init__(self, records: Sequence[Record] = ()) -> None:
        self.records: list[Record] = []
        self._ranges: dict[tuple[str, str], tuple[float, float]] = {}
        for record in records:
            self.add(record)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def steps(self) -> list[int]:
        """After how many optimizer steps each measurement was made."""
        return [record.step for record in self.records]

    @property
    def loss(self) -> list[float]:
        """The mean loss on the probe at each measurement; NaN where it was not finite."""
        return [record.loss for record in self.records]

    @property
    def groups(self) -> list[str]:
        """The groups that were measured."""
        return list(dict.fromkeys(name for record in self.records for name in record.groups))

    def add(self, record: Record) -> None:
        """Append a measurement; histograms of earlier ones are widened to its bins where these are wider."""
        for name, measured in record.groups.items():
            for kind, new in measured.histograms.items():
                if self._ranges.get((name, kind)) != (new.low, new.high):
                    self._widen(name, kind, new)
                    self._ranges[name, kind] = (new.low, new.high)
        self.records.append(record)
        held = [each for each in self.records if any(measured.histograms for measured in each.groups.values())]
        if len(held) > HISTOGRAMS_HELD:
            for each in held[1:-1:2]:
                for measured in each.groups.values():
                    measured.histograms.clear()

    def _widen(self, name: str, kind: str, new: Histogram) -> None:
        for record in self.records:
            held = record.groups[name].histograms if name in record.groups else {}
            if kind in held:
                held[kind] = held[kind].reaching(new.low, new.high)

    def series(self, group: str, name: str) -> Tensor:
        """A number for each unit through time: (measurements, units), float64; NaN where it was not measured.

        After a cut in place the remaining units are numbered anew, and the columns that are too many are NaN.

        Args:
            group: the group's name.
            name: "mrp", "mrs", "output_gradient", "incoming", "outgoing" or "incoming_gradient".

        Raises:
            DataError: there is no such group or series.
        """
        if group not in self.groups:
            raise DataError(f"The history has no group {group!r}; it has: {', '.join(self.groups) or 'none yet'}.")
        if name not in SERIES:
            raise DataError(f"There is no series {name!r}; the series are {', '.join(SERIES)}.")
        found = [each.groups[group].values.get(name) if group in each.groups else None for each in self.records]
        width = max((len(each) for each in found if each is not None), default=0)
        result = torch.full((len(found), width), torch.nan, dtype=torch.float64)
        for row, values in zip(result, found, strict=True):
            if values is not None:
                row[: len(values)] = values
        return result

    def histograms(self, group: str, name: str = "output") -> tuple[list[int], Tensor, Tensor]:
        """The histograms of a group through time, in the same bins at all times.

        Args:
            group: the group's name.
            name: "output" for raw outputs, before the nonlinearity; "read" for what consumers read, after it.

        Returns:
            The steps; the edges of the bins, (B + 1,); the counts, (measurements, K, B). Measurements of another number
            of units than the last one are left out.

        Raises:
            DataError: there are no such histograms.
        """
        found = [
            (each.step, each.groups[group].histograms[name])
            for each in self.records
            if group in each.groups and name in each.groups[group].histograms
        ]
        if not found:
            raise DataError(
                f"The history has no histograms {name!r} of {group!r}; there are {', '.join(HISTOGRAMS)} of "
                f"{', '.join(self.groups) or 'no groups yet'}."
            )
        last = found[-1][1]
        kept = [(step, each) for step, each in found if each.counts.shape == last.counts.shape]
        return [step for step, _ in kept], last.edges, torch.stack([each.counts for _, each in kept])

    def save(self, folder: str | Path) -> None:
        """Write `history.json` into a folder: every record, as `read_history` reads it.

        Raises:
            OSError: the folder cannot be made or written.
        """
        write_together({Path(folder, "history.json"): self.text()})

    def text(self) -> str:
        """All records as a JSON list, one record a line."""
        return "[\n" + ",\n".join(record.line() for record in self.records) + "\n]\n"


def read_history(path: str | Path) -> History:
    """Read a history back, from `history.json` or from the JSON lines that a run appends.

    Of several records of the same step, as when a run was resumed, the last one counts. A line that a killed run left
    incomplete is left out.

    Args:
        path: the file.

    Raises:
        LoadError: the file is no history.
        OSError: it cannot be read.

    Example:
        >>> import tempfile
        >>> history = History([Record(0, 0.5, {})])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     history.save(folder)
        ...     read_history(Path(folder, "history.json")).loss
        [0.5]
    """
    text = Path(path).read_text(encoding="utf-8")
    lines = [line.rstrip(",") for line in text.splitlines() if line.strip() not in ("", "[", "]")]
    records: dict[int, Record] = {}
    for place, line in enumerate(lines):
        try:
            record = Record.of_line(line)
        except json.JSONDecodeError:
            continue
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LoadError(f"{path} is no history: line {place + 1} is no record; give a file of a watch.") from error
        records[record.step] = record
    if lines and not records:
        raise LoadError(f"{path} is no history: no line of it is a record; give a file of a watch.")
    return History(sorted(records.values(), key=lambda record: record.step))
