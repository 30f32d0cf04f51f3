"""The gradient rule, which stands anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deadhead.graph.catalogue import names_of
from deadhead.relevance.forward import Record
from deadhead.relevance.rules.rule import Contributions, RelevanceRule, RuleContext
from deadhead.relevance.signals import Signal

_EXACT = frozenset({"movement", "sum", "linear", "convolution", "maximum"})
"""Kinds whose derivative leaves nothing but constants."""


_CHOOSING = frozenset(names_of("maximum", relevance="movement"))
"""Movements whose order depends on the values: not the same under a baseline."""


JOINT = frozenset({"movement", "maximum"})
"""Kinds whose constants are operands like the others."""


@dataclass(frozen=True)
class Gradient(RelevanceRule):
    """Gradient rule: the signal is multiplied by the transposed derivative, `S_a = (db/da)^T S_b`.

    On signals in the form Q = R / a this is gradient x input: linear ops and maxima conserve relevance. With a
    baseline, the derivatives at the input and at the baseline are averaged.

    Args:
        remainder: whether the Taylor remainder `(f(a) - f'(a) a) Q` of other functions counts as absorbed (default
            True); off, gradients are propagated and nothing is counted.

    Source: Simonyan et al. (2014), section 3; "Visualizing Neural networks, how to blame the bias", AI Alignment Forum,
    "Gradient".

    >>> Gradient()
    Gradient(remainder=True)
    """

    remainder: bool = True
    kinds: ClassVar[frozenset[str]] = frozenset(
        {"movement", "sum", "linear", "convolution", "maximum", "product", "nonlinearity", "softmax", "normalisation",
         "general", "embedding", "unknown"}
    )  # fmt: skip
    supports_baseline: ClassVar[bool] = True

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        operation, base = record.operation, context.base(record)
        joint = operation.kind in JOINT
        detached = [key for key in operation.detached if key in record.edges] if base is not None or joint else []
        fixed = [key for key in operation.fixed if key in record.edges] if base is None and joint else []
        keys = (*operation.live, *detached, *fixed)
        found = record.transposed(signal.tensor, keys)
        same = base is None or not (operation.kind == "maximum" or operation.detached or operation.op in _CHOOSING)
        exact = operation.kind in _EXACT and same
        if base is not None and not exact:
            other = base.transposed(signal.tensor, keys)
            found = [(a + b) / 2 for a, b in zip(found, other, strict=True)]
        given = {key: signal.like(each) for key, each in zip(keys, found, strict=True)}
        context.blame_biases(record, signal.tensor)
        if not exact and self.remainder and signal.form == "Q":
            context.absorb_remainder(record, signal.tensor, given)
        return given
