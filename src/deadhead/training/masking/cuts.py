"""What masks have cut in place so far, so that later results count from the intact network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deadhead.pruning.material import Removable
from deadhead.pruning.record import GroupRecord, Measures, Report
from deadhead.select.budget import BUDGETS
from deadhead.select.plan import Plan, plan_of
from deadhead.select.sizes import Sizes


@dataclass
class Cuts:
    """What was cut in place so far.

    Attributes:
        sizes: {group: its units in the intact network}.
        totals: {budget: the intact network's size}.
        weights: {parameter: the number of its entries in the intact network}.
        origin: {group: the intact network's index of each unit that is there now}.
        removed: the units that were cut, as (group, index in the intact network).
        intact: the intact network, as it was measured before the first cut; None where nothing was cut yet.
        records: {group: what a report last said of it}.
    """

    UNDISTURBED = True
    sizes: dict[str, int] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    origin: dict[str, list[int]] = field(default_factory=dict)
    removed: list[tuple[str, int]] = field(default_factory=list)
    intact: Measures | None = None
    records: dict[str, GroupRecord] = field(default_factory=dict)

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

    def records_of_intact(self, groups: list[GroupRecord]) -> list[GroupRecord]:
        """The records of groups as they are now as those of the intact network, with groups of which one unit is
        left, which are no groups any more."""
        for record in groups:
            size, origin = self.sizes[record.name], self.origin[record.name]
            saliency = [float("nan")] * size
            for unit, value in zip(origin, record.saliency, strict=True):
                saliency[unit] = value
            before = [unit for name, unit in self.removed if name == record.name]
            removed = sorted([*before, *(origin[unit] for unit in record.removed)])
            order = [*before, *(origin[unit] for unit in record.order)]
            self.records[record.name] = replace(record, units=size, removed=removed, saliency=saliency, order=order)
        return [self.records[name] for name in self.sizes if name in self.records]

    def follow(self, plan: Plan, report: Report) -> None:
        """Note a cut in place."""
        self.intact = self.intact or report.before
        self.removed = self.of_intact(plan).order
        for name, units in plan.removed.items():
            gone = set(units.tolist())
            self.origin[name] = [unit for place, unit in enumerate(self.origin[name]) if place not in gone]

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Cuts:
        """The history of plain values, which `dataclasses.asdict` gives."""
        records = {name: GroupRecord(**record) for name, record in state["records"].items()}
        intact = None if state["intact"] is None else Measures(**state["intact"])
        removed = [(name, unit) for name, unit in state["removed"]]
        return cls(**{**state, "records": records, "intact": intact, "removed": removed})
