"""Criteria: scores of units and weights, one family to a file. Imports reconstruction and what comes before it."""

from deadhead.scores import activation, exact, obs, random, replacement, taylor, weights  # noqa: F401
from deadhead.scores.certificate.certificate import certify
from deadhead.scores.criterion import CRITERIA, Criterion, Question, criterion
from deadhead.scores.score import score
from deadhead.scores.second_order import taylor2  # noqa: F401
from deadhead.scores.single_weights.hessian import full_hessian
from deadhead.scores.single_weights.parameters import score_parameters
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
