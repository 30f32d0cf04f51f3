"""The registry of criteria, and the question that each of them answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from deadhead.data.calibration import Batch, as_batch
from deadhead.data.losses import Loss
from deadhead.errors import DataError, LossError
from deadhead.gates.gates import Gates, References
from deadhead.gates.moments import medians, moments
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from deadhead.progress import Progress
from deadhead.registry import Entry, Registry

SITES = ("consumer", "producer")
REFERENCES = ("zero", "mean", "median", "min", "max", "baseline")


@dataclass(frozen=True)
class Question:
    """What a criterion answers: the saliency of each unit of `groups`, judged by `loss` on `batches`.

    Attributes:
        state: the network whose units are scored, intact or with units removed already.
        groups: the groups whose units are scored, as they are at `site`.
        batches: the data.
        loss: what the outputs are judged by.
        reference: what a closed unit is replaced by, one of `REFERENCES`.
        seed: of whatever is drawn at random.
        progress: called with (step, done, total).
        baseline: the input under which activations are the reference.
        site: where a unit is closed: at what its "consumer"s read, or at what its "producer"s give, before batch norm,
            pool and nonlinearity.
        absolute: take absolute values of the scores.
        threshold: "mean" or "median" to limit outliers (see `thresholded`); None for none.
        threshold_at: scores above so many times the mean or median of absolute values are outliers.
    """

    state: PrunedState
    groups: tuple[Group, ...]
    batches: Sequence[Batch]
    loss: Loss
    reference: str = "zero"
    seed: int = 0
    progress: Progress | None = None
    baseline: Any = None
    site: str = "consumer"
    absolute: bool = False
    threshold: str | None = None
    threshold_at: float = 3.0

    def __post_init__(self) -> None:
        if self.reference == "baseline" and self.baseline is None:
            raise DataError('reference="baseline" needs baseline=, an input under which activations are the reference.')
        if self.reference not in REFERENCES:
            raise DataError(f"There is no reference {self.reference!r}; the references are {', '.join(REFERENCES)}.")
        if self.threshold not in (None, "mean", "median") or not self.threshold_at > 0:
            raise DataError(
                f"threshold={self.threshold!r} must be mean, median or None, and threshold_at={self.threshold_at} a "
                "positive number."
            )
        if self.site not in SITES:
            raise DataError(f"There is no site {self.site!r}; the sites are {', '.join(SITES)}.")

    @property
    def network(self) -> Network:
        """The intact network."""
        return self.state.network

    def references(self) -> References:
        """The reference of each column at each consumer: {group: one vector for each consumer, or None for zero}."""
        if self.reference == "zero":
            return {}
        gates = self.gates_without_references()
        if self.reference == "median":
            values = medians(gates, self.groups, self.batches, self.progress)
        else:
            seen = [as_batch((self.baseline,))] if self.reference == "baseline" else self.batches
            part = {"mean": "mean", "min": "minimum", "max": "maximum", "baseline": "mean"}[self.reference]
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
        return self.state.gates(self.loss, self.references(), site=self.site)

    def gates_without_references(self) -> Gates:
        """Gates with reference zero, for a criterion that needs no reference or computes it in the same pass."""
        return self.state.gates(self.loss, site=self.site)


COMMON = ("reference", "baseline", "site", "absolute", "threshold", "threshold_at")
"""Options that every criterion has."""


@dataclass(frozen=True)
class Criterion(Entry):
    """A criterion by name.

    Attributes:
        comparable: whether scores of different groups are in the same unit (of the loss).
        increase: whether they estimate by how much the mean loss rises, as sums over samples and bounds do not.
        needs_data: whether it reads data at all.
        needs_sample_losses: whether it needs a loss for each sample.
        reference: the reference that its definition fixes.
        at_consumers: whether it can judge units only by what their consumers read.
        front_to_back: whether groups can be re-ranked by it one after the other, each in the network as it is pruned
            before it.
    """

    comparable: bool = False
    increase: bool = False
    needs_data: bool = True
    needs_sample_losses: bool = False
    reference: str | None = None
    at_consumers: bool = False
    front_to_back: bool = False


CRITERIA: Registry[Criterion] = Registry("criterion", "criteria", DataError)
Function = Callable[..., dict[str, Tensor]]


def criterion(name: str, **facts: Any) -> Callable[[Function], Function]:
    """Register a criterion: a function from a `Question` to K scores for each group; its keywords are its options.

    Args:
        name: what it is called by.
        facts: of those that `Criterion` lists, what is true of it.
    """

    def register(function: Function) -> Function:
        CRITERIA.add(Criterion(name, function, **facts))
        return function

    return register


def options_of(name: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options given for a criterion: those that every criterion has, and its own.

    Raises:
        DataError: where there is no such criterion, or it has no such option.
    """
    common = {key: value for key, value in given.items() if key in COMMON}
    own = {key: value for key, value in given.items() if key not in COMMON}
    known = CRITERIA[name].options
    wrong = [key for key in own if key not in known]
    if wrong:
        names = ", ".join((*COMMON, *known))
        raise DataError(f"The criterion {name} has no option {wrong[0]!r}; its options are {names}.")
    return common, own


def ask(question: Question, name: str, **options: Any) -> dict[str, Tensor]:
    """Compute the saliencies of a question by a criterion.

    Args:
        question: the network, its groups, the data and the loss.
        name: of the criterion.
        options: of the criterion's own.

    Returns:
        {group: (K,)}, float64 on the CPU.

    Raises:
        DataError: where the criterion cannot answer such a question, or its answer is not finite.
        LossError: where it needs a loss for each sample, and there is none.
    """
    chosen = CRITERIA[name]
    CRITERIA.check_options(name, options)
    if chosen.needs_sample_losses and not question.loss.is_per_sample:
        raise LossError(
            f'The criterion {name} needs a loss for each sample, and loss="model" gives one for the batch; choose '
            "another loss, or a criterion such as magnitude or activation_std."
        )
    if question.site == "producer":
        if chosen.at_consumers:
            raise DataError(f'The criterion {name} judges units by what their consumers read; leave site="consumer".')
        for site in (site for group in question.groups for site in group.producers):
            if not isinstance(site.node.meta.get("val"), Tensor):
                raise DataError(f'{site.module} makes units in several tensors at once; leave site="consumer".')
        question = replace(question, groups=tuple(group.at_producers() for group in question.groups))
    if chosen.reference is not None and chosen.reference != question.reference:
        question = replace(question, reference=chosen.reference)
    found = chosen.function(question, **options)
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
    """Limit outliers among scores: replace those that are far above the mean or median of absolute values by it.

    Args:
        saliencies: {group: (K,)}.
        by: "mean" or "median".
        at: the factor: scores larger in absolute value than `at` times the mean (median) are replaced.
        together: take the mean (median) over all groups, rather than in each by itself.

    Returns:
        {group: (K,)}.

    Source:
        Wolfe et al. (2016), section 3.3, mean and median thresholding of second-order estimates.

    Example:
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
