"""The path of a prune: trace, units, score, select, compensate, cut, verify, report."""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deadhead.compensate.gauss_newton import METHODS
from deadhead.cut.configuration import configuration_of, has_configuration, write_configuration
from deadhead.cut.cut import carry_out, cut, surgery_of
from deadhead.cut.optimizer import adopt, check_optimizer, cut_in_place, exchange, follow
from deadhead.cut.provable import cuttable
from deadhead.cut.verify import Gated, tolerance_of, verify
from deadhead.data.calibration import calibrate, count, read
from deadhead.data.losses import as_loss
from deadhead.data.opened import as_network
from deadhead.errors import BudgetError, CutError, DataError, DeadheadError
from deadhead.graph.network import Network, trace
from deadhead.progress import Progress
from deadhead.pruning.candidates import Trials
from deadhead.pruning.measure import measure
from deadhead.pruning.messages import approximate, failed, further, left_alone, notes, nothing, unasked
from deadhead.pruning.predict import predict
from deadhead.pruning.predicted_curve import predicts_loss
from deadhead.pruning.pruned import Pruned
from deadhead.pruning.record import GroupRecord, Report
from deadhead.pruning.tradeoff import trade_off
from deadhead.reconstruction.consumers import new_biases
from deadhead.scores.criterion import OPTIONS, Question, ask, find
from deadhead.select.allocation import Spread
from deadhead.select.budget import Budget, budget_of, budgets_of
from deadhead.select.path import path_of_plan
from deadhead.select.plan import Plan
from deadhead.select.ranking import NORMALISATIONS, Rules
from deadhead.select.schedule import Schedule, in_rounds
from deadhead.select.sizes import Sizes
from deadhead.select.ties import checked


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
) -> Pruned:
    """Make a trained network smaller: the user's own class, a copy of it unless `inplace`.

    Exactly one budget says what is *left*: `units=0.5` keeps `max(1, round(K / 2))` of every group of K units, an
    integer keeps that many of each, a mapping {pattern of module names: fraction or count} a share of its own of
    each group; with `scope="all"` it is a share of all units, in one ranking over the groups. The other budgets are
    spent over all groups together, so that by the criterion least is lost for what is saved: `params`, `macs`
    (multiply-adds of one row) and `memory` (bytes of parameters, buffers and the most activations of one row that are
    alive at once) are a share (float) or a count (int), `latency` a share of the seconds that a forward pass takes
    here, measured on trial cuts. Or a budget says what may be lost on the held-out rows: `max_loss_increase` in the
    unit of the loss, `max_accuracy_drop` as a fraction (0.01 is one point). Or `plan` names the units that go, from
    `oracle(...).plan(n)`, say.

    The units with the least saliency by `criterion` go: by default those whose work the others can take over best
    (`obs`), which are chosen group by group, front to back, each in the network as it is pruned and compensated before
    it, where it is done in one round with least squares. `criterion_options` are those of `score`: reference, baseline,
    site, absolute, threshold, threshold_at, adjustments. `compensate` lets the others take over:
    `least_squares` refits what reads them, `gauss_newton` then moves all that was refitted towards the intact network's
    outputs, as long as it helps on held-out rows (better and slower; no targets are read); also least_squares_one_pass,
    mean, zero. `rounds` ranks what is left anew, compensated, so many times on the way; `step`
    does after every `step` units. `normalize` says how saliencies of different groups are made comparable in one
    ranking: none, mean, max, l2 (divided by that of their group), rank (their rank in the group, from 0 to 1); None
    takes "none" for criteria in the unit of the loss, else "mean". `only` and `exclude` are patterns of module names;
    `round_to` keeps multiples, `min_units` at least so many. With `width=True`, the width of
    residual streams goes too, through LayerNorm, RMSNorm and the like: what is left is then normalised by its own
    statistics, so that this is approximate, and the report says by how much the outputs move. By default that is done
    only where nothing else can be cut, with `width=False` never.

    `data` is any iterable of batches, read once, up to `samples` rows; a fifth of them is held out. `test` is a
    separate set that no decision sees, on which the report measures; without it, the held-out rows are used. `loss`
    is a name, a torch.nn loss or a callable (outputs, batch) to a loss per sample. `optimizer` (SGD, Adam, AdamW and
    others that keep tensors of a parameter's shape) is cut along: `Pruned.optimizer` goes on training the result.
    `curve` is how many networks are measured besides those that had to be, to show in the report what less or more
    pruning would give: half of them beyond the result, none where as many were measured on the way. Each costs about as
    much time as the compensation; nothing else depends on them.

    Raises `BudgetError`, `DataError`, `LossError`, `TraceError` or `CutError`, and leaves the model as it was.

    Source: the design's path of a prune; 000 section 3 (biases by the mean), 003 chapter 4.

    >>> model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> data = [(torch.randn(64, 2), torch.randint(2, (64,)))]
    >>> pruned = prune(model, data, loss="cross_entropy", units=0.25)
    >>> pruned.model[0].out_features, model[0].out_features
    (4, 16)
    """
    per_module = isinstance(units, Mapping)
    if isinstance(units, Mapping) and not units:
        raise BudgetError("units={} names no group; give a fraction, a count, or {pattern: fraction}.")
    limits = {"params": params, "macs": macs, "memory": memory, "latency": latency}
    limits |= {"max_loss_increase": max_loss_increase, "max_accuracy_drop": max_accuracy_drop}
    budget = budget_of(
        units=min(units.values()) if isinstance(units, Mapping) else units,
        **limits,
        plan=None if plan is None else max(plan.count, 1),
    )
    judge = find(criterion)
    rules = Rules(normalize or ("none" if judge.comparable else "mean"), round_to, min_units)
    _check_options(compensate, scope, rounds, step, rules, per_module, curve)
    options = dict(criterion_options or {})
    if not set(options) <= set(OPTIONS):
        wrong = ", ".join(sorted(set(options) - set(OPTIONS)))
        raise DataError(f"There is no option {wrong} of criteria; the options are {', '.join(OPTIONS)}.")
    asked = as_loss(loss)
    clock = _Clock()

    axis = model_or_network.batch_axis if isinstance(model_or_network, Network) else 0
    with clock("data"):
        batches = read(data, samples=samples, labels_to_model=asked.labels_to_model, batch_axis=axis)
        calibration = calibrate(batches, seed=seed)
        unseen = calibration.held_out if test is None else read(
            test, samples=None, labels_to_model=asked.labels_to_model, batch_axis=axis
        )  # fmt: skip
    with clock("trace"):
        network = as_network(model_or_network, batches, bool(width))
    with clock("units"):
        _refuse_not_finite(network)
        if optimizer is not None:
            check_optimizer(optimizer, network.module)
        cutting = cuttable(network, network.select(_patterns(only), _patterns(exclude)), progress)
        widened = not cutting.groups and width is None and bool(network.freed_by_width())
        if widened:
            network = trace(network.module, network.example_call(), batch_axis=network.batch_axis, width=True)
            as_network(network, batches)
            cutting = cuttable(network, network.select(_patterns(only), _patterns(exclude)), progress)
        groups, left = cutting.groups, cutting.left
        rules = replace(rules, steps=cutting.steps, least={group.name: group.least for group in groups})
        if not groups:
            raise CutError(nothing(network, left))
    question = Question(network, groups, calibration.fit, asked, seed=seed, progress=progress, **options)
    sizes = Sizes(network, groups, {} if compensate == "zero" else new_biases(network, groups))
    trials = Trials(network, groups, calibration, asked, compensate, sizes, cutting, progress, seed=seed)
    trials.piecemeal = not budget.is_of_quality and (rounds > 1 or step is not None)
    shares = None
    if budget.kind == "units" and scope == "group":
        each = units if isinstance(units, Mapping) else {"*": budget.value}
        shares = budgets_of(each, groups, lambda pattern: network.select([pattern]))
    spread = Spread(groups, cutting.ties, rules, budget, shares, sizes, trials.nanoseconds)

    anew = criterion == "obs" and compensate in ("gauss_newton", "least_squares") and rounds == 1 and step is None

    first: dict[str, Tensor] = {}

    def ask_again(so_far: Plan | None) -> dict[str, Tensor]:
        if so_far is None:
            found = ask(question, criterion)
            first.update(found)
            trials.weighing = question.kept["weighing"] if anew else None
            return found
        _, compensation = trials.settled(so_far, on_the_way=True)
        state, closed = compensation.full_state(network), so_far.alpha(groups)
        return ask(replace(question, state=state, added=compensation.added, closed=closed), criterion)

    def accept(so_far: Plan) -> bool:
        return trials.within(budget, so_far)

    with clock("score and select"):
        chosen = (
            in_rounds(Schedule(rounds, step, budget.is_of_quality), ask_again, spread.ranked, accept)
            if plan is None
            else checked(plan, groups, left, rules, cutting.ties)
        )
        plan = chosen
        saliencies = plan.saliencies
        if not plan.count:
            total = sum(group.size for group in groups)
            other = "a larger" if budget.is_of_quality else "another" if budget.kind == "plan" else "a smaller"
            raise BudgetError(
                f"The budget {_told(units, budget)} would remove none of the {total:,} units; choose {other} one."
            )
    with clock("compensate"):
        if trials.piecemeal:
            trials.measure(plan)
        plan, compensation = trials.settled(plan)
    with clock("cut"):
        smaller = cut(network, plan, compensation, cutting.repairs)
        surgery = surgery_of(network, plan, compensation, cutting.repairs)
        expressed = True
        if has_configuration(network.module):
            kept = [(g.size, g.size - len(plan.removed.get(g.name, ()))) for g in groups]
            changes = configuration_of(network, smaller, kept)
            expressed = changes is not None
            surgery.settings += write_configuration(smaller, changes or [])
    with clock("verify"):
        moved = None
        try:
            difference = verify(Gated(network, plan, compensation), smaller, batches, progress)
            if any(group.norms and group.name in plan.removed for group in groups):
                moved = verify(Gated(network, plan, compensation, renormalise=False), smaller, batches, progress)
        except DeadheadError:
            raise
        except Exception as error:
            raise CutError(failed(network, error)) from error
        tolerance = tolerance_of(network.module)
        if not difference <= tolerance:
            raise CutError(
                f"The pruned {type(network.module).__name__} differs from its gated original by {difference:.1e} "
                f"relative, more than {tolerance:.0e}; the model was left as it was. Exclude groups one "
                "by one to find which."
            )
    with clock("measure"):
        increase = predict(network, groups, plan, compensation, asked, calibration.fit, seed, progress)
        total = sum(group.size for group in network.groups)
        gone = {name: len(found) for name, found in plan.removed.items()}
        before = measure(network, network.module, total, sizes.memory({}), asked, unseen, progress)
        after = measure(network, smaller, total - plan.count, sizes.memory(gone), asked, unseen, progress)
    with clock("curve"):
        path = spread.path(first, chosen) if first else path_of_plan(chosen, groups, rules, cutting.ties)
        usable = first if predicts_loss(judge, options) else {}
        predicted = trade_off(trials, path, chosen, usable, curve, progress)
    model, trainer = smaller, None
    if inplace:
        model, trainer = network.module, optimizer
        if optimizer is not None:
            cut_in_place(optimizer, model, surgery)
        replaced = carry_out(model, surgery, compensation)
        if optimizer is not None:
            exchange(optimizer, replaced)
            adopt(optimizer, model, surgery)
    elif optimizer is not None:
        trainer = follow(optimizer, network.module, smaller, surgery)
    report = Report(
        model=type(network.module).__name__,
        budget=_told(units, budget),
        criterion=criterion if budget.kind != "plan" else "given",
        compensation=compensate,
        loss_name=asked.name,
        evaluated_on="held-out" if test is None else "test",
        rows=count(unseen),
        calibration_rows=calibration.rows,
        before=before,
        after=after,
        predicted_loss=None if increase is None else before.loss + increase,
        difference=difference,
        tolerance=tolerance,
        approximation=moved,
        curve=trials.curve(plan),
        predicted_curve=predicted,
        groups=[
            GroupRecord(
                name=group.name,
                kind=group.kind,
                units=group.size,
                removed=plan.removed[group.name].tolist() if group.name in plan.removed else [],
                saliency=saliencies[group.name].tolist(),
                consumers=list(dict.fromkeys(site.module for site in group.consumers)),
                approximate=bool(group.norms),
            )
            for group in groups
        ],
        left_alone=left_alone(network, groups, left),
        notes=unasked(widened)
        + approximate(groups, plan, moved)
        + further(network, left)
        + notes(network, compensation, expressed),
        seconds=clock.seconds,
        settings={
            "scope": scope,
            "normalize": rules.normalize,
            "rounds": rounds,
            "step": step,
            "round_to": round_to,
            "min_units": min_units,
            "width": network.width,
            "samples": samples,
            "curve": curve,
            "seed": seed,
        },
        environment=_environment(network),
    )
    return Pruned(model, plan, report, surgery, trainer, network.example_call(), network.batch_axis)


def _refuse_not_finite(network: Network) -> None:
    for name, tensor in network.state().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise DataError(
                f"{name} is not finite (NaN or infinity); give a network that was trained without diverging."
            )


def _told(units: Any, budget: Budget) -> str:
    return f"units={dict(units)}" if isinstance(units, Mapping) else str(budget)


def _check_options(
    compensate: str, scope: str, rounds: int, step: int | None, rules: Rules, per_module: bool, curve: int
) -> None:
    if compensate not in METHODS:
        raise DataError(f"There is no compensation {compensate!r}; the methods are {', '.join(METHODS)}.")
    if scope not in ("group", "all"):
        raise DataError(f"There is no scope {scope!r}; the scopes are group and all.")
    if scope == "all" and per_module:
        raise BudgetError('scope="all" ranks all groups together, and units names shares of single groups; choose one.')
    if rules.normalize not in NORMALISATIONS:
        raise DataError(f"There is no normalize={rules.normalize!r}; there are {', '.join(NORMALISATIONS)}.")
    if step is not None and (step < 1 or rounds != 1):
        raise DataError("step must be at least 1, and rounds and step are two ways to say the same: give one.")
    if rounds < 1 or rules.round_to < 1 or rules.min_units < 1:
        raise DataError("rounds, round_to and min_units must be at least 1.")
    if curve < 0:
        raise DataError(f"curve={curve} is out of range: it counts networks that are measured besides, from 0 on.")


class _Clock:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[step] = time.perf_counter() - start


def _patterns(given: Sequence[str] | str) -> Sequence[str]:
    return [given] if isinstance(given, str) else given


def _environment(network: Network) -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": str(network.device()),
        "date": datetime.date.today().isoformat(),
    }
