"""What a round of pruning closes in a network that trains: units or single weights, by the budgets of a prune."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from deadhead.cut.provable import Cutting
from deadhead.data.calibration import Batch
from deadhead.errors import BudgetError, DataError
from deadhead.progress import Progress
from deadhead.pruning.material import Material, Removable
from deadhead.pruning.options import Options, option_names
from deadhead.pruning.steps import Pruning
from deadhead.reconstruction.compensation import Compensation
from deadhead.scores import score_parameters
from deadhead.select.budget import BUDGETS, budget_of
from deadhead.select.plan import Plan
from deadhead.training.masking.closed import Closed
from deadhead.training.masking.entries import unit_entries

BIAS_PROPAGATION = ("zero", "mean")
"""Compensations that masks carry out themselves, so that they can be taken back."""
WITHOUT_DATA = ("magnitude", "random")
"""Criteria of single weights that read no data."""


@dataclass(frozen=True)
class Choice:
    """The units that are to be closed.

    Attributes:
        plan: all of them, with those that are closed already.
        compensation: new weights for their consumers; None where their constants alone are to be added.
        batches: the samples that were read, without those held out.
    """

    plan: Plan
    compensation: Compensation | None
    batches: Sequence[Batch]


def choose_units(
    closed: Closed, data: Iterable[Any] | None, loss: Any, progress: Progress | None, **options: Any
) -> Choice:
    """Choose the units that a round closes.

    Args:
        closed: what is closed, with the units that are closed already.
        data: any iterable of batches.
        loss: a name, a torch.nn loss, or a callable.
        progress: called with (step, done, total).
        options: those of `deadhead.prune`, with fractions of the intact network.
    """
    if data is None or loss is None:
        raise DataError("Units are chosen by what they do to the loss on data; give data= and loss=.")
    others = {name: options.pop(name) for name in list(options) if name not in option_names()}
    options["budgets"] = {**(options.get("budgets") or {}), **others}
    asked = Options(**options)
    material = Material.read(data, None, loss, asked, closed.network.batch_axis)
    closed.material = material
    removable = removable_of(closed, material.batches, progress)
    counted = _counts_of_intact(closed, asked, options)
    if counted is None or not removable.cutting.groups:
        return Choice(closed.plan, None, material.calibration.fit)
    pruning = Pruning(removable, material, Options(**counted), progress, closed.plan)
    plan = pruning.ranked(pruning.score())
    compensation = None
    if asked.compensate not in BIAS_PROPAGATION and plan.count > closed.plan.count:
        plan, compensation = pruning.compensate(plan)
    return Choice(plan, compensation, material.calibration.fit)


def removable_of(closed: Closed, batches: Sequence[Batch], progress: Progress | None) -> Removable:
    """What can be cut from the masked network, found once for each network."""
    network = closed.network.prepare(batches[0].inputs)
    if closed.cuts.sizes and not closed.groups:
        return Removable(network, Cutting(()))  # of every group one unit is left
    if closed.removable is None or closed.removable.network is not network:
        only, exclude = closed.matching(closed.only), closed.matching(closed.exclude)
        options = Options(units=1.0, only=only, exclude=exclude, width=network.width)
        with closed.holding.opened():
            found = Removable.of(network, batches, options, progress)
        closed.cuts.note_sizes(found)
        names = {group.name for group in closed.groups}
        groups = tuple(group for group in found.cutting.groups if group.name in names)
        closed.removable = replace(found, cutting=replace(found.cutting, groups=groups))
    return closed.removable


def _counts_of_intact(closed: Closed, asked: Options, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options, with a budget that is a fraction of the intact network as a count; None where no group is left that
    it could be spent on."""
    kind, value = asked.budget.kind, asked.budget.value
    if kind == "plan" or asked.budget.is_of_quality or not BUDGETS[kind].counted:
        return dict(options)
    cuts, groups = closed.cuts, {group.name for group in closed.groups}
    if kind == "units" and asked.scope == "group":
        given = options["units"] if isinstance(options["units"], Mapping) else {"*": value}
        counts: dict[str, int] = {}
        for pattern, share in given.items():
            for group in closed.network.select([pattern]) if closed.matching([pattern]) else ():
                if group.name in groups:
                    counts.setdefault(group.name, max(1, budget_of(units=share).target(cuts.sizes[group.name])))
        return {**options, "units": counts} if counts else None
    total = cuts.totals[kind]
    count = asked.budget.target(total)
    if count < 1:
        raise BudgetError(f"The budget {asked.budget} leaves nothing of {total:,}; raise it.")
    return {**options, kind: count} if kind in options else {**options, "budgets": {kind: count}}


def choose_weights(
    closed: Closed,
    data: Iterable[Any] | None,
    loss: Any,
    remaining: float,
    criterion: str,
    options: Mapping[str, Any] | None,
    scope: str,
    samples: int,
    seed: int,
    progress: Progress | None,
) -> dict[str, Tensor]:
    """The single weights that a round closes: those of smallest score, closed ones first, of every matrix and kernel
    or of all together; {parameter: true where closed}.

    Source:
        Evci (2018), section 2.2: "we are setting a fraction f of all parameters with the smallest magnitude to zero".
    """
    if isinstance(remaining, bool) or not 0 < remaining <= 1:
        raise BudgetError(f"weights={remaining} is out of range: it is the fraction that remains open, in (0, 1].")
    if scope not in ("group", "all"):
        raise DataError(f"There is no scope {scope!r} of weights; the scopes are group and all.")
    names = [name for name, parameter in closed.module.named_parameters() if parameter.dim() > 1]
    names = [name for name in names if closed.network.state()[name].is_floating_point()]
    if data is None and criterion in WITHOUT_DATA:
        data, loss = [closed.network.example_call()], loss or "mse"
    if data is None or loss is None:
        raise DataError(f"The criterion {criterion} reads data; give data= and loss=.")
    given: dict[str, Any] = {"parameters": names, "samples": samples, "seed": seed, "progress": progress}
    scores = score_parameters(closed.network, data, loss=loss, criterion=criterion, **{**given, **(options or {})})
    for name, value in scores.items():
        keep = closed.keep.get(name)
        if keep is not None:
            value[~keep.cpu()] = float("-inf")
    intact = closed.cuts.weights or {name: value.numel() for name, value in scores.items()}
    counts = {name: max(1, round(remaining * intact[name])) for name in scores}
    if scope == "group":
        found = {name: _smallest(value, counts[name]) for name, value in scores.items()}
    else:
        count = max(1, round(remaining * sum(intact[name] for name in scores)))
        together = _smallest(torch.cat([value.flatten() for value in scores.values()]), count)
        parts = torch.split(together, [value.numel() for value in scores.values()])
        found = {name: part.reshape(scores[name].shape) for name, part in zip(scores, parts, strict=True)}
    of_units = unit_entries(closed.network, closed.units)
    for name, each in found.items():
        if name in of_units:
            each &= ~of_units[name][0].cpu()
        if name in closed.weights:  # those of closed units too, which would be open with their units else
            each |= closed.weights[name].cpu()
    return found


def _smallest(scores: Tensor, remaining: int) -> Tensor:
    """True at the smallest scores, all but so many of them."""
    smallest = torch.zeros(scores.numel(), dtype=torch.bool)
    smallest[scores.flatten().argsort(stable=True)[: max(0, scores.numel() - remaining)]] = True
    return smallest.reshape(scores.shape) | scores.isneginf()
