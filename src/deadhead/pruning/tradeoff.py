"""The loss against the size around the result of a prune: predicted all along, measured at a few sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from deadhead.progress import Progress, track
from deadhead.pruning.candidates import Candidates
from deadhead.pruning.predicted_curve import predicted_curve
from deadhead.pruning.record import PredictedPoint
from deadhead.select.path import Path
from deadhead.select.plan import Plan

PLACES = 20
"""At so many sizes on either side of the result a loss is predicted."""


def trade_off(
    candidates: Candidates,
    path: Path,
    result: Plan,
    saliencies: Mapping[str, Tensor],
    wanted: int,
    progress: Progress | None = None,
) -> list[PredictedPoint]:
    """Measure up to `wanted` networks of a path beside its result, and predict the loss all along by the saliencies of
    the intact network; nothing is predicted where `saliencies` is empty.

    Networks beside are chosen and compensated as the result was, where `Path.beside` says; the points are added to
    those of the candidates. One that cannot be made is skipped, and nothing else of the candidates changes. `result` is
    the plan as it was ranked, before its units were chosen again.
    """
    beside = _measure(candidates, path, result, wanted, progress) if wanted else []
    if not saliencies:
        return []
    return predicted_curve(
        path, saliencies, candidates.sizes, candidates.intact.loss, sorted({*path.places(PLACES), *beside})
    )


def _measure(candidates: Candidates, path: Path, result: Plan, wanted: int, progress: Progress | None) -> list[int]:
    """After how many steps the networks stand that were to be measured."""
    quiet = replace(candidates, problem=replace(candidates.problem, progress=None), points=list(candidates.points))
    total = candidates.sizes.units({})
    try:
        _ = quiet.intact
        if all(point.units != total - result.count for point in quiet.points):
            quiet.measure(result)
    except Exception:  # nobody asked for these points, so that no failure of one may cost the result
        return []
    candidates.points[:] = quiet.points
    numbers = path.beside(wanted, {total - point.units for point in candidates.points})
    for number in track(progress, "curve", numbers):
        try:
            candidates.points.append(replace(quiet.measure(path.plan(number, result)), purpose="comparison"))
        except Exception:
            continue
    return numbers
