"""Figures of the experiment `storage`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _rows(results: Results) -> list[tuple[str, str, list[dict[str, Any]], str]]:
    """(label, form, the records of each seed, colour)."""
    found = []
    for share in results[0]["sparse"]:
        for place, (form, colour) in enumerate((("zeroed", FAINT), ("sparse", PREDICTED))):
            found.append((f"{form}, {float(share):.0%} of weights", form,
                          [each["sparse"][share]["rows"][place] for each in results], colour))  # fmt: skip
    forms = [row["form"] for row in results[0]["unit_rows"]]
    for form, colour in (("zeroed", FAINT), ("sparse", PREDICTED), ("cut", KEPT)):
        rows = [each["unit_rows"][forms.index(form)] for each in results]
        found.append((f"{form}, 4-7-26 units", form, rows, colour))
    return found


def _value(row: dict[str, Any], label: str, batch: str) -> float:
    if label.startswith("milliseconds"):
        return float(row["milliseconds"][batch])
    return float(row["memory_bytes" if "memory" in label else "disk_bytes"]) / 1000


def forms(whole: Figure, results: Results) -> None:
    """Bytes and milliseconds of every form."""
    panels = whole.subplots(1, 3, sharey=True)
    rows = _rows(results)
    batch = list(results[0]["unit_rows"][0]["milliseconds"])
    labels = ("bytes in memory (thousands)", "bytes on disk (thousands)", f"milliseconds, {batch[-1]} samples")
    for axes, label in zip(panels, labels, strict=True):
        for i, (_, _, records, colour) in enumerate(rows):
            found = [_value(record, label, batch[-1]) for record in records]
            axes.barh(i, np.mean(found), color=colour, height=0.7)
            axes.plot([min(found), max(found)], [i, i], color=INK, linewidth=1)
        axes.set_xlabel(label)
    panels[0].axvline(20522 * 4 / 1000, color=REMOVED, linestyle=":", label="dense: 20,522 x 4 bytes")
    panels[0].legend(frameon=False, fontsize=6, loc="lower right")
    panels[0].set_yticks(range(len(rows)), [label for label, *_ in rows], fontsize=7)
    panels[0].invert_yaxis()


def training(whole: Figure, results: Results) -> None:
    """Seconds of an epoch, dense and cut."""
    axes = whole.subplots()
    for i, (name, label) in enumerate((("dense", "dense, 8-16-64 units"), ("cut", "cut, 4-7-26 units"))):
        found = [each["epoch_seconds"][name] for each in results]
        axes.scatter(found, [i] * len(found), color=KEPT, s=16, label="a seed" if i == 0 else None)
        axes.scatter([np.mean(found)], [i], color=REMOVED, marker="|", s=140, label="mean" if i == 0 else None)
        axes.text(np.mean(found), i + 0.25, label, fontsize=7, ha="center")
    axes.set_yticks([])
    axes.set(xlabel="seconds of an epoch of MNIST, one core, batches of 32", ylim=(-0.6, 1.6))
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=7)


PICTURES = (
    Picture("forms", "Zeroed, sparse and cut, means over seeds with their range.", (8.5, 3.4), forms),
    Picture("training", "Training before and after units are cut.", (5.5, 2.2), training),
)
