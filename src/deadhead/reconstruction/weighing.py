"""What the errors of consumers cost: the curvature at what they give, and what cannot be compensated."""

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
"""By how much the columns' second moments are damped where units are judged, in parts of their mean."""


class Weighing:
    """What the errors of every consumer of some groups cost: `consumers` that can be compensated, by weight, and
    `roots[weight]` of the curvature at what they give, (groups, o, o) or of its diagonal; `extra[group]` (K,), what
    units cost besides, at consumers that cannot be compensated."""

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
        """What one consumer says about a group, `removed` being gone already: a side for each group of outputs and each
        block of columns. The second moments are damped by `SCORE_DAMPING` where no other is given."""
        damping = SCORE_DAMPING if damping is None else damping
        matrix = consumer.matrix(weight).double()
        reference = torch.cat([matrix, matrix.new_zeros((*matrix.shape[:-1], 1))], -1)
        dead = consumer.removed_columns(weight, removed)[0]
        constant = torch.tensor([consumer.constant is not None], device=weight.device)
        units = torch.cat([consumer.units(group.name, weight), torch.tensor([-1], device=weight.device)])
        free = torch.cat([~dead, constant])
        sides = []
        for part, place in itertools.product(known, range(consumer.groups)):
            plain = (part.gram[place] / part.count).to(matrix)
            gram = damped(plain, damping)
            there = torch.arange(len(dead), device=weight.device)[part.columns]
            there = torch.cat([there, there.new_tensor([len(dead)])])
            wanted = (part.cross[place] / part.count).to(matrix) + reference[place][:, there] @ (gram - plain)
            if consumer.weight in self.roots:
                root = self.roots[consumer.weight][place].to(matrix)
                wanted = root @ wanted if root.dim() == 2 else root[:, None] * wanted
            sides.append(Side(gram, wanted, units[there], free[there]))
        return sides


def _extra(
    gates: Gates,
    groups: Sequence[Group],
    consumers: Mapping[str, Consumer],
    batches: Sequence[Batch],
    seed: int,
    progress: Progress | None,
) -> dict[str, Tensor]:
    """`mean_n (ds_n/dalpha_k)^2` through the consumers that cannot be compensated, s as in `output_curvatures`."""
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
