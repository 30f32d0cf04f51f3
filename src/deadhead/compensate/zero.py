"""No compensation: consumers read zero where a unit is removed."""

from __future__ import annotations

from deadhead.compensate.method import Problem, compensation
from deadhead.reconstruction.compensation import Compensation


@compensation("zero", adds_biases=False)
def zero(problem: Problem) -> Compensation:
    """Change nothing: consumers read zero where a unit is removed."""
    return Compensation()
