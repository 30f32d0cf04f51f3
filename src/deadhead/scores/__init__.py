"""Criteria: what each unit is worth, one family to a file. Imports gates, statistics and below."""

from deadhead.scores import activation, adjustment, baseline, curvature, magnitude, obs, oracle, replacement, taylor  # noqa: F401
from deadhead.scores.certificate import certify
from deadhead.scores.criterion import CRITERIA, Criterion, Question, criterion, score
from deadhead.scores.hessian import full_hessian
from deadhead.scores.parameters import score_parameters
from deadhead.scores.surface import error_surface

__all__ = [
    "CRITERIA",
    "Criterion",
    "Question",
    "certify",
    "criterion",
    "error_surface",
    "full_hessian",
    "score",
    "score_parameters",
]
