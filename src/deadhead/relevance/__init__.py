"""Relevance: where a decision comes from, run backward through the traced graph by a rule for each kind of op.

`plan` says what each op is, `forward` replays it, `backward` runs the rules of `rules/` in the opposite order,
`composites` says which rule stands where, `attribute` is the face, `heatmap` its picture, `training` a loss made of it.
Files here import `graph`, `calibration`, `drawing` and `errors` and nothing above; a rule knows the pass and no other
family of rules.
"""

from deadhead.relevance.attribute import attribute
from deadhead.relevance.composites import Composite
from deadhead.relevance.result import Cut, Relevance
from deadhead.relevance.training import relevance_loss

__all__ = ["Composite", "Cut", "Relevance", "attribute", "relevance_loss"]
