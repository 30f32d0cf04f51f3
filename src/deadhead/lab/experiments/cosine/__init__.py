"""The cosine, learned by 20 and by 100 sigmoid units, which are then removed one by one: how many does it take?"""

from deadhead.lab.experiments.cosine.experiment import cosine_experiment

__all__ = ["cosine_experiment"]
