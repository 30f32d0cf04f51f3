"""The gradient rule, which stands anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deadhead.graph.catalogue import names_of
from deadhead.relevance.edges import Signal
from deadhead.relevance.forward import Record
from deadhead.relevance.rules.rule import Contributions, Here, Rule

_EXACT = frozenset({"movement", "sum", "linear", "convolution", "maximum"})
"""Kinds whose derivative leaves nothing but constants."""


_CHOOSING = frozenset(names_of("maximum", relevance="movement"))
"""Movements whose order depends on the values: not the same under a baseline."""


JOINT = frozenset({"movement", "maximum"})
"""Kinds whose constants are operands like the others."""


@dataclass(frozen=True)
class Gradient(Rule):
    """`S_a = (db/da)^T S_b`, whatever the signal S is.

    On Q, this is gradient x input; linear ops then conserve relevance, and so do maxima. Where `remainder` is set,
    what other functions leave of it, `(f(a) - f'(a) a) Q`, is absorbed; under a baseline the derivatives at both ends
    are averaged. Source: 000, section 2, "Gradient" of each kind of op.
    """

    remainder: bool = True
    kinds: ClassVar[frozenset[str]] = frozenset(
        {"movement", "sum", "linear", "convolution", "maximum", "product", "nonlinearity", "softmax", "normalisation",
         "general", "embedding", "unknown"}
    )  # fmt: skip
    referenced: ClassVar[bool] = True

    def back(self, here: Here, record: Record, signal: Signal) -> Contributions:
        step, base = record.step, here.base(record)
        joint = step.kind in JOINT
        loose = [key for key in step.loose if key in record.edges] if base is not None or joint else []
        still = [key for key in step.still if key in record.edges] if base is None and joint else []
        keys = (*step.live, *loose, *still)
        found = record.transposed(signal.tensor, keys)
        same = base is None or not (step.kind == "maximum" or step.loose or step.op in _CHOOSING)
        exact = step.kind in _EXACT and same
        if base is not None and not exact:
            other = base.transposed(signal.tensor, keys)
            found = [(a + b) / 2 for a, b in zip(found, other, strict=True)]
        given = {key: signal.like(each) for key, each in zip(keys, found, strict=True)}
        here.blame_all(record, signal.tensor)
        if not exact and self.remainder and signal.form == "Q":
            here.absorb_rest(record, signal.tensor, given)
        return given
