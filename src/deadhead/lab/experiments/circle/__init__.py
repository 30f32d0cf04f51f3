"""A circle, learned by 20 hidden units: what a network loses where a random part of its units is closed."""

from deadhead.lab.experiments.circle.experiment import circle

__all__ = ["circle"]
