"""Relevance: which inputs and biases an output is made of, by layer-wise relevance propagation and its relatives.

`attribute` runs backward through the traced graph by a rule for each kind of op. `program` says what each op is,
`lowering/` how it is split into operations, `forward` runs them, `backward` applies the rules of `rules/` in the
opposite order; a `Composite` says which rule stands where, `registry` finds methods by name, `composites` and `average`
are the methods, `result` what comes out, `heatmap` its picture, `training` a loss made of it.

Files here import `graph`, `data`, `drawing`, `registry` and `errors`; a rule imports no other family of rules.
"""

from deadhead.relevance.attribute import attribute
from deadhead.relevance.composite import Composite
from deadhead.relevance.composites import named_composite
from deadhead.relevance.registry import METHODS, composite
from deadhead.relevance.result import Cut, Relevance
from deadhead.relevance.training import relevance_loss

__all__ = ["METHODS", "Composite", "Cut", "Relevance", "attribute", "composite", "named_composite", "relevance_loss"]
