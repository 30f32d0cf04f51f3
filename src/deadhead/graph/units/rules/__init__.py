"""One file for each family of ops: how each moves, merges or fixes labels. They know the registry, not each other."""

from deadhead.graph.units.registry import RULES, propagate, rule
from deadhead.graph.units.rules import (  # noqa: F401
    attention,
    convolution,
    elementwise,
    indexing,
    linear,
    movement,
    normalisation,
    pooling,
    reduction,
)

__all__ = ["RULES", "propagate", "rule"]
