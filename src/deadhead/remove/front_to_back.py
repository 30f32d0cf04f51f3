"""Choosing units front to back, each group in the network as it is pruned and compensated before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deadhead.calibration import Calibration
from deadhead.consumers import consumers_of
from deadhead.gates import Gates
from deadhead.graph.network import Network
from deadhead.graph.units import Group
from deadhead.losses import as_loss
from deadhead.progress import Progress, track
from deadhead.remove.compensate import Compensation, put
from deadhead.scores.obs import Weighing
from deadhead.scores.surgeon import choose
from deadhead.select.plan import Plan, plan_of
from deadhead.statistics import regressions


def choose_and_compensate(
    network: Network,
    groups: Sequence[Group],
    plan: Plan,
    calibration: Calibration,
    weighing: Weighing,
    progress: Progress | None = None,
) -> tuple[Plan, Compensation]:
    """As many units of each group as `plan` removes, but which, decided anew: group by group in forward order, by the
    optimal brain surgeon on the activations of the network as it is pruned and compensated before it, with what the
    intact network gave as the target. The consumers are then fitted as `least_squares` fits them.

    Groups that no consumer of a weight reads keep the units that the plan names.
    """
    result = Compensation()
    affected = [group for group in groups if group.name in plan.removed]
    _, result.left = consumers_of(network, affected)
    intact = Gates(network, as_loss("mse"))
    removed: dict[str, Tensor] = {}
    order = {node: rank for rank, node in enumerate(network.static.graph.nodes)}
    affected.sort(key=lambda group: min((order[site.node] for site in group.consumers), default=0))
    for group in track(progress, "choice and compensation", affected):
        count = len(plan.removed[group.name])
        state, closed = result.full_state(network), plan_of_units(removed).alpha(groups)
        gates = Gates(network, as_loss("mse"), state=state, added=result.added, closed=closed)
        consumers = weighing.of(group)
        matrices = {each.weight: each.matrix(intact.state[each.weight]) for each in consumers}
        blocks = {each.weight: each.blocks for each in consumers}
        known, held_out = (
            regressions(intact, gates, matrices, part, blocks) if matrices else {}
            for part in (calibration.fit, calibration.held_out)
        )
        sides = []
        for consumer in consumers:
            if consumer.weight in known:
                weight = intact.state[consumer.weight]
                sides += weighing.sides(group, consumer, weight, known[consumer.weight], removed)
        if sides:
            chosen = choose(sides, group.size, count, weighing.extra[group.name]).removed
            removed[group.name] = torch.tensor(sorted(chosen))
        else:
            removed[group.name] = plan.removed[group.name]
        for consumer in consumers:
            put(network, consumer, removed, known.get(consumer.weight), held_out.get(consumer.weight), result)
    return _in_order(plan, removed), result


def plan_of_units(removed: Mapping[str, Tensor]) -> Plan:
    """The plan that removes these units."""
    return plan_of([(name, int(unit)) for name, units in removed.items() for unit in units])


def _in_order(plan: Plan, removed: Mapping[str, Tensor]) -> Plan:
    """Other units in the places that the plan's order has for their groups, those that both remove where they are."""
    new = {
        name: [int(unit) for unit in units if int(unit) not in plan.removed[name].tolist()]
        for name, units in removed.items()
    }
    order = []
    for name, unit in plan.order:
        stays = unit in removed[name].tolist()
        order.append((name, unit if stays else new[name].pop(0)))
    return plan_of(order, plan.saliencies)
