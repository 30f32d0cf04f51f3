"""The loss that a criterion's scores predict along a path of smaller networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from deadhead.pruning.record import PredictedPoint
from deadhead.scores.criterion import Criterion
from deadhead.select.path import Path
from deadhead.select.sizes import Sizes


def predicts_loss(criterion: Criterion, options: Mapping[str, Any]) -> bool:
    """Whether scores of a criterion, under these options, estimate by how much the mean loss rises: absolute values do
    not, nor errors of outputs that are not weighted by the loss.

    >>> from deadhead.scores import CRITERIA
    >>> [predicts_loss(CRITERIA[name], {}) for name in ("obs", "taylor1", "mrs", "magnitude")]
    [True, True, False, False]
    >>> predicts_loss(CRITERIA["obs"], {"output_weight": "none"})
    False
    """
    return criterion.increase and not options.get("absolute") and options.get("output_weight", "loss") == "loss"


def predicted_curve(
    path: Path, saliencies: Mapping[str, Tensor], sizes: Sizes, intact: float, numbers: Sequence[int]
) -> list[PredictedPoint]:
    """`intact + sum_g sum_{i < k_g} s_gi` after these numbers of steps: the loss of the intact network, and the `k_g`
    smallest saliencies `s_g` of each group that has lost `k_g` units, tied groups each with their own. Nothing is
    measured: sizes are counted, and saliencies are those of the intact network, in the unit of the loss."""
    lost = {name: [0.0, *value.double().sort().values.cumsum(0).tolist()] for name, value in saliencies.items()}
    found = []
    for number in numbers:
        counts = path.counts(number)
        loss = intact + sum(lost[name][count] for name, count in counts.items())
        found.append(PredictedPoint(sizes.units(counts), sizes.parameters(counts), sizes.macs(counts), loss))
    return found
