"""The optimal brain surgeon as a criterion: by how much the loss rises when a unit is removed and the others are
refitted.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from deadhead.errors import DataError
from deadhead.graph.units.groups import Group
from deadhead.reconstruction.sums import STATISTICS_BYTES, grams, of_itself
from deadhead.reconstruction.surgeon import choose
from deadhead.reconstruction.weighing import Weighing
from deadhead.scores.criterion import Question, criterion


@criterion("obs", comparable=True, increase=True, reference="zero", at_consumers=True, front_to_back=True)
def obs(question: Question, *, output_weight: str = "loss", weighing: Weighing | None = None) -> dict[str, Tensor]:
    """Optimal brain surgeon (OBS) for units: the predicted rise of the loss when a unit is removed, after those that
    score lower, and the remaining weights are refitted.

    Shape (K,), half the cost of removal. In each group by itself, the next unit is the one whose removal raises
    `J = sum_c tr(S_c E[(W_c a~ - y_c)(W_c a~ - y_c)^T])` by the smallest amount when the other columns of its consumers
    c are refitted: `tr(S W_k ([G^-1]_kk)^-1 W_k^T)` summed over them, a unit's columns (a channel's patch, a flattened
    channel, a head) as one block, `W` and `G^-1` updated after each. Scores never fall along the order of removal.
    Consumers that cannot be refitted count with `1/2 mean_n (ds_n/dalpha_k)^2`.

    Approximations: S does not depend on a (as in Kronecker-factored curvature); second derivatives between positions
    are left out; one target is drawn for each sample, by the question's seed; where a consumer has too many columns for
    one matrix, only those of the same block are refitted.

    Args:
        question: the network, its groups, the data and the loss.
        output_weight: "loss": S is the Gauss-Newton curvature of the loss at what a consumer gives; "none": the
            identity, and the scores are in the unit of squared outputs.
        weighing: S, where it is known already.

    Raises:
        DataError: where there is no such `output_weight`.

    Source: Hassibi and Stork (1993), for units with their consumers' statistics; Martens and Grosse (2015) for S.
    """
    if output_weight not in ("loss", "none"):
        raise DataError(f"There is no output_weight {output_weight!r}; it is loss or none.")
    gates = question.gates_without_references()
    if weighing is None:
        weighing = Weighing(
            gates, question.groups, question.batches, question.seed, question.progress, output_weight == "loss"
        )
    result = {}
    for part in _in_parts(weighing, question.groups):
        blocks = {consumer.weight: consumer.blocks for group in part for consumer in weighing.consumers_of(group)}
        known = grams(gates, list(blocks), question.batches, question.progress, blocks) if blocks else {}
        for group in part:
            sides = []
            for consumer in weighing.consumers_of(group):
                weight = gates.state[consumer.weight]
                regression = of_itself(known.get(consumer.weight), consumer.matrix(weight).double())
                if regression is not None:
                    sides += weighing.sides(group, consumer, weight, regression, {})
            choice = choose(sides, group.size, group.size, weighing.extra[group.name], sweeps=0, tries=0)
            result[group.name] = choice.scores()
    return result


def _in_parts(weighing: Weighing, groups: Sequence[Group]) -> list[list[Group]]:
    """Groups whose statistics are read in one pass over the data: as many as fit in STATISTICS_BYTES, at least one."""
    parts: list[list[Group]] = []
    held = STATISTICS_BYTES
    for group in groups:
        takes = sum(8 * consumer.products for consumer in weighing.consumers_of(group))
        if not parts or held + takes > STATISTICS_BYTES:
            parts.append([])
            held = 0
        parts[-1].append(group)
        held += takes
    return parts
