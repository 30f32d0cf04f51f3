"""The steps of a prune, from reading data to the report; `pruning/prune.py` runs them in their order."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deadhead.compensate import Problem
from deadhead.cut.configuration import configuration_of, has_configuration, write_configuration
from deadhead.cut.cut import carry_out, cut, surgery_of
from deadhead.cut.optimizer import adopt, cut_in_place, exchange, follow
from deadhead.cut.provable import Cutting
from deadhead.cut.surgery import Surgery, remember
from deadhead.cut.verify import tolerance_of, verify
from deadhead.data.calibration import count
from deadhead.errors import BudgetError, CutError, DeadheadError
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network
from deadhead.progress import Progress
from deadhead.pruning.candidates import Candidates, TrialCuts
from deadhead.pruning.material import Material, Removable
from deadhead.pruning.measure import measure
from deadhead.pruning.messages import approximate, failed, further, left_alone, notes, unasked
from deadhead.pruning.options import Options
from deadhead.pruning.predict import predict
from deadhead.pruning.predicted_curve import predicts_loss
from deadhead.pruning.record import GroupRecord, PredictedPoint, Report
from deadhead.pruning.tradeoff import trade_off
from deadhead.reconstruction.compensation import Compensation
from deadhead.reconstruction.consumers import new_biases
from deadhead.reconstruction.weighing import Weighing
from deadhead.scores.criterion import Question, ask, options_of
from deadhead.select.allocation import Allocation
from deadhead.select.budget import budgets_of
from deadhead.select.path import path_of_plan
from deadhead.select.plan import Plan, plan_of
from deadhead.select.ranking import Constraints
from deadhead.select.rounds import in_rounds
from deadhead.select.sizes import Sizes
from deadhead.select.ties import checked
from deadhead.text import counted


@dataclass(frozen=True)
class SmallerModule:
    """A module that was cut.

    Attributes:
        module: the smaller module.
        surgery: what makes an intact module of the same class as small.
        expressed: whether its configuration, where it has one, can express its sizes.
    """

    module: nn.Module
    surgery: Surgery
    expressed: bool


@dataclass(frozen=True)
class Verified:
    """What verification measured.

    Attributes:
        difference: the relative difference between the smaller module and its gated original.
        tolerance: the maximum that rounding explains.
        approximation: the relative difference from an original that normalises over all units, removed ones too; None
            where no group that a normalisation goes over was pruned.
    """

    difference: float
    tolerance: float
    approximation: float | None


@dataclass
class Pruning:
    """One prune, whose methods are its steps; each takes what the steps before returned.

    Attributes:
        removable: the network and what can be cut from it.
        material: what it is judged on.
        options: every other argument of `prune`.
        progress: called with (step, done, total).
        before: the units whose weights are zero already, as they are closed by `deadhead.Masks`: they remain removed.
    """

    removable: Removable
    material: Material
    options: Options
    progress: Progress | None = None
    before: Plan = field(default_factory=lambda: plan_of([]))

    @property
    def network(self) -> Network:
        return self.removable.network

    @property
    def cutting(self) -> Cutting:
        return self.removable.cutting

    @cached_property
    def constraints(self) -> Constraints:
        """The constraints that every selection meets."""
        options, cutting = self.options, self.cutting
        normalize = options.normalize or ("none" if options.judge.comparable else "mean")
        minimum = {group.name: group.minimum for group in cutting.groups}
        return Constraints(normalize, options.round_to, options.min_units, cutting.multiples, minimum)

    @cached_property
    def sizes(self) -> Sizes:
        """The size of the network for any numbers of removed units."""
        biases = new_biases(self.network, self.cutting.groups) if self.options.method.adds_biases else {}
        trial = TrialCuts(self.network, self.cutting.repairs, self.material.calibration.held_out[0])
        return Sizes(self.network, self.cutting.groups, biases, trial.nanoseconds)

    @cached_property
    def allocation(self) -> Allocation:
        """The allocation of the budget to groups."""
        options, groups, network = self.options, self.cutting.groups, self.network
        shares = None
        if options.shares is not None:
            shares = budgets_of(options.shares, groups, lambda pattern: network.select([pattern]))
        return Allocation(groups, self.cutting.ties, self.constraints, options.budget, shares, self.sizes)

    @cached_property
    def weighing(self) -> Weighing | None:
        """What errors of consumers cost in the intact network; None unless units are chosen front to back, which looks
        at all units of a group as if none were removed yet."""
        if not self.options.chooses_front_to_back or self.before.count:
            return None
        question, (_, own) = self._question(PrunedState.of(self.network)), self._criterion_options()
        weighted = own.get("output_weight", "loss") == "loss"
        return Weighing(
            question.gates_without_references(), question.groups, question.batches, question.seed, self.progress,
            weighted,
        )  # fmt: skip

    @cached_property
    def candidates(self) -> Candidates:
        """The networks that are compensated and measured on the way."""
        material, options = self.material, self.options
        problem = Problem(
            self.network, self.cutting.groups, plan_of([]), material.calibration, material.loss, options.seed,
            self.progress,
        )  # fmt: skip
        return Candidates(problem, options, self.sizes, self.weighing)

    def _criterion_options(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return options_of(self.options.criterion, self.options.criterion_options)

    def _question(self, state: PrunedState) -> Question:
        common, _ = self._criterion_options()
        fit, seed = self.material.calibration.fit, self.options.seed
        return Question(
            state, self.cutting.groups, fit, self.material.loss, seed=seed, progress=self.progress, **common
        )

    def score(self, so_far: Plan | None = None) -> dict[str, Tensor]:
        """Score all units, in the network as it is or after a plan, compensated: {group: (K,)}."""
        so_far, compensation = so_far or self.before, None
        if so_far.count > self.before.count:
            so_far, compensation = self.candidates.compensated(so_far, final=False)
        own = self._criterion_options()[1]
        if not so_far.count and self.weighing is not None:
            own["weighing"] = self.weighing
        return ask(self._question(PrunedState.of(self.network, so_far, compensation)), self.options.criterion, **own)

    def select(self, scores: dict[str, Tensor] | None) -> Plan:
        """The plan for the budget, re-ranked as often as the options say; the caller's own where one was given.

        Args:
            scores: the saliencies in the intact network; None where the caller gave the plan.

        Raises:
            BudgetError: where nothing would be removed, or the budget cannot be reached.
        """
        options, cutting = self.options, self.cutting
        if options.plan is not None:
            plan = checked(options.plan, cutting.groups, cutting.refused, self.constraints, cutting.ties)
        else:
            plan = self.ranked(scores)
        if not plan.count:
            total = sum(group.size for group in cutting.groups)
            other = "a larger" if options.budget.is_of_quality else "another" if options.plan else "a smaller"
            raise BudgetError(
                f"The budget {options.budget_as_given} would remove none of the {counted(total, 'unit')}; choose "
                f"{other} one."
            )
        return plan

    def ranked(self, scores: dict[str, Tensor] | None) -> Plan:
        """The plan for the budget, re-ranked as often as the options say; none where nothing more has to be removed.

        Args:
            scores: the saliencies in the network as it is.

        Raises:
            BudgetError: where the budget cannot be reached.
        """
        return in_rounds(
            self.options.reranking,
            lambda so_far: self.score(so_far) if so_far.count > self.before.count or scores is None else scores,
            self.allocation.ranked,
            self.candidates.accepts,
            self.before,
        )

    def compensate(self, plan: Plan) -> tuple[Plan, Compensation]:
        """The plan that is carried out, with its compensation. It has other units than the plan that was ranked where
        they are chosen front to back."""
        if self.options.plan is None and not self.options.budget.is_of_quality:
            _ = self.candidates.intact
            self.candidates.measure(plan)
        return self.candidates.compensated(plan)

    def cut(self, plan: Plan, compensation: Compensation) -> SmallerModule:
        """A copy of the user's module without the units that are removed."""
        repairs, network = self.cutting.repairs, self.network
        smaller = cut(network, plan, compensation, repairs)
        surgery = surgery_of(network, plan, compensation, repairs)
        expressed = True
        if has_configuration(network.module):
            counts = [(g.size, g.size - len(plan.removed.get(g.name, ()))) for g in self.cutting.groups]
            changes = configuration_of(network, smaller, counts)
            expressed = changes is not None
            surgery.settings += write_configuration(smaller, changes or [])
        return SmallerModule(smaller, surgery, expressed)

    def verify(self, plan: Plan, compensation: Compensation, smaller: nn.Module) -> Verified:
        """Compare the smaller module with its gated original on all data.

        Raises:
            CutError: where it does not run, or differs by more than rounding explains.
        """
        state, moved = PrunedState.of(self.network, plan, compensation), None
        data = (self.material.batches, self.progress)
        try:
            difference = verify(state, smaller, *data)
            if any(group.norms and group.name in plan.removed for group in self.cutting.groups):
                moved = verify(state, smaller, *data, renormalise=False)
        except DeadheadError:
            raise
        except Exception as error:  # the user's forward may raise anything
            raise CutError(failed(self.network, error)) from error
        tolerance = tolerance_of(self.network.module)
        if not difference <= tolerance:
            raise CutError(
                f"The pruned {type(self.network.module).__name__} differs from its gated original by {difference:.1e} "
                f"relative, more than {tolerance:.0e}, which rounding does not explain; the model was not changed. "
                "Exclude groups one by one to find which."
            )
        return Verified(difference, tolerance, moved)

    def trade_off(self, scores: dict[str, Tensor] | None, plan: Plan) -> list[PredictedPoint]:
        """Measure networks beside the result, and predict the loss all along by the scores of the intact network."""
        if scores:
            path = self.allocation.path(scores, plan)
        else:
            path = path_of_plan(plan, self.cutting.groups, self.constraints, self.cutting.ties)
        predicting = scores if scores and predicts_loss(self.options.judge, self.options.criterion_options) else {}
        return trade_off(self.candidates, path, plan, predicting, self.options.curve, self.progress)

    def report(self, plan: Plan, compensation: Compensation, cut: SmallerModule, verified: Verified) -> Report:
        """The report of the prune, without the curve and the seconds of each step."""
        network, material, options = self.network, self.material, self.options
        groups, unseen = self.cutting.groups, material.unseen
        increase = predict(
            network, groups, plan, compensation, material.loss, material.calibration.fit, options.seed, self.progress
        )
        total = sum(group.size for group in network.groups)
        removed = {name: len(units) for name, units in plan.removed.items()}
        judged = (material.loss, unseen, self.progress)
        before = measure(network, network.module, total, self.sizes.memory({}), *judged)
        after = measure(network, cut.module, total - plan.count, self.sizes.memory(removed), *judged)
        return Report(
            model=type(network.module).__name__,
            budget=options.budget_as_given,
            criterion=options.criterion if options.plan is None else "given",
            compensation=options.compensate,
            loss_name=material.loss.name,
            evaluated_on="test" if material.is_test else "held-out",
            rows=count(unseen),
            calibration_rows=material.calibration.rows,
            before=before,
            after=after,
            predicted_loss=None if increase is None else before.loss + increase,
            difference=verified.difference,
            tolerance=verified.tolerance,
            approximation=verified.approximation,
            groups=self._groups(plan),
            left_alone=left_alone(network, groups, self.cutting.refused),
            notes=unasked(self.removable.widened)
            + approximate(groups, plan, verified.approximation)
            + further(network, self.cutting.refused)
            + notes(network, compensation, cut.expressed),
            settings=options.settings() | {"normalize": self.constraints.normalize, "width": network.width},
            environment=_environment(network),
        )

    def _groups(self, plan: Plan) -> list[GroupRecord]:
        return [
            GroupRecord(
                name=group.name,
                kind=group.kind,
                units=group.size,
                removed=plan.removed[group.name].tolist() if group.name in plan.removed else [],
                saliency=plan.saliencies[group.name].tolist(),
                consumers=list(dict.fromkeys(site.module for site in group.consumers)),
                approximate=bool(group.norms),
                order=[unit for name, unit in plan.order if name == group.name],
            )
            for group in self.cutting.groups
        ]

    def deliver(
        self, cut: SmallerModule, compensation: Compensation, optimizers: Sequence[Optimizer]
    ) -> tuple[nn.Module, tuple[Optimizer, ...]]:
        """The module that the user gets, which is the user's own with `inplace`, and the optimizers cut along."""
        own, surgery = self.network.module, cut.surgery
        same_weights = not (compensation.tensors or compensation.biases)
        if not self.options.inplace:
            trainers = [follow(each, own, cut.module, surgery, same_weights=same_weights) for each in optimizers]
            remember(cut.module, surgery)
            return cut.module, tuple(trainers)
        for optimizer in optimizers:
            cut_in_place(optimizer, own, surgery, same_weights=same_weights)
        replaced = carry_out(own, surgery, compensation)
        remember(own, surgery)
        for optimizer in optimizers:
            exchange(optimizer, replaced)
            adopt(optimizer, own, surgery)
        return own, tuple(optimizers)


def _environment(network: Network) -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": str(network.device()),
        "date": datetime.date.today().isoformat(),
    }
