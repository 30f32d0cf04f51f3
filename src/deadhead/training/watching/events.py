"""Measurements in TensorBoard: scalars for each unit, and histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from deadhead.errors import DataError
from deadhead.training.watching.histograms import Histogram
from deadhead.training.watching.history import Record

UNITS_SHOWN = 16
"""Of a group whose units were not chosen, the first so many are shown one by one."""


class TensorBoard:
    """What writes records to TensorBoard.

    The tags are `loss`, `dead/GROUP` and `frozen/GROUP` (how many units), and for each unit `SERIES/GROUP/UNIT` and the
    histograms `output/GROUP/UNIT` and `read/GROUP/UNIT`. Of a group of more than `UNITS_SHOWN` units the first ones are
    shown, or those that `units` names.

    Args:
        to: the folder of the events, or a `torch.utils.tensorboard.SummaryWriter`, which stays the caller's to close.
        units: {group: the units that are shown}.

    Raises:
        DataError: the package tensorboard is not installed, or `to` is neither.
    """

    def __init__(self, to: Any, units: Mapping[str, Sequence[int]] | None = None) -> None:
        self._units = units or {}
        self._own = isinstance(to, (str, Path))
        if self._own:
            to = _writer(str(to))
        elif not hasattr(to, "add_histogram_raw"):
            raise DataError(
                f"tensorboard is a folder or a torch.utils.tensorboard.SummaryWriter, not a {type(to).__name__}: give "
                'a folder such as "runs/1".'
            )
        self._to = to

    def write(self, record: Record) -> None:
        """Write one record; numbers that were not measured are left out."""
        if record.loss == record.loss:
            self._to.add_scalar("loss", record.loss, record.step)
        for name, measured in record.groups.items():
            self._to.add_scalar(f"dead/{name}", len(measured.dead), record.step)
            self._to.add_scalar(f"frozen/{name}", len(measured.frozen), record.step)
            for series, values in measured.values.items():
                for unit in self._shown(name, len(values)):
                    if bool(torch.isfinite(values[unit])):
                        self._to.add_scalar(f"{series}/{name}/{unit}", float(values[unit]), record.step)
            for kind, histogram in measured.histograms.items():
                for unit in self._shown(name, len(histogram.counts)):
                    self._histogram(f"{kind}/{name}/{unit}", histogram, unit, record.step)
        self._to.flush()

    def _shown(self, group: str, size: int) -> Sequence[int]:
        return [unit for unit in self._units.get(group, range(min(size, UNITS_SHOWN))) if unit < size]

    def _histogram(self, tag: str, histogram: Histogram, unit: int, step: int) -> None:
        """Sums are those of the bins' centres: the values themselves are not kept."""
        counts, edges = histogram.counts[unit].double(), histogram.edges
        centres = (edges[:-1] + edges[1:]) / 2
        if not counts.any():
            return
        self._to.add_histogram_raw(
            tag, min=histogram.low, max=histogram.high, num=int(counts.sum()), sum=float(counts @ centres),
            sum_squares=float(counts @ centres.square()), bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(), global_step=step,
        )  # fmt: skip

    def close(self) -> None:
        """Close a writer that was opened here."""
        if self._own:
            self._to.close()


def _writer(folder: str) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DataError(
            "tensorboard= needs the package tensorboard, which is not installed: pip install tensorboard, or give "
            "folder= for JSON lines."
        ) from error
    return SummaryWriter(folder)
