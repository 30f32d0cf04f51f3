"""What could be had around the result of a prune: the loss against the size, foretold all along and measured here and
there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from deadhead.progress import Progress, track
from deadhead.pruning.candidates import Candidates
from deadhead.pruning.forecast import forecast
from deadhead.pruning.record import Forecast
from deadhead.select.path import Path
from deadhead.select.plan import Plan

PLACES = 20
"""At so many places on either side of the result a loss is foretold."""


def trade_off(
    candidates: Candidates,
    path: Path,
    result: Plan,
    saliencies: Mapping[str, Tensor],
    wanted: int,
    progress: Progress | None = None,
) -> list[Forecast]:
    """Measure up to `wanted` networks of a path beside its result, and foretell the loss all along by the saliencies of
    the intact network; none are foretold where `saliencies` is empty.

    Networks beside are chosen and compensated as the result was, where `Path.beside` says; the points are added to
    those of the candidates. One that cannot be had is left out, and nothing else of the candidates changes. `result` is
    the plan as it was ranked, before its units were chosen anew.
    """
    beside = _measure(candidates, path, result, wanted, progress) if wanted else []
    if not saliencies:
        return []
    return forecast(path, saliencies, candidates.sizes, candidates.intact.loss, sorted({*path.places(PLACES), *beside}))


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
            candidates.points.append(replace(quiet.measure(path.plan(number, result)), purpose="aside"))
        except Exception:
            continue
    return numbers
