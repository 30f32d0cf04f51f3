"""Bias propagation: the mean contribution of removed units is added to their consumers' biases."""

from __future__ import annotations

from deadhead.compensate.method import Problem, compensation
from deadhead.gates.state import PrunedState
from deadhead.reconstruction.compensation import NOT_READ, Compensation, contribution, put_constant
from deadhead.reconstruction.consumers import consumers_of
from deadhead.reconstruction.sums import patch_means


@compensation("mean")
def mean(problem: Problem) -> Compensation:
    """Add what the removed units give on average to their consumers' biases (bias propagation).

    `b' = b + sum_{i removed} W[:, i] E[a_i]`, the mean over samples and positions; for a convolution the mean of each
    tap counts its zero padding.

    Source: Evci (2018), eq. 1.5 and 1.6; "Train first vs prune first in neural networks", AI Alignment Forum.
    """
    network, result = problem.network, Compensation()
    consumers, result.refused = consumers_of(network, problem.affected)
    weights = [consumer.weight for consumer in consumers]
    means = patch_means(PrunedState.of(network).gates(), weights, problem.calibration.fit, problem.progress)
    tensors = network.frozen_state()
    for consumer in consumers:
        if consumer.weight not in means:
            result.refused[consumer.weight] = NOT_READ
        elif consumer.constant is None:
            result.refused[consumer.weight] = "it has no bias to which the constant could be added"
        else:
            weight = tensors[consumer.weight]
            constant = contribution(consumer, weight, problem.plan.removed, means[consumer.weight])
            put_constant(result, consumer, constant, tensors)
    return result
