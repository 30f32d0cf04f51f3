"""Cutting what masks have closed, in place as often as wanted, with results that count from the intact network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from deadhead.cut.surgery import Surgery
from deadhead.data.calibration import Batch, Calibration, as_batch
from deadhead.data.losses import Loss, as_loss, prediction_of
from deadhead.progress import Progress
from deadhead.pruning.material import Clock, Material, Removable
from deadhead.pruning.options import Options
from deadhead.pruning.pruned import Pruned
from deadhead.pruning.record import GroupRecord, Measures, Report
from deadhead.pruning.steps import Pruning
from deadhead.reconstruction.compensation import Compensation
from deadhead.select.budget import BUDGETS
from deadhead.select.plan import Plan, plan_of
from deadhead.select.sizes import Sizes
from deadhead.training.choose import removable_of

if TYPE_CHECKING:
    from deadhead.training.masks import Masks


@dataclass
class History:
    """What was cut in place so far.

    Attributes:
        sizes: {group: its units in the intact network}.
        totals: {budget: the intact network's size}.
        weights: {parameter: the number of its entries in the intact network}.
        origin: {group: the intact network's index of each unit that is there now}.
        removed: the units that were cut, as (group, index in the intact network).
        surgery: what makes the intact network what it is now.
        intact: the intact network, as it was measured before the first cut; None where nothing was cut yet.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    origin: dict[str, list[int]] = field(default_factory=dict)
    removed: list[tuple[str, int]] = field(default_factory=list)
    surgery: Surgery = field(default_factory=Surgery)
    intact: Measures | None = None

    def note_sizes(self, removable: Removable) -> None:
        """Remember the sizes of the intact network, the first time that what can be cut from it is known."""
        if self.sizes:
            return
        groups = removable.cutting.groups
        self.sizes = {group.name: group.size for group in removable.network.groups}
        self.origin = {group.name: list(range(group.size)) for group in removable.network.groups}
        sizes = Sizes(removable.network, groups)
        counted = [name for name in BUDGETS if BUDGETS[name].of == "size" and BUDGETS[name].counted]
        self.weights = {name: weight.numel() for name, weight in removable.network.module.named_parameters()}
        self.totals = {name: int(BUDGETS[name].function(sizes, {})) for name in counted}

    def of_intact(self, plan: Plan) -> Plan:
        """A plan for the network as it is now as one for the intact network, with what was cut before."""
        now = [(name, self.origin[name][unit]) for name, unit in plan.order]
        return plan_of([*self.removed, *now])

    def records(self, groups: list[GroupRecord]) -> list[GroupRecord]:
        """The records of groups as they are now as those of the intact network."""
        found: list[GroupRecord] = []
        for record in groups:
            size, origin = self.sizes[record.name], self.origin[record.name]
            saliency = [float("nan")] * size
            for unit, value in zip(origin, record.saliency, strict=True):
                saliency[unit] = value
            before = [unit for name, unit in self.removed if name == record.name]
            removed = sorted([*before, *(origin[unit] for unit in record.removed)])
            order = [*before, *(origin[unit] for unit in record.order)]
            found.append(replace(record, units=size, removed=removed, saliency=saliency, order=order))
        return found

    def follow(self, plan: Plan, report: Report, surgery: Surgery) -> None:
        """Note a cut in place."""
        self.surgery = self.surgery.then(surgery)
        self.intact = self.intact or report.before
        self.removed = self.of_intact(plan).order
        for name, units in plan.removed.items():
            gone = set(units.tolist())
            self.origin[name] = [unit for place, unit in enumerate(self.origin[name]) if place not in gone]

    def state_dict(self) -> dict[str, Any]:
        """The history as plain values."""
        return {**asdict(self), "surgery": self.surgery.to_json()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the history that a checkpoint has."""
        self.sizes, self.totals, self.origin = (dict(state[name]) for name in ("sizes", "totals", "origin"))
        self.weights = dict(state["weights"])
        self.removed = [(name, unit) for name, unit in state["removed"]]
        self.surgery = Surgery.from_json(state["surgery"])
        self.intact = None if state["intact"] is None else Measures(**state["intact"])


def cut_masked(
    masks: Masks, data: Iterable[Any] | None, loss: Any, test: Iterable[Any] | None, inplace: bool,
    progress: Progress | None,
) -> Pruned:  # fmt: skip
    """Cut the closed units of a masked network; `Masks.cut` says more."""
    clock = Clock()
    with clock("data"):
        material = _material(masks, data, loss, test)
    with clock("units"):
        removable = removable_of(masks, material.batches, progress)
        plan = masks.plan
        options = Options(plan=plan, compensate="zero", inplace=inplace, curve=0)
        pruning = Pruning(removable, material, options, progress)
        plan = pruning.select(None) if plan.count else _nothing(removable)
    with clock("cut"):
        cut = pruning.cut(plan, Compensation())
    with clock("verify"):
        verified = pruning.verify(plan, Compensation(), cut.module)
    with clock("report"):
        report = pruning.report(plan, Compensation(), cut, verified)
    history = masks.history
    whole = replace(
        report,
        budget="masks",
        criterion="masks",
        compensation="none",
        groups=history.records(report.groups),
        before=_with_quality_of(history.intact or report.before, report.before),
        seconds=clock.seconds,
    )
    network, of_intact = masks.network, history.of_intact(plan)
    model, optimizers = pruning.deliver(cut, Compensation(), masks.optimizers)
    optimizer: Any = optimizers[0] if len(optimizers) == 1 else optimizers or None
    if inplace:
        history.follow(plan, report, cut.surgery)
        masks.follow(cut.surgery)
    return Pruned(model, of_intact, whole, cut.surgery, optimizer, network.example_call(), network.batch_axis)


def _nothing(removable: Removable) -> Plan:
    """The plan that removes nothing."""
    return plan_of([], {group.name: torch.ones(group.size, dtype=torch.float64) for group in removable.cutting.groups})


def _with_quality_of(sizes: Measures, quality: Measures) -> Measures:
    """Sizes of one network with the loss and the accuracy of another."""
    return replace(sizes, loss=quality.loss, accuracy=quality.accuracy)


def _material(masks: Masks, data: Iterable[Any] | None, loss: Any, test: Iterable[Any] | None) -> Material:
    """What a cut is proved and reported on."""
    if data is not None and loss is not None:
        return Material.read(data, test, loss, Options(units=1.0), masks.network.batch_axis)
    if masks.material is not None:
        return masks.material
    network = masks.network
    if data is not None:
        batches = Material.read(data, test, "mse", Options(units=1.0), network.batch_axis).batches
    else:
        batches = masks.example_batches()
    axis = network.batch_axis
    targeted = [as_batch((batch.inputs, _outputs(masks, batch)), batch_axis=axis) for batch in batches]
    return Material(_distance(), targeted, Calibration(list(targeted), list(targeted)), targeted, False)


def _outputs(masks: Masks, batch: Batch) -> torch.Tensor:
    return prediction_of(masks.network.run_module(batch.inputs)).detach().cpu()


def _distance() -> Loss:
    """The squared error from the masked network's outputs."""
    return replace(as_loss("mse"), name="squared error from the masked network's outputs")
