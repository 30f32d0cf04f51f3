"""`score`: what each unit is worth by a criterion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.data.opened import opened
from deadhead.graph.network import Network
from deadhead.progress import Progress
from deadhead.scores.criterion import Question, ask, find


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
    adjustments: Mapping[str, Tensor] | None = None,
    output_weight: str = "loss",
    samples: int = 4096,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """What each unit is worth by a criterion: `{group name: tensor of K saliencies}`, in forward order.

    `data` is any iterable of batches, of which up to `samples` rows are read; `loss` a name, a torch.nn loss or a
    callable (outputs, batch) to a loss per sample. `reference` is what a closed unit is replaced by: zero; its mean,
    median, min or max over data and positions; with `baseline`, its mean over the rows and positions of an input like
    the model's (a blank image, say); unless the criterion's definition fixes it. It is closed where its consumers read
    it or, with `site="producer"`, where it is made: the raw output of a linear or convolutional layer, before batch
    norm, pool and nonlinearity, as in 003. `absolute` takes absolute values of signed criteria. With `threshold`, mean
    or median, each estimate whose absolute value is over `threshold_at` times the mean (median) of absolute values is
    replaced by the mean (median). `adjustments` are what `watch` recorded in training, for the criterion `gradient`.
    `obs` weights the errors of what consumers give by the curvature of the loss, or with `output_weight="none"` all
    alike, and is then in their unit. The saliencies are float64, in the unit of the loss for criteria that judge by it.

    Raises `DataError`, `LossError` or `TraceError`, and leaves the model as it was.

    Source: the documents' criteria as questions about gates; each criterion's own docstring names its own.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> data = [(torch.randn(8, 2), torch.randint(2, (8,)))]
    >>> score(model, data, loss="cross_entropy", criterion="magnitude")["0"].shape
    torch.Size([3])
    """
    find(criterion)
    asked, batches, network = opened(model_or_network, data, loss, samples)
    question = Question(
        network, network.groups, batches, asked, reference, seed, progress, baseline=baseline, site=site,
        absolute=absolute, threshold=threshold, threshold_at=threshold_at, adjustments=adjustments,
        output_weight=output_weight,
    )  # fmt: skip
    return ask(question, criterion)
