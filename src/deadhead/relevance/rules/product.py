"""Relevance rules for products of activations (attention, gates) and for what divides or weighs: softmax, norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deadhead.relevance.forward import Record
from deadhead.relevance.rules.rule import Contributions, RelevanceRule, RuleContext
from deadhead.relevance.signals import Signal


@dataclass(frozen=True)
class Uniform(RelevanceRule):
    """AttnLRP's uniform rule: the operands of a product of activations share its relevance equally.

    For `b = u v`, `Q_u = v Q_b / 2` in the form Q = R / a, where the gradient would double the relevance; each of n
    operands gets one nth. With a baseline `Q_u = (v + v_baseline) Q_b / 2`, exact for two operands.

    Source: Achtibat et al. (2024), eq. 15.

    >>> Uniform()
    Uniform()
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"product"})
    supports_baseline: ClassVar[bool] = True

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        operation, base = record.operation, context.base(record)
        q = context.to_q(record, signal)
        if base is None:
            found = record.transposed(q / operation.degree, operation.live)
            context.blame_biases(record, q)
            return {key: Signal(each, "Q") for key, each in zip(operation.live, found, strict=True)}
        keys = (*operation.live, *(key for key in operation.detached if key in record.edges))
        both = zip(record.transposed(q, keys), base.transposed(q, keys), strict=True)
        given = {key: Signal((a + b) / 2, "Q") for key, (a, b) in zip(keys, both, strict=True)}
        context.blame_biases(record, q)
        if (
            len(keys) > 2
            or operation.degree > 2
            or len(operation.detached) > sum(key in record.edges for key in operation.detached)
        ):
            context.absorb_remainder(record, q, given)
        return given


@dataclass(frozen=True)
class Detach(RelevanceRule):
    """Detach: the op's output is treated as a constant factor, as by `Tensor.detach`, and passes no relevance on.

    The default for the softmax of attention and of gates, and for the reciprocals of deviations and norms: the AH and
    LN rules for transformers.

    Source: Ali et al. (2022), eq. 10 and 13.

    >>> Detach()
    Detach()
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"softmax", "normalisation"})

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        context.absorb(record, context.to_r(record, signal))
        return {}
