"""The form of a relevance rule, and what a rule may ask of the backward pass in which it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from torch import Tensor

from deadhead.relevance.forward import Record
from deadhead.relevance.operations import Key
from deadhead.relevance.signals import Signal

Contributions = Mapping[Key, Signal]
"""For each operand of an op, the signal that its rule sends there."""


class RuleContext(Protocol):
    """The backward pass as a rule sees it: baseline, signals in the form Q or R, biases, and what is absorbed."""

    def base(self, record: Record) -> Record | None:
        """The same operation under the baseline, where there is one."""

    def to_q(self, record: Record, signal: Signal) -> Tensor:
        """The signal at an operation's output, as Q; what has no Q, R where a = r, is absorbed."""

    def to_r(self, record: Record, signal: Signal) -> Tensor:
        """The signal at an operation's output, as R."""

    def blame_biases(self, record: Record, q: Tensor) -> None:
        """Give `(c - c_baseline) Q` to each constant c that an operation adds."""

    def blame_constants(self, record: Record, q: Tensor, constants: Sequence[Tensor | None]) -> None:
        """Give `c Q` to each constant that an operation adds: c as the rule sees it, nothing where it is None."""

    def blame_value_at_zero(self, record: Record, relevance: Tensor) -> None:
        """Give relevance to a function's own bias, f(0)."""

    def absorb(self, record: Record, relevance: Tensor, factor: float = 1.0) -> None:
        """Count `factor` times a relevance, in the layout of what the operation gives, as given to nothing."""

    def absorb_where(self, record: Record, none: Tensor | None, relevance: Tensor) -> None:
        """Count relevance as given to nothing where `none` is true."""

    def absorb_remainder(self, record: Record, signal: Tensor, given: Contributions) -> None:
        """Count what is left of `(b - b_baseline) Q` after what was given, a Taylor remainder, as given to nothing."""


class RelevanceRule(ABC):
    """A rule that shares the relevance of an op's output among its operands; subclasses are frozen dataclasses.

    `kinds` are the kinds of op (the keys of a composite's `rules`) for which it has a meaning, `supports_baseline`
    whether it can compare with a baseline input, `unfused` whether it needs the op's output before biases are added.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Halved(RelevanceRule):
    ...     "Half of the relevance goes on, the other half is absorbed."
    ...     kinds = frozenset({"nonlinearity"})
    ...     def back(self, context, record, signal):
    ...         half = context.to_r(record, signal) / 2
    ...         context.absorb(record, half)
    ...         return {record.operation.live[0]: Signal(half, "R")}
    >>> import torch, deadhead as dh
    >>> from deadhead.relevance import named_composite
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU())
    >>> own = named_composite("blame_bias").but({"nonlinearity": Halved()})
    >>> bool(dh.attribute(model, torch.rand(3, 2), 0, own).residual.abs().max() < 1e-6)
    True
    """

    kinds: ClassVar[frozenset[str]] = frozenset()
    supports_baseline: ClassVar[bool] = False

    @property
    def unfused(self) -> bool:
        """Whether the rule needs the op's output before its biases are added."""
        return False

    @abstractmethod
    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        """Share the signal at an op's output among its operands.

        Args:
            context: the backward pass.
            record: the op as it ran: its operands, biases and output.
            signal: what arrived at the output, in its shape, as Q or R.

        Returns:
            For each operand that carries relevance (`record.operation.live`), the signal that it gets.
        """
