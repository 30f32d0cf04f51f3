"""The learning-rate attack: do units die of a few steps that are far too large, and what shows that they did?"""

from deadhead.lab.experiments.attack.experiment import attack

__all__ = ["attack"]
