"""The cost of errors at consumers: the curvature at their outputs, and the cost at those that cannot be refitted."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deadhead.data.calibration import Batch, count
from deadhead.data.losses import Loss
from deadhead.gates.gates import Gates
from deadhead.gates.slopes import slopes_by_sample
from deadhead.graph.units.groups import Group
from deadhead.progress import Progress, track
from deadhead.reconstruction.consumers import Consumer, consumers_of
from deadhead.reconstruction.curvature import output_curvatures, root_of
from deadhead.reconstruction.sums import Regression
from deadhead.reconstruction.surgeon import Side, damped

SCORE_DAMPING = 1e-3
"""Damping of the columns' second moments where units are scored, in parts of their mean."""


class Weighing:
    """The cost of errors at every consumer of some groups, measured on some data.

    Args:
        gates: the network and the loss.
        groups: the groups whose units are scored or chosen.
        batches: the data.
        seed: the seed of the targets that are drawn from the model's prediction.
        progress: what reports the batches done.
        weighted: whether errors are weighted by the curvature of the loss; else all outputs count the same.

    Attributes:
        consumers: {weight: consumer}, those that can be compensated.
        roots: {weight: the root of the curvature at its outputs}, (groups, o, o), or of its diagonal, (groups, o).
        extra: {group: (K,)}, the cost of each unit at consumers that cannot be compensated.
    """

    def __init__(
        self,
        gates: Gates,
        groups: Sequence[Group],
        batches: Sequence[Batch],
        seed: int = 0,
        progress: Progress | None = None,
        weighted: bool = True,
    ) -> None:
        found, _ = consumers_of(gates.network, groups)
        self.consumers = {consumer.weight: consumer for consumer in found}
        self.roots: dict[str, Tensor] = {}
        if weighted:
            curvatures = output_curvatures(gates, self.consumers, batches, seed, progress)
            self.roots = {weight: torch.stack([root_of(s) for s in found]) for weight, found in curvatures.items()}
        self.extra = _extra(gates, groups, self.consumers, batches, seed, progress)

    def consumers_of(self, group: Group) -> list[Consumer]:
        """The consumers of a group that can be compensated."""
        return [consumer for consumer in self.consumers.values() if group.name in consumer.reads]

    def sides(
        self,
        group: Group,
        consumer: Consumer,
        weight: Tensor,
        known: Sequence[Regression],
        removed: Mapping[str, Tensor],
        damping: float | None = None,
    ) -> list[Side]:
        """The least-squares problems of one consumer: a side for each group of outputs and each block of columns.

        Args:
            group: the group whose units are chosen.
            consumer: one of its consumers.
            weight: the consumer's weight in the intact network.
            known: the sums at the consumer, one for each block.
            removed: {group: the units that are removed already}.
            damping: of the second moments, in parts of their mean; `SCORE_DAMPING` where None.
        """
        damping = SCORE_DAMPING if damping is None else damping
        matrix = consumer.matrix(weight).double()
        reference = torch.cat([matrix, matrix.new_zeros((*matrix.shape[:-1], 1))], -1)
        missing = consumer.removed_columns(weight, removed)[0]
        constant = torch.tensor([consumer.constant is not None], device=weight.device)
        units = torch.cat([consumer.units(group.name, weight), torch.tensor([-1], device=weight.device)])
        present = torch.cat([~missing, constant])
        sides = []
        for part, place in itertools.product(known, range(consumer.groups)):
            plain = (part.gram[place] / part.count).to(matrix)
            gram = damped(plain, damping)
            columns = torch.arange(len(missing), device=weight.device)[part.columns]
            columns = torch.cat([columns, columns.new_tensor([len(missing)])])
            target = (part.cross[place] / part.count).to(matrix) + reference[place][:, columns] @ (gram - plain)
            if consumer.weight in self.roots:
                root = self.roots[consumer.weight][place].to(matrix)
                target = root @ target if root.dim() == 2 else root[:, None] * target
            sides.append(Side(gram, target, units[columns], present[columns]))
        return sides


def _extra(
    gates: Gates,
    groups: Sequence[Group],
    consumers: Mapping[str, Consumer],
    batches: Sequence[Batch],
    seed: int,
    progress: Progress | None,
) -> dict[str, Tensor]:
    """The cost of each unit through the consumers that cannot be compensated, (K,) for each group.

    It is `mean_n (dL_n/dalpha_k)^2`, with L against targets drawn as in `output_curvatures`.
    """
    extra = {group.name: torch.zeros(group.size, dtype=torch.float64) for group in groups}
    others = {
        (group.name, index)
        for group in groups
        for index, site in enumerate(group.consumers)
        if site.weight not in consumers
    }
    if not others:
        return extra
    generator = torch.Generator().manual_seed(seed)
    sampled, loss = gates.loss_function.sampled, gates.loss_function
    drawn = loss if sampled is None else Loss(loss.name, lambda outputs, batch: sampled(outputs, batch, generator))
    judged = gates.judged_by(drawn)
    affected = [group for group in groups if any(name == group.name for name, _ in others)]
    parts = [part for batch in batches for part in gates.passes_per_sample(batch, affected)]
    for batch, sample in track(progress, "curvature", parts):
        for name, slope in slopes_by_sample(judged, affected, batch, sample, others).items():
            extra[name] += slope.square().sum(0)
    return {name: total / count(batches) for name, total in extra.items()}
