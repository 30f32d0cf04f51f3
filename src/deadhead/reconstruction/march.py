"""Choosing units front to back, each group in the network as it is pruned and compensated before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from deadhead.data.calibration import Calibration
from deadhead.gates.state import PrunedState, Removed
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from deadhead.progress import Progress, track
from deadhead.reconstruction.compensation import Compensation, put
from deadhead.reconstruction.consumers import consumers_of
from deadhead.reconstruction.sums import Regression, regressions
from deadhead.reconstruction.surgeon import Choice, Side, choose
from deadhead.reconstruction.weighing import Weighing

CHOICE_DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates for the damping with which the units of a group are chosen."""


def choose_and_compensate(
    network: Network,
    groups: Sequence[Group],
    planned: Mapping[str, Tensor],
    calibration: Calibration,
    weighing: Weighing,
    progress: Progress | None = None,
) -> tuple[dict[str, list[int]], dict[str, Tensor], Compensation]:
    """As many units of each group as were `planned`, {group: units}, but which, decided anew: group by group in forward
    order, by the optimal brain surgeon on the activations of the network as it is pruned and compensated before it,
    with what the intact network gave as the target, at the damping that does best on the held-out rows. The consumers
    are then fitted as `least_squares` fits them.

    Groups that no consumer of a weight reads lose the units that were planned.

    Returns:
        The units of each group in their order of removal; for each group that was chosen from, the scores (K,) at that
        turn, and of the units that remain at the end; and the compensation.
    """
    scores: dict[str, Tensor] = {}
    chosen: dict[str, list[int]] = {}
    result = Compensation()
    affected = [group for group in groups if group.name in planned]
    _, result.refused = consumers_of(network, affected)
    intact = PrunedState.of(network).gates()
    removed: dict[str, Tensor] = {}
    order = {node: rank for rank, node in enumerate(network.static.graph.nodes)}
    affected.sort(key=lambda group: min((order[site.node] for site in group.consumers), default=0))
    for group in track(progress, "choice and compensation", affected):
        count = len(planned[group.name])
        gates = PrunedState.of(network, Removed(removed), result).gates()
        consumers = weighing.consumers_of(group)
        matrices = {each.weight: each.matrix(intact.state[each.weight]) for each in consumers}
        blocks = {each.weight: each.blocks for each in consumers}
        known, held_out = (
            regressions(intact, gates, matrices, part, blocks) if matrices else {}
            for part in (calibration.fit, calibration.held_out)
        )
        if known and held_out:

            def sides(found: Mapping[str, Sequence[Regression]], damping: float, group: Group = group) -> list[Side]:
                return [
                    side
                    for consumer in weighing.consumers_of(group)
                    if consumer.weight in found
                    for side in weighing.sides(
                        group, consumer, intact.state[consumer.weight], found[consumer.weight], removed, damping
                    )
                ]

            choice = _choose(partial(sides, known), sides(held_out, 0.0), group.size, count, weighing.extra[group.name])
            chosen[group.name], scores[group.name] = choice.order, choice.scores()
        else:
            chosen[group.name] = planned[group.name].tolist()
        removed[group.name] = torch.tensor(sorted(chosen[group.name]))
        for consumer in consumers:
            put(network, consumer, removed, known.get(consumer.weight), held_out.get(consumer.weight), result)
    return chosen, scores, result


def _choose(
    sides: Callable[[float], list[Side]], held_out: Sequence[Side], size: int, count: int, extra: Tensor
) -> Choice:
    """The units to remove, with the damping whose greedy choice and weights cost least on the held-out rows."""

    def cost(damping: float) -> float:
        found = choose(sides(damping), size, count, extra, sweeps=0, tries=0)
        gone = sum(extra[unit].item() for unit in found.order)
        return gone + sum(side.cost(weights) for side, weights in zip(held_out, found.weights, strict=True))

    return choose(sides(min(CHOICE_DAMPINGS, key=cost)), size, count, extra)
