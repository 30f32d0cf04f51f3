"""`score`: the saliency of each unit by a criterion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from deadhead.data.opened import opened
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network
from deadhead.progress import Progress
from deadhead.scores.criterion import Question, ask, options_of
from deadhead.scores.result import Scores


@torch.inference_mode(False)
def score(
    model_or_network: nn.Module | Network,
    data: Iterable[Any],
    *,
    loss: Any,
    criterion: str = "mrs",
    reference: str = "zero",
    baseline: Any = None,
    site: str = "consumer",
    absolute: bool = False,
    threshold: str | None = None,
    threshold_at: float = 3.0,
    samples: int = 4096,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> Scores:
    """Score every unit by a criterion.

    Args:
        model_or_network: a module, traced with the first batch, or a `Network`; it is left as it was.
        data: any iterable of batches, `(inputs, targets)` or the dicts that the model takes.
        loss: a name, a torch.nn loss, or a callable (outputs, batch) to a loss for each sample.
        criterion: its name; `deadhead score --help` lists them with their options.
        reference: what a closed unit is replaced by: zero, its mean, median, min or max over samples and positions,
            or its mean under a `baseline`. Where a criterion's definition fixes it (mrs, mrp: mean), that is used.
        baseline: an input like the model's, a blank image say, for reference="baseline".
        site: "consumer": a unit is closed where it is read; "producer": where a layer gives it, before batch norm,
            pool and nonlinearity, as Evci (2018) does.
        absolute: take absolute values of signed scores.
        threshold: mean or median: scores larger in absolute value than `threshold_at` times the mean (median) of
            absolute values are replaced by the mean (median).
        threshold_at: that factor.
        samples: at most so many samples of the data are read.
        seed: of whatever a criterion draws at random.
        progress: called with (step, done, total).
        options: those of the criterion itself, such as `output_weight` of obs or `adjustments` of gradient.

    Returns:
        {group: (K,)}, a dict that prints as a table; float64, groups in forward order; in the unit of the loss for
        criteria that judge by it.

    Raises:
        DataError, LossError, TraceError: where the question cannot be answered.

    Source:
        each criterion's own docstring names its source.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> data = [(torch.randn(8, 2), torch.randint(2, (8,)))]
        >>> score(model, data, loss="cross_entropy", criterion="magnitude")["0"].shape
        torch.Size([3])
    """
    options_of(criterion, options)
    loss_function, batches, network = opened(model_or_network, data, loss, samples)
    question = Question(
        PrunedState.of(network), network.groups, batches, loss_function, reference=reference, seed=seed,
        progress=progress, baseline=baseline, site=site, absolute=absolute, threshold=threshold,
        threshold_at=threshold_at,
    )  # fmt: skip
    return Scores(ask(question, criterion, **options))
