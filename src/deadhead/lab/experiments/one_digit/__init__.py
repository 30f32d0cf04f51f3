"""One digit against the rest, training stopped early: does removing units improve the network?"""

from deadhead.lab.experiments.one_digit.experiment import one_digit

__all__ = ["one_digit"]
