"""No compensation: what is removed is as if it were zero."""

from __future__ import annotations

from deadhead.compensate.method import Problem, compensation
from deadhead.reconstruction.compensation import Compensation


@compensation("zero", adds_biases=False)
def zero(problem: Problem) -> Compensation:
    """Change nothing: consumers read zero where a unit was removed."""
    return Compensation()
