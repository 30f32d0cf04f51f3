"""Few images with wrong labels among them: does a network that is pruned while it trains memorise less?"""

from deadhead.lab.experiments.regulariser.experiment import regulariser

__all__ = ["regulariser"]
