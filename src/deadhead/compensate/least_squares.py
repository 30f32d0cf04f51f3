"""Least squares: consumers are refitted to their outputs in the intact network."""

from __future__ import annotations

from deadhead.compensate.method import Problem, compensation
from deadhead.gates.state import PrunedState
from deadhead.progress import track
from deadhead.reconstruction.compensation import Compensation, put
from deadhead.reconstruction.consumers import consumers_of
from deadhead.reconstruction.sums import grams, of_itself, regressions


@compensation("least_squares", front_to_back=True)
def least_squares(problem: Problem) -> Compensation:
    """Refit the remaining columns and the bias of each consumer to what it gave in the intact network, front to back.

    Each consumer reads the activations of the network as it is pruned and compensated before it
    (`reconstruction/solve.py` has the formula). Consumers are convolutions, transposed ones too, and products of two
    tensors (linear, matmul, einsum). Weights that are used elsewhere too, or by other ops, are refused with the reason;
    consumers with more than `blocks.MOST_COLUMNS` columns are fitted in blocks.
    """
    result, network = Compensation(), problem.network
    consumers, result.refused = consumers_of(network, problem.affected)
    intact = PrunedState.of(network).gates()
    for consumer in track(problem.progress, "compensation", consumers):
        gates = problem.state(result).gates()
        matrix = {consumer.weight: consumer.matrix(intact.state[consumer.weight])}
        known, held_out = (
            regressions(intact, gates, matrix, part, {consumer.weight: consumer.blocks}).get(consumer.weight)
            for part in (problem.calibration.fit, problem.calibration.held_out)
        )
        put(network, consumer, problem.plan.removed, known, held_out, result)
    return result


@compensation("least_squares_one_pass")
def least_squares_one_pass(problem: Problem) -> Compensation:
    """Refit all consumers on the intact network's activations, in one pass over the data: cheaper, not as good."""
    result, network = Compensation(), problem.network
    consumers, result.refused = consumers_of(network, problem.affected)
    intact = PrunedState.of(network).gates()
    names = [consumer.weight for consumer in consumers]
    blocks = {consumer.weight: consumer.blocks for consumer in consumers}
    known, held_out = (
        grams(intact, names, part, problem.progress, blocks)
        for part in (problem.calibration.fit, problem.calibration.held_out)
    )
    for consumer in consumers:
        weight = consumer.matrix(intact.state[consumer.weight]).double()
        fit, unseen = (of_itself(sums.get(consumer.weight), weight) for sums in (known, held_out))
        put(network, consumer, problem.plan.removed, fit, unseen, result)
    return result
