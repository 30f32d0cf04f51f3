"""Relevance in the training loss: does a network that is told where to look look there, or learn to seem to?"""

from deadhead.lab.experiments.goodhart.experiment import goodhart

__all__ = ["goodhart"]
