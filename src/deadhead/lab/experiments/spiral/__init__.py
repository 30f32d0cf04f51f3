"""Two spiral arms, learned by two hidden layers of 50: does it matter whether pruning or training comes first?"""

from deadhead.lab.experiments.spiral.experiment import spiral

__all__ = ["spiral"]
