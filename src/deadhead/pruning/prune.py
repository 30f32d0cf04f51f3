"""`prune`: trace, units, score, select, compensate, cut, verify, report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from deadhead.cut.optimizer import check_optimizer
from deadhead.cut.surgery import surgery_behind
from deadhead.data.opened import prepared_network
from deadhead.graph.network import Network
from deadhead.progress import Progress
from deadhead.pruning.material import Clock, Material, Removable
from deadhead.pruning.options import Options
from deadhead.pruning.pruned import Pruned
from deadhead.pruning.steps import Pruning
from deadhead.reconstruction.compensation import Compensation
from deadhead.select.plan import Plan


@torch.inference_mode(False)
def prune(
    model_or_network: nn.Module | Network,
    data: Iterable[Any],
    *,
    loss: Any,
    units: float | int | Mapping[str, float | int] | None = None,
    params: float | int | None = None,
    macs: float | int | None = None,
    memory: float | int | None = None,
    latency: float | None = None,
    max_loss_increase: float | None = None,
    max_accuracy_drop: float | None = None,
    plan: Plan | None = None,
    criterion: str = "obs",
    criterion_options: Mapping[str, Any] | None = None,
    compensate: str = "gauss_newton",
    compensate_options: Mapping[str, Any] | None = None,
    scope: str = "group",
    normalize: str | None = None,
    rounds: int = 1,
    step: int | None = None,
    exclude: Sequence[str] = (),
    only: Sequence[str] = (),
    round_to: int = 1,
    min_units: int = 1,
    width: bool | None = None,
    inplace: bool = False,
    optimizer: Optimizer | None = None,
    test: Iterable[Any] | None = None,
    samples: int = 4096,
    curve: int = 2,
    seed: int = 0,
    progress: Progress | None = None,
    **budgets: float | int,
) -> Pruned:
    """Prune a trained network: remove units, and return a smaller dense model of the user's own class.

    Exactly one budget is given. A budget of a size says what REMAINS: a float is a fraction of the intact network, an
    int a count.

    Args:
        model_or_network: a module, traced with the first batch, or a `Network`. It is left as it was unless `inplace`.
        data: any iterable of batches, `(inputs, targets)` or the dicts that the model takes; read once. A fifth of the
            samples is held out, to check on.
        loss: a name, a torch.nn loss, or a callable (outputs, batch) to a loss for each sample.
        units: budget: what remains of every group of K units, `max(1, round(units K))` or a count; a mapping
            {pattern of module names: fraction or count} gives each group its own; with scope="all", of all units.
        params: budget: what remains of all parameters.
        macs: budget: what remains of the multiply-adds of one sample.
        memory: budget: what remains of the bytes of parameters, buffers and the maximum of activations of one sample
            that are alive at once.
        latency: budget: the fraction that remains of the seconds of a forward pass here, measured on trial cuts.
        max_loss_increase: budget: by how much the loss on held-out samples may rise, in its own unit.
        max_accuracy_drop: budget: by how much the accuracy on held-out samples may drop; 0.01 is one point.
        plan: budget: exactly the units of a plan, `oracle(...).plan(n)` say.
        criterion: what units are ranked by. obs, the default, ranks by the loss that remains after the other units are
            refitted; in one round with least squares or gauss_newton it chooses group by group, front to back.
        criterion_options: options of `deadhead.score`: reference, baseline, site, absolute, threshold, threshold_at,
            and the criterion's own.
        compensate: how the remaining units make up for the removed ones. least_squares refits the weights that read
            them; gauss_newton, the default, then moves all refitted weights towards the intact network's outputs, as
            long as that helps on held-out samples; least_squares_one_pass, mean (bias propagation) and zero are
            cheaper.
        compensate_options: the compensation's own options.
        scope: "group": `units` says what remains of each group; "all": of all units, in one ranking.
        normalize: how scores of different groups are made comparable in one ranking: none, mean, max, l2 (divided by
            that of their group) or rank; by default none for criteria in the unit of the loss, else mean.
        rounds: number of rounds; before each, the remaining units are re-ranked in the network as pruned and
            compensated so far.
        step: re-rank after every so many removals instead.
        exclude: do not prune the groups whose module name matches one of these patterns.
        only: prune only the groups whose module name matches one of these patterns.
        round_to: keep multiples of this many units.
        min_units: keep at least this many units of each group.
        width: True: remove units of residual streams too, through LayerNorm, RMSNorm and the like, which is
            approximate (the report says by how much outputs move); None: only where nothing else can be cut.
        inplace: cut the model itself.
        optimizer: the optimizer that trains the model, cut along with it: `Pruned.optimizer` trains the result.
        test: data that no decision sees, to measure on; without it the held-out samples are used.
        samples: the maximum number of samples of `data` that are read.
        curve: how many more networks are measured, to show in the report what less or more pruning would give.
        seed: of whatever is drawn at random.
        progress: called with (step, done, total).
        budgets: budgets that other packages register, by name.

    Returns:
        `Pruned`: the smaller model, the plan and the report; it can be saved.

    Raises:
        BudgetError, DataError, LossError, TraceError, CutError: in each case the model is left as it was.

    Source:
        LeCun et al. (1990) and Hassibi and Stork (1993) for the choice, for units; Evci (2018), section 1.2.4, and
        "Train first vs prune first in neural networks", AI Alignment Forum, for biases by means.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
        >>> data = [(torch.randn(64, 2), torch.randint(2, (64,)))]
        >>> pruned = prune(model, data, loss="cross_entropy", units=0.25)
        >>> pruned.model[0].out_features, model[0].out_features
        (4, 16)
    """
    options = Options(
        units=units, params=params, macs=macs, memory=memory, latency=latency, max_loss_increase=max_loss_increase,
        max_accuracy_drop=max_accuracy_drop, budgets=budgets, plan=plan, criterion=criterion,
        criterion_options=criterion_options or {}, compensate=compensate, compensate_options=compensate_options or {},
        scope=scope, normalize=normalize, rounds=rounds, step=step, exclude=exclude, only=only, round_to=round_to,
        min_units=min_units, width=width, inplace=inplace, samples=samples, curve=curve, seed=seed,
    )  # fmt: skip
    return prune_with(options, model_or_network, data, loss=loss, test=test, optimizer=optimizer, progress=progress)


def prune_with(
    options: Options,
    model_or_network: nn.Module | Network,
    data: Iterable[Any],
    *,
    loss: Any,
    test: Iterable[Any] | None = None,
    optimizer: Optimizer | None = None,
    progress: Progress | None = None,
) -> Pruned:
    """Prune a trained network; `prune` with its options in one object.

    Args:
        options: every other argument of `prune`.
        model_or_network: a module, or a `Network`.
        data: any iterable of batches.
        loss: a name, a torch.nn loss, or a callable.
        test: data that no decision sees.
        optimizer: the optimizer that trains the model.
        progress: called with (step, done, total).
    """
    clock = Clock()
    axis = model_or_network.batch_axis if isinstance(model_or_network, Network) else 0
    with clock("data"):
        material = Material.read(data, test, loss, options, axis)
    with clock("trace"):
        network = prepared_network(model_or_network, material.batches, bool(options.width))
    if optimizer is not None:
        check_optimizer(optimizer, network.module)
    with clock("units"):
        pruning = Pruning(Removable.of(network, material.batches, options, progress), material, options, progress)
    with clock("score"):
        scores = pruning.score() if options.plan is None else None
    with clock("select"):
        ranked = pruning.select(scores)
    with clock("compensate"):
        plan, compensation = pruning.compensate(ranked)
    with clock("curve"):
        predicted = pruning.trade_off(scores, ranked)
    curve = pruning.candidates.curve(plan)
    return carried_out(pruning, plan, compensation, clock, optimizer, curve=curve, predicted_curve=predicted)


def carried_out(
    pruning: Pruning,
    plan: Plan,
    compensation: Compensation,
    clock: Clock,
    optimizer: Optimizer | None = None,
    **facts: Any,
) -> Pruned:
    """Cut, verify, report and deliver: the end of a prune, after its units and its compensation are known.

    Args:
        pruning: the prune.
        plan: the units that are removed.
        compensation: what the others are given.
        clock: the seconds of the steps before, and of these.
        optimizer: the optimizer that trains the model.
        facts: what the report says otherwise, such as its `criterion`.
    """
    with clock("cut"):
        cut = pruning.cut(plan, compensation)
    with clock("verify"):
        verified = pruning.verify(plan, compensation, cut.module)
    with clock("report"):
        report = pruning.report(plan, compensation, cut, verified)
    model, trainers = pruning.deliver(cut, compensation, [] if optimizer is None else [optimizer])
    report = replace(report, seconds=clock.seconds, **facts)
    network, trainer = pruning.network, trainers[0] if trainers else None
    return Pruned(model, plan, report, surgery_behind(model), trainer, network.example_call(), network.batch_axis)
