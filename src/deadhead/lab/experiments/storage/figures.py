"""Figures of the experiment `storage`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deadhead.drawing import FAINT, INK, KEPT, PREDICTED, REMOVED
from deadhead.lab.experiment import Picture
from deadhead.lab.judges import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Row = tuple[str, str, list[tuple[float, float, float]]]


def _rows(results: Results) -> list[Row]:
    """(label, colour, bytes in memory, bytes on disk and milliseconds of each seed) of every form."""
    colours, found = {"zeroed": FAINT, "sparse": PREDICTED, "cut": KEPT}, list[Row]()
    for share in results[0]["sparse"]:
        records = [(each["sparse"][share]["bytes"], each["sparse"][share]["seconds"]) for each in results]
        found += [
            (f"{form}, {float(share):.0%} of weights", colours[form], _of(form, records))
            for form in ("zeroed", "sparse")
        ]
    records = [(each["unit_bytes"], each["unit_seconds"]) for each in results]
    return [*found, *((f"{form}, 4-7-26 units", colour, _of(form, records)) for form, colour in colours.items())]


def _of(form: str, records: list[tuple[Any, Any]]) -> list[tuple[float, float, float]]:
    return [
        (size[form]["memory"] / 1e3, size[form]["disk"] / 1e3, 1e3 * seconds[form][-1]) for size, seconds in records
    ]


def forms(whole: Figure, results: Results) -> None:
    """Bytes and milliseconds of every form."""
    panels = whole.subplots(1, 3, sharey=True)
    rows = _rows(results)
    labels = ("bytes in memory (thousands)", "bytes on disk (thousands)", "milliseconds, 64 samples")
    for place, (axes, label) in enumerate(zip(panels, labels, strict=True)):
        for i, (_, colour, records) in enumerate(rows):
            found = [record[place] for record in records]
            axes.barh(i, np.mean(found), color=colour, height=0.7)
            axes.plot([min(found), max(found)], [i, i], color=INK, linewidth=1)
        axes.set_xlabel(label)
    dense = [1e3 * each["sparse"][share]["seconds"]["dense"][-1] for each in results for share in each["sparse"]]
    panels[2].axvline(np.mean(dense), color=REMOVED, linestyle=":")
    panels[0].axvline(20522 * 4 / 1000, color=REMOVED, linestyle=":", label="dense network")
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
