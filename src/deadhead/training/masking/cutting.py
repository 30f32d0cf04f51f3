"""Cutting what masks have closed, in place as often as wanted, with results that count from the intact network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from deadhead.cut.surgery import surgery_behind
from deadhead.progress import Progress
from deadhead.pruning.material import Clock, Material, Removable
from deadhead.pruning.options import Options
from deadhead.pruning.pruned import Pruned
from deadhead.pruning.record import Measures
from deadhead.pruning.steps import Pruning
from deadhead.reconstruction.compensation import Compensation
from deadhead.select.plan import Plan, plan_of
from deadhead.training.masking.choose import removable_of
from deadhead.training.masking.closed import Closed


def cut_masked(
    closed: Closed, data: Iterable[Any] | None, loss: Any, test: Iterable[Any] | None, inplace: bool,
    progress: Progress | None,
) -> Pruned:  # fmt: skip
    """Cut the closed units of a masked network; `Masks.cut` says more."""
    clock = Clock()
    with clock("data"):
        material = _material(closed, data, loss, test)
    with clock("units"):
        removable = removable_of(closed, material.batches, progress)
        plan = closed.plan
        options = Options(plan=plan, compensate="zero", inplace=inplace, curve=0)
        pruning = Pruning(removable, material, options, progress)
        plan = pruning.select(None) if plan.count else _nothing(removable)
    with clock("cut"):
        cut = pruning.cut(plan, Compensation())
    with clock("verify"):
        verified = pruning.verify(plan, Compensation(), cut.module)
    with clock("report"):
        report = pruning.report(plan, Compensation(), cut, verified)
    cuts = closed.cuts
    result = replace(
        report,
        budget="masks",
        criterion="masks",
        compensation="none",
        groups=cuts.records_of_intact(report.groups),
        before=_with_quality_of(cuts.intact or report.before, report.before),
        seconds=clock.seconds,
    )
    example, of_intact = closed.network.example_call(), cuts.of_intact(plan)
    model, optimizers = pruning.deliver(cut, Compensation(), closed.optimizers)
    optimizer = optimizers[0] if len(optimizers) == 1 else optimizers or None
    if inplace:
        cuts.follow(plan, report)
        closed.follow(cut.surgery)
    return Pruned(model, of_intact, result, surgery_behind(model), optimizer, example, closed.network.batch_axis)


def _nothing(removable: Removable) -> Plan:
    """The plan that removes nothing."""
    return plan_of([], {group.name: torch.ones(group.size, dtype=torch.float64) for group in removable.cutting.groups})


def _with_quality_of(sizes: Measures, quality: Measures) -> Measures:
    """Sizes of one network with the loss and the accuracy of another."""
    return replace(sizes, loss=quality.loss, accuracy=quality.accuracy)


def _material(closed: Closed, data: Iterable[Any] | None, loss: Any, test: Iterable[Any] | None) -> Material:
    """What a cut is proved and reported on."""
    if data is not None and loss is not None:
        return Material.read(data, test, loss, Options(units=1.0), closed.network.batch_axis)
    if closed.material is not None:
        return closed.material
    network = closed.network
    if data is not None:
        batches = Material.read(data, test, "mse", Options(units=1.0), network.batch_axis).batches
    else:
        batches = closed.example_batches()
    return Material.against_itself(network, batches)
