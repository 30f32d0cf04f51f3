"""Quick runs of experiments, each computed once in a process."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from deadhead.lab.experiments import EXPERIMENTS, run_experiment
from deadhead.lab.findings import drawn, filled


@functools.cache
def quick(name: str, seed: int = 0) -> dict[str, Any]:
    """Results of the quick run of an experiment; not to be changed."""
    return run_experiment(name, quick=True, seed=seed)


def drawn_all(name: str) -> None:
    """Draw every figure of an experiment, the ends of its films, and fill its sentences, from its quick run."""
    entry, results = EXPERIMENTS[name], [quick(name)]
    for sentence in (entry.takeaway, *(claim.why for claim in entry.claims)):
        assert "{" not in filled(sentence, results, dict.fromkeys(entry.variants, results))
    for picture in entry.pictures:
        for frame in [(0,), (picture.frames - 1,)] if picture.frames else [()]:
            png = drawn(picture.size, partial(_draw, picture.draw, results, frame), dpi=40)
            assert png.startswith(b"\x89PNG")


def _draw(draw: Callable[..., None], results: Sequence[Any], frame: Sequence[int], whole: Figure) -> None:
    draw(whole, results, *frame)
