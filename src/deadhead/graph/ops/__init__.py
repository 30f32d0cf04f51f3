"""One file per family of ops: how each moves, merges or fixes labels. They know the registry, not each other."""

from deadhead.graph.ops import (  # noqa: F401
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
from deadhead.graph.ops.registry import RULES, propagate, rule

__all__ = ["RULES", "propagate", "rule"]
