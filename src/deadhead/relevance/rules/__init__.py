"""The rules, one file per family of ops: how relevance at what an op gives is shared among what it reads.

A rule is a small frozen dataclass with a method `back(here, record, signal)`; it knows the pass (`backward.Pass`) by
the methods of `rules/rule.py` and no other family.
"""

from deadhead.relevance.rules.general import Gradient
from deadhead.relevance.rules.linear import AlphaBeta, Flat, Gamma, Normalised, WSquare, ZPlus
from deadhead.relevance.rules.maximum import Fold, Radial, SoftMaximum
from deadhead.relevance.rules.nonlinearity import Guided, Ignore, Repeat, Slope
from deadhead.relevance.rules.product import Detached, Half
from deadhead.relevance.rules.rule import Contributions, Here, Rule

__all__ = [
    "AlphaBeta", "Contributions", "Detached", "Flat", "Fold", "Gamma", "Gradient", "Guided", "Half", "Here", "Ignore",
    "Normalised", "Radial", "Repeat", "Rule", "Slope", "SoftMaximum", "WSquare", "ZPlus",
]  # fmt: skip
