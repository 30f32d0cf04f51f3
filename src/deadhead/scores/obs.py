"""The optimal brain surgeon as a criterion: what the loss rises by when a unit goes and the others take over."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deadhead.consumers import Consumer, consumers_of
from deadhead.data.calibration import Batch, count
from deadhead.data.losses import Loss
from deadhead.gates import Gates
from deadhead.graph.units.groups import Group
from deadhead.output_curvature import output_curvatures, root_of
from deadhead.progress import Progress, track
from deadhead.scores.criterion import Question, criterion
from deadhead.scores.slopes import slopes_by_sample
from deadhead.scores.surgeon import Side, choose, damped
from deadhead.statistics import Regression, grams, of_itself

MEMORY = 2**30
"""Bytes that the statistics of the groups of one pass may take, where there are several."""
DAMPING = 1e-3
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

    def of(self, group: Group) -> list[Consumer]:
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
        block of columns. The second moments are damped by `DAMPING` where no other is given."""
        damping = DAMPING if damping is None else damping
        matrix = consumer.matrix(weight).double()
        reference = torch.cat([matrix, matrix.new_zeros((*matrix.shape[:-1], 1))], -1)
        dead = consumer.dead_columns(weight, removed)[0]
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
    parts = [part for batch in batches for part in gates.apart(batch, affected)]
    for batch, sample in track(progress, "curvature", parts):
        for name, slope in slopes_by_sample(judged, affected, batch, sample, others).items():
            extra[name] += slope.square().sum(0)
    return {name: total / count(batches) for name, total in extra.items()}


@criterion("obs", comparable=True, increase=True, reference="zero", at_consumers=True)
def obs(question: Question) -> dict[str, Tensor]:
    """By how much the loss should rise when a unit goes after those that score less, and the units that are left take
    over: half the cost of the optimal brain surgeon, shape (K,).

    In each group by itself, the unit goes next whose removal raises `J = sum_c tr(S_c E[(W_c a~ - y_c)(W_c a~ -
    y_c)^T])` least when the other columns of its consumers c are refitted: `tr(S W_k ([G^-1]_kk)^-1 W_k^T)` summed over
    them, a unit's columns (a channel's patch, a flattened channel, a head) as one block, `W` and `G^-1` updated after
    each. `S` is the Gauss-Newton curvature of the loss at what a consumer gives (`output_curvatures`), or the identity
    with `output_weight="none"`. Scores never fall along the order of removal. Consumers that cannot be refitted count
    with `1/2 mean_n (ds_n/dalpha_k)^2`.

    One target is drawn for each row in turn, by the question's seed. That S does not depend on a, and that positions do
    not curve together, are approximations; so is that, where a consumer has too many columns for one matrix
    (`blocks.MOST_COLUMNS`), only those of the same block take over. Source: Hassibi and Stork 1993, for units with
    their consumers' statistics.
    """
    gates = question.gates_without_references()
    weighing = Weighing(
        gates, question.groups, question.batches, question.seed, question.progress, question.output_weight == "loss"
    )
    question.kept["weighing"] = weighing
    result = {}
    for part in _in_parts(weighing, question.groups):
        blocks = {consumer.weight: consumer.blocks for group in part for consumer in weighing.of(group)}
        known = grams(gates, list(blocks), question.batches, question.progress, blocks) if blocks else {}
        for group in part:
            sides = []
            for consumer in weighing.of(group):
                weight = gates.state[consumer.weight]
                regression = of_itself(known.get(consumer.weight), consumer.matrix(weight).double())
                if regression is not None:
                    sides += weighing.sides(group, consumer, weight, regression, {})
            choice = choose(sides, group.size, group.size, weighing.extra[group.name], sweeps=0, tries=0)
            saliency = torch.zeros(group.size, dtype=torch.float64)
            costs = torch.tensor(choice.costs, dtype=torch.float64)
            rising = 1 + 1e-9 * torch.arange(group.size, dtype=torch.float64)  # so that equal ones keep their order
            saliency[choice.order] = 0.5 * costs.clamp(min=0).cummax(0).values * rising
            result[group.name] = saliency
    return result


def _in_parts(weighing: Weighing, groups: Sequence[Group]) -> list[list[Group]]:
    """Groups whose statistics are read in one pass over the data: as many as fit the memory, at least one."""
    parts: list[list[Group]] = []
    held = MEMORY
    for group in groups:
        takes = sum(8 * consumer.products for consumer in weighing.of(group))
        if not parts or held + takes > MEMORY:
            parts.append([])
            held = 0
        parts[-1].append(group)
        held += takes
    return parts
