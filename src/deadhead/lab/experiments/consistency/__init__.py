"""Consistency of relevance rules: two ways to see one op, which ought to give the same relevance."""

from deadhead.lab.experiments.consistency.experiment import consistency

__all__ = ["consistency"]
