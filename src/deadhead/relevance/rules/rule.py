"""What a rule is, and what it may ask of the pass in which it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from torch import Tensor

from deadhead.relevance.edges import Signal
from deadhead.relevance.forward import Record
from deadhead.relevance.steps import Key

Contributions = Mapping[Key, Signal]
"""For each operand of an op, the signal that its rule sends there."""


class Here(Protocol):
    """The pass as a rule sees it."""

    def base(self, record: Record) -> Record | None:
        """The same step under the baseline, where there is one."""

    def to_q(self, record: Record, signal: Signal) -> Tensor:
        """The signal at what a step gives, as Q; what cannot be told, R where a = r, is absorbed."""

    def to_r(self, record: Record, signal: Signal) -> Tensor:
        """The signal at what a step gives, as R."""

    def blame(self, record: Record, relevance: list[Tensor]) -> None:
        """Relevance of the constants that a step adds, each in the layout of what the step gives."""

    def blame_all(self, record: Record, q: Tensor) -> None:
        """`(c - c_base) Q` for each constant that a step adds."""

    def blame_shares(self, record: Record, q: Tensor, constants: Sequence[Tensor | None]) -> None:
        """`c Q` for each constant that a step adds: the constants as the rule sees them, nothing where None."""

    def blame_own(self, record: Record, relevance: Tensor) -> None:
        """Relevance of a step's own constant, f(0)."""

    def absorb(self, record: Record, relevance: Tensor, factor: float = 1.0) -> None:
        """`factor` times a relevance that a rule gives to nothing, in the layout of what the step gives."""

    def absorb_where(self, record: Record, none: Tensor | None, relevance: Tensor) -> None:
        """Relevance that is given to nothing where `none` says, in the layout of what the step gives."""

    def absorb_rest(self, record: Record, signal: Tensor, given: Contributions) -> None:
        """What a derivative leaves of `(b - b_base) Q`: its Taylor remainder."""


class Rule(ABC):
    """A rule for some kinds of op. `kinds` are those where it may stand, `referenced` whether it can compare with a
    baseline, `apart` whether it needs what an op gives before its constants are added."""

    kinds: ClassVar[frozenset[str]] = frozenset()
    referenced: ClassVar[bool] = False

    @property
    def apart(self) -> bool:
        return False

    @abstractmethod
    def back(self, here: Here, record: Record, signal: Signal) -> Contributions:
        """What each live operand of the step gets of the signal at its value."""
