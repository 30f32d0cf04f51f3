"""A relevance rule: an uneven share for the two operands of a product, and a method that uses it."""

from dataclasses import dataclass
from typing import ClassVar

from deadhead.relevance import Composite, named_composite
from deadhead.relevance.forward import Record
from deadhead.relevance.registry import composite
from deadhead.relevance.rules import RelevanceRule, Uniform
from deadhead.relevance.rules.rule import Contributions, RuleContext
from deadhead.relevance.signals import Signal


@dataclass(frozen=True)
class Uneven(RelevanceRule):
    """The first operand of a product gets the share `first` of its relevance, the second the rest."""

    first: float = 0.5
    kinds: ClassVar[frozenset[str]] = frozenset({"product"})

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        keys = record.operation.live
        if len(keys) != 2 or record.operation.degree != 2:
            return Uniform().back(context, record, signal)
        q = context.to_q(record, signal)
        context.blame_biases(record, q)
        shares = zip(keys, (self.first, 1 - self.first), strict=True)
        return {key: Signal(record.transposed(share * q, [key])[0], "Q") for key, share in shares}


@composite("lrp_uneven")
def lrp_uneven(*, first: float = 0.5, epsilon: float = 0.0) -> Composite:
    """LRP-epsilon, with an uneven share for the two operands of products."""
    return named_composite("lrp_epsilon", epsilon=epsilon).but({"product": Uneven(first)})
