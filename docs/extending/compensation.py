"""A compensation: bias propagation by the median instead of the mean, for linear consumers."""

import torch

from deadhead.compensate import Problem, compensation
from deadhead.gates.moments import medians
from deadhead.reconstruction.compensation import Compensation, put_constant
from deadhead.reconstruction.consumers import consumers_of


@compensation("median")
def median(problem: Problem, *, share: float = 1.0) -> Compensation:
    """Add what removed units give in the median, times `share`, to the biases of the linear layers that read them."""
    result, weights = Compensation(), problem.network.frozen_state()
    consumers, result.refused = consumers_of(problem.network, problem.affected)
    gates = problem.state().closing({}).gates()  # of the intact network
    found = medians(gates, problem.affected, problem.calibration.fit, problem.progress)
    for consumer in consumers:
        weight = weights[consumer.weight]
        if weight.dim() != 2 or consumer.constant is None:
            result.refused[consumer.weight] = "it is no linear layer with a bias"
            continue
        for group in problem.affected:
            for site, values in zip(group.consumers, found[group.name], strict=True):
                if site.weight == consumer.weight:
                    removed = torch.isin(site.units, problem.plan.removed[group.name])
                    put_constant(result, consumer, share * (weight.double() @ (values * removed)), weights)
    return result
