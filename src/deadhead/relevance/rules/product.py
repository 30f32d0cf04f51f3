"""Products of several values that depend on the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deadhead.relevance.edges import Signal
from deadhead.relevance.forward import Record
from deadhead.relevance.rules.rule import Contributions, Here, Rule


@dataclass(frozen=True)
class Half(Rule):
    """Each operand of `b = u v` gets half: `Q_u = v Q_b / 2`; of n operands each gets one nth.

    The plain derivative would double the relevance. With a baseline, `Q_u = (v + v_base) Q_b / 2`, which is exact for
    two operands. Source: the design's mathematics, "Products of activations"; AttnLRP (Achtibat et al., 2024), eq. 15.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"product"})
    referenced: ClassVar[bool] = True

    def back(self, here: Here, record: Record, signal: Signal) -> Contributions:
        step, base = record.step, here.base(record)
        q = here.to_q(record, signal)
        if base is None:
            found = record.transposed(q / step.degree, step.live)
            here.blame_all(record, q)
            return {key: Signal(each, "Q") for key, each in zip(step.live, found, strict=True)}
        keys = (*step.live, *(key for key in step.loose if key in record.edges))
        both = zip(record.transposed(q, keys), base.transposed(q, keys), strict=True)
        given = {key: Signal((a + b) / 2, "Q") for key, (a, b) in zip(keys, both, strict=True)}
        here.blame_all(record, q)
        if len(keys) > 2 or step.degree > 2 or len(step.loose) > sum(key in record.edges for key in step.loose):
            here.absorb_rest(record, q, given)
        return given


@dataclass(frozen=True)
class Detached(Rule):
    """What the op gives is treated as a constant factor: no relevance runs through it.

    The default for softmax that weighs something else, and for the reciprocals of deviations and norms. Source: Ali et
    al., "XAI for Transformers: Better Explanations through Conservative Propagation" (2022), eq. 10 and 13.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"softmax", "normalisation"})

    def back(self, here: Here, record: Record, signal: Signal) -> Contributions:
        here.absorb(record, here.to_r(record, signal))
        return {}
