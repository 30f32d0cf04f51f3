"""Criteria: what each unit is worth, one family to a file. Imports gates, statistics and below."""

from deadhead.scores import activation, baseline, magnitude, oracle, replacement, taylor  # noqa: F401
from deadhead.scores.criterion import CRITERIA, Criterion, Question, criterion, score

__all__ = ["CRITERIA", "Criterion", "Question", "criterion", "score"]
