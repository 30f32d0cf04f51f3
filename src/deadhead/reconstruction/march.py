"""Choice and compensation front to back: each group in the network as it is pruned and compensated before it."""

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
Regressions = Mapping[str, Sequence[Regression]]
"""The sums at the consumers of each weight, one for each block of its columns."""


def choose_and_compensate(
    network: Network,
    groups: Sequence[Group],
    planned: Mapping[str, Tensor],
    calibration: Calibration,
    weighing: Weighing,
    progress: Progress | None = None,
) -> tuple[dict[str, list[int]], dict[str, Tensor], Compensation]:
    """Choose which units to remove, as many of each group as planned, and compensate for them, front to back.

    Group by group in forward order: the optimal brain surgeon chooses units on the activations of the network as it is
    pruned and compensated before the group, with the intact network's outputs as the target, at the damping with the
    minimum error on the held-out samples; then the group's consumers are refitted as by `least_squares`. Groups that
    no consumer with a weight reads lose the planned units.

    Args:
        network: the intact network.
        groups: the groups that may lose units.
        planned: {group: the units that a plan removes}; only their number counts where a group is chosen from.
        calibration: the samples to fit to and the held-out samples.
        weighing: what errors at the consumers cost.
        progress: what reports the groups done.

    Returns:
        The units of each group in their order of removal; for each group that was chosen from the scores (K,) when its
        turn came, those of remaining units after the last removal; and the compensation.
    """
    affected = [group for group in groups if group.name in planned]
    march = _March(network, calibration, weighing)
    _, march.result.refused = consumers_of(network, affected)
    for group in track(progress, "choice and compensation", _in_forward_order(network, affected)):
        known, held_out = march.statistics(group)
        if known and held_out:
            march.choose(group, len(planned[group.name]), known, held_out)
        else:
            march.chosen[group.name] = planned[group.name].tolist()
        march.fit(group, known, held_out)
    return march.chosen, march.scores, march.result


def _in_forward_order(network: Network, groups: Sequence[Group]) -> list[Group]:
    """The groups by the place of their first consumer in the graph."""
    order = {node: rank for rank, node in enumerate(network.static.graph.nodes)}
    return sorted(groups, key=lambda group: min((order[site.node] for site in group.consumers), default=0))


class _March:
    """The choices and the compensation so far, and the steps that each group adds to them."""

    def __init__(self, network: Network, calibration: Calibration, weighing: Weighing) -> None:
        self.network, self.calibration, self.weighing = network, calibration, weighing
        self.intact = PrunedState.of(network).gates()
        self.chosen: dict[str, list[int]] = {}
        self.scores: dict[str, Tensor] = {}
        self.removed: dict[str, Tensor] = {}
        self.result = Compensation()

    def statistics(self, group: Group) -> tuple[Regressions, Regressions]:
        """The regressions at the consumers of a group, on the samples to fit to and on the held-out samples."""
        gates = PrunedState.of(self.network, Removed(self.removed), self.result).gates()
        consumers = self.weighing.consumers_of(group)
        matrices = {each.weight: each.matrix(self.intact.state[each.weight]) for each in consumers}
        blocks = {each.weight: each.blocks for each in consumers}
        if not matrices:
            return {}, {}
        known, held_out = (
            regressions(self.intact, gates, matrices, part, blocks)
            for part in (self.calibration.fit, self.calibration.held_out)
        )
        return known, held_out

    def choose(self, group: Group, count: int, known: Regressions, held_out: Regressions) -> None:
        """Choose `count` units of a group to remove."""
        unseen, extra = self._sides(group, held_out, 0.0), self.weighing.extra[group.name]
        choice = _choose(partial(self._sides, group, known), unseen, group.size, count, extra)
        self.chosen[group.name], self.scores[group.name] = choice.order, choice.scores()

    def fit(self, group: Group, known: Regressions, held_out: Regressions) -> None:
        """Refit the consumers of a group without its chosen units."""
        self.removed[group.name] = torch.tensor(sorted(self.chosen[group.name]))
        for each in self.weighing.consumers_of(group):
            put(self.network, each, self.removed, known.get(each.weight), held_out.get(each.weight), self.result)

    def _sides(self, group: Group, sums: Regressions, damping: float) -> list[Side]:
        """The least-squares problems of a group's consumers, damped."""
        return [
            side
            for each in self.weighing.consumers_of(group)
            if each.weight in sums
            for side in self.weighing.sides(
                group, each, self.intact.state[each.weight], sums[each.weight], self.removed, damping
            )
        ]


def _choose(
    sides: Callable[[float], list[Side]], held_out: Sequence[Side], size: int, count: int, extra: Tensor
) -> Choice:
    """The units to remove, at the damping whose greedy choice and weights have the minimum cost on held-out samples."""

    def cost(damping: float) -> float:
        choice = choose(sides(damping), size, count, extra, sweeps=0, tries=0)
        besides = sum(extra[unit].item() for unit in choice.order)
        return besides + sum(side.cost(weights) for side, weights in zip(held_out, choice.weights, strict=True))

    return choose(sides(min(CHOICE_DAMPINGS, key=cost)), size, count, extra)
