"""The registry of criteria, and `score`, which asks one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.calibration import Batch, as_batch, read
from deadhead.errors import DataError, LossError
from deadhead.gates import Gates, References
from deadhead.graph.network import Network, trace
from deadhead.graph.units import Group
from deadhead.losses import Loss, as_loss
from deadhead.progress import Progress
from deadhead.statistics import medians, moments

REFERENCES = ("zero", "mean", "median", "min", "max", "baseline")


@dataclass(frozen=True)
class Question:
    """What a criterion is asked: the worth of each unit of `groups`, judged by `loss` on `batches`.

    `state`, `added` and `closed` describe a network of which units are gone already, as `Gates` takes them. `baseline`
    is the input under which activations are a reference.
    """

    network: Network
    groups: tuple[Group, ...]
    batches: Sequence[Batch]
    loss: Loss
    reference: str = "zero"
    seed: int = 0
    progress: Progress | None = None
    state: Mapping[str, Tensor] | None = None
    added: Mapping[str, Tensor] | None = None
    closed: Mapping[str, Tensor] | None = None
    baseline: Any = None

    def references(self) -> References:
        """The reference of each column at each consumer, as asked."""
        if self.reference == "zero":
            return {}
        gates = self.gates_without_references()
        if self.reference == "median":
            values = medians(gates, self.groups, self.batches, self.progress)
        else:
            seen = [as_batch((self.baseline,))] if self.reference == "baseline" else self.batches
            part = {"mean": "mean", "min": "least", "max": "greatest", "baseline": "mean"}[self.reference]
            found = moments(gates, self.groups, seen, self.progress)
            values = {name: [getattr(each, part) for each in at] for name, at in found.items()}
        return {
            group.name: [
                None if site.among else each for site, each in zip(group.consumers, values[group.name], strict=True)
            ]
            for group in self.groups
        }

    def gates(self) -> Gates:
        """Gates at the question's reference."""
        return Gates(self.network, self.loss, self.references(), self.state, self.added, self.closed)

    def gates_without_references(self) -> Gates:
        """Gates for a criterion that finds its reference on the way."""
        return Gates(self.network, self.loss, None, self.state, self.added, self.closed)


@dataclass(frozen=True)
class Criterion:
    """A criterion by name. `comparable` says whether scores of different groups are in the same unit (of the loss);
    `needs_data` whether it looks at data at all; `reference` is the reference that its definition fixes."""

    name: str
    function: Callable[[Question], dict[str, Tensor]]
    comparable: bool
    needs_data: bool
    needs_sample_losses: bool
    reference: str | None


CRITERIA: dict[str, Criterion] = {}


def criterion(
    name: str,
    *,
    comparable: bool = False,
    needs_data: bool = True,
    needs_sample_losses: bool = False,
    reference: str | None = None,
) -> Callable[[Callable[[Question], dict[str, Tensor]]], Callable[[Question], dict[str, Tensor]]]:
    """Register a criterion: a function from a `Question` to a tensor of K saliencies for each group."""

    def register(function: Callable[[Question], dict[str, Tensor]]) -> Callable[[Question], dict[str, Tensor]]:
        CRITERIA[name] = Criterion(name, function, comparable, needs_data, needs_sample_losses, reference)
        return function

    return register


def find(name: str) -> Criterion:
    if name not in CRITERIA:
        raise DataError(f"There is no criterion {name!r}; the criteria are {', '.join(sorted(CRITERIA))}.")
    return CRITERIA[name]


def ask(question: Question, name: str, absolute: bool = False) -> dict[str, Tensor]:
    """The saliencies of a question by the criterion `name`: float64 on the CPU, one tensor of K for each group."""
    chosen = find(name)
    if chosen.needs_sample_losses and not question.loss.is_per_sample:
        raise LossError(
            f'The criterion {name} needs a loss for each sample, and loss="model" gives one for the batch; choose '
            "another loss, or a criterion such as magnitude or activation_std."
        )
    if question.reference == "baseline" and question.baseline is None:
        raise DataError('reference="baseline" needs baseline=, an input under which activations are the reference.')
    if question.reference not in REFERENCES:
        raise DataError(f"There is no reference {question.reference!r}; the references are {', '.join(REFERENCES)}.")
    if chosen.reference is not None and chosen.reference != question.reference:
        question = replace(question, reference=chosen.reference)
    found = chosen.function(question)
    result = {}
    for group in question.groups:
        saliency = found[group.name].detach().to("cpu", torch.float64)
        if not torch.isfinite(saliency).all():
            raise DataError(f"The criterion {name} is not finite for {group.name}; check the weights and the data.")
        result[group.name] = saliency.abs() if absolute else saliency
    return result


def as_network(model: nn.Module | Network, batches: Sequence[Batch], width: bool = False) -> Network:
    """A network from a module, traced with the first batch, or the network itself; ready to replay that batch."""
    network = model if isinstance(model, Network) else trace(model, batches[0].inputs, width=width)
    if width and not network.width:
        raise DataError("width=True needs a network that was traced so: deadhead.trace(model, inputs, width=True).")
    network.traced(network.flatten(batches[0].inputs))
    return network


def opened(
    model_or_network: nn.Module | Network, data: Iterable[Any], loss: Any, samples: int | None
) -> tuple[Loss, list[Batch], Network]:
    """What every question about a network starts with: the loss, up to `samples` rows of the data, the network."""
    asked = as_loss(loss)
    axis = model_or_network.batch_axis if isinstance(model_or_network, Network) else 0
    batches = read(data, samples=samples, labels_to_model=asked.labels_to_model, batch_axis=axis)
    return asked, batches, as_network(model_or_network, batches)


@torch.inference_mode(False)
def score(
    model_or_network: nn.Module | Network,
    data: Iterable[Any],
    *,
    loss: Any,
    criterion: str = "mrs",
    reference: str = "zero",
    baseline: Any = None,
    absolute: bool = False,
    samples: int = 4096,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """What each unit is worth by a criterion: `{group name: tensor of K saliencies}`, in forward order.

    `data` is any iterable of batches, of which up to `samples` rows are read; `loss` a name, a torch.nn loss or a
    callable (outputs, batch) to a loss per sample. `reference` is what a closed unit is replaced by: zero; its mean,
    median, min or max over data and positions; with `baseline`, its mean over the rows and positions of an input like
    the model's (a blank image, say); unless the criterion's definition fixes it. `absolute` takes absolute values of
    signed criteria. The saliencies are float64, in the unit of the loss for criteria that judge by it.

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
    question = Question(network, network.groups, batches, asked, reference, seed, progress, baseline=baseline)
    return ask(question, criterion, absolute)
