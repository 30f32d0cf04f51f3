"""The registry of criteria, and `score`, which asks one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from deadhead.data.calibration import Batch, as_batch
from deadhead.data.losses import Loss
from deadhead.errors import DataError, LossError
from deadhead.gates.gates import Gates, References
from deadhead.gates.moments import medians, moments
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from deadhead.progress import Progress

OPTIONS = ("reference", "baseline", "site", "absolute", "threshold", "threshold_at", "adjustments", "output_weight")
SITES = ("consumer", "producer")
REFERENCES = ("zero", "mean", "median", "min", "max", "baseline")


@dataclass(frozen=True)
class Question:
    """What a criterion is asked: the worth of each unit of `groups`, judged by `loss` on `batches`.

    `state`, `added` and `closed` describe a network of which units are gone already, as `Gates` takes them. `baseline`
    is the input under which activations are a reference. `site` says where a unit is closed: at what its consumers
    read, or (producer) at what its producers give, before batch norm, pool and nonlinearity; `groups` are as they are
    there. `absolute`, `threshold` and `threshold_at` say what is made of the answers, `adjustments` are what `watch`
    recorded in training, `output_weight` what errors of outputs are weighted by (`obs`). What a criterion found on the
    way that is of use afterwards is `kept`.
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
    site: str = "consumer"
    absolute: bool = False
    threshold: str | None = None
    threshold_at: float = 3.0
    adjustments: Mapping[str, Tensor] | None = None
    output_weight: str = "loss"
    kept: dict[str, Any] = field(default_factory=dict)

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
        return Gates(self.network, self.loss, self.references(), self.state, self.added, self.closed, site=self.site)

    def gates_without_references(self) -> Gates:
        """Gates for a criterion that finds its reference on the way."""
        return Gates(self.network, self.loss, None, self.state, self.added, self.closed, site=self.site)


@dataclass(frozen=True)
class Criterion:
    """A criterion by name. `comparable` says whether scores of different groups are in the same unit (of the loss),
    `increase` whether they estimate by how much the mean loss rises, as sums over rows and bounds do not;
    `needs_data` whether it looks at data at all; `reference` is the reference that its definition fixes;
    `at_consumers` says that it can judge units only by what their consumers read."""

    name: str
    function: Callable[[Question], dict[str, Tensor]]
    comparable: bool
    increase: bool
    needs_data: bool
    needs_sample_losses: bool
    reference: str | None
    at_consumers: bool


CRITERIA: dict[str, Criterion] = {}


def criterion(
    name: str,
    *,
    comparable: bool = False,
    increase: bool = False,
    needs_data: bool = True,
    needs_sample_losses: bool = False,
    reference: str | None = None,
    at_consumers: bool = False,
) -> Callable[[Callable[[Question], dict[str, Tensor]]], Callable[[Question], dict[str, Tensor]]]:
    """Register a criterion: a function from a `Question` to a tensor of K saliencies for each group."""

    def register(function: Callable[[Question], dict[str, Tensor]]) -> Callable[[Question], dict[str, Tensor]]:
        CRITERIA[name] = Criterion(
            name, function, comparable, increase, needs_data, needs_sample_losses, reference, at_consumers
        )
        return function

    return register


def find(name: str) -> Criterion:
    if name not in CRITERIA:
        raise DataError(f"There is no criterion {name!r}; the criteria are {', '.join(sorted(CRITERIA))}.")
    return CRITERIA[name]


def ask(question: Question, name: str) -> dict[str, Tensor]:
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
    if question.threshold not in (None, "mean", "median") or not question.threshold_at > 0:
        raise DataError("threshold is mean, median or None, and threshold_at a positive number.")
    if question.output_weight not in ("loss", "none"):
        raise DataError(f"There is no output_weight {question.output_weight!r}; it is loss or none.")
    if question.site not in SITES:
        raise DataError(f"There is no site {question.site!r}; the sites are {', '.join(SITES)}.")
    if question.site == "producer":
        if chosen.at_consumers:
            raise DataError(f'The criterion {name} judges units by what their consumers read; leave site="consumer".')
        for site in (site for group in question.groups for site in group.producers):
            if not isinstance(site.node.meta.get("val"), Tensor):
                raise DataError(f'{site.module} makes units in several tensors at once; leave site="consumer".')
        question = replace(question, groups=tuple(group.at_producers() for group in question.groups))
    if chosen.reference is not None and chosen.reference != question.reference:
        question = replace(question, reference=chosen.reference)
    found = chosen.function(question)
    result = {}
    for group in question.groups:
        saliency = found[group.name].detach().to("cpu", torch.float64)
        if not torch.isfinite(saliency).all():
            raise DataError(f"The criterion {name} is not finite for {group.name}; check the weights and the data.")
        result[group.name] = saliency
    if question.threshold is not None:
        result = thresholded(result, question.threshold, question.threshold_at, together=chosen.comparable)
    return {group: saliency.abs() for group, saliency in result.items()} if question.absolute else result


def thresholded(saliencies: Mapping[str, Tensor], by: str, at: float, together: bool) -> dict[str, Tensor]:
    """Saliencies of which every one that is larger in absolute value than `at` times the mean (or median, `by`) of
    absolute values is replaced by the mean (median): over all groups `together`, or each by itself.

    Source: 002 section 3, mean and median thresholding of second-order estimates.

    >>> thresholded({"0": torch.tensor([1.0, 2.0, 3.0, 4.0, 1000.0])}, "median", 3.0, together=True)["0"]
    tensor([1., 2., 3., 4., 3.])
    """
    middle: Callable[[Tensor], Tensor] = torch.mean if by == "mean" else lambda values: values.quantile(0.5)
    everything = torch.cat(list(saliencies.values())) if saliencies else torch.zeros(0)
    result = {}
    for name, value in saliencies.items():
        whole = everything if together else value
        result[name] = torch.where(value.abs() > at * middle(whole.abs()), middle(whole), value)
    return result
