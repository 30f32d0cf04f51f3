"""Networks that grow by cascade correlation beside networks that are pruned: which is smaller at equal error?"""

from deadhead.lab.experiments.cascade.experiment import cascade

__all__ = ["cascade"]
