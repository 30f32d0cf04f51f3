"""Relevance rules for linear and convolutional layers: LRP-0, -epsilon, -gamma, -z+, -alpha-beta, flat, w-squared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deadhead.errors import RelevanceError
from deadhead.relevance.forward import Record, transposed
from deadhead.relevance.operations import Additive, Key
from deadhead.relevance.rules.rule import Contributions, RelevanceRule, RuleContext
from deadhead.relevance.signals import Signal, divided, quotient_and_zeros, times, times_over

_WEIGHTED = frozenset({"linear", "convolution"})


def _all(record: Record, signal: Tensor) -> Contributions:
    found = record.transposed(signal, record.operation.live)
    return {key: Signal(each, "Q") for key, each in zip(record.operation.live, found, strict=True)}


@dataclass(frozen=True)
class Epsilon(RelevanceRule):
    """LRP-epsilon, and LRP-0 with epsilon = 0: relevance in proportion to each operand's contribution to the output.

    `R_i = sum_j a_i w_ij / (b_j + epsilon sign b_j) R_j`; in the form Q = R / a,
    `Q_i = sum_j w_ij |b_j| / (|b_j| + epsilon) Q_j`. What epsilon takes, and the relevance of outputs that are nothing
    but bias where `bias` is off, is absorbed.

    Args:
        epsilon: stabiliser added to the size of the denominator, in units of the output (default 0).
        bias: True (default): b_j contains its bias beta_j, which gets `beta_j / (b_j + epsilon sign b_j) R_j`. False:
            learned biases are left out of the denominator, `Q_i = sum_j w_ij b_j / (b_j - beta_j) Q_j`.

    Source: Bach et al. (2015), eq. 58; "Visualizing Neural networks, how to blame the bias", AI Alignment Forum,
    "Normalized", "Rephrasing Matrix Multiplication" and "Solution 1: Blame the Bias".

    >>> Epsilon(), Epsilon(1e-3)
    (Epsilon(epsilon=0.0, bias=True), Epsilon(epsilon=0.001, bias=True))
    """

    epsilon: float = 0.0
    bias: bool = True
    kinds: ClassVar[frozenset[str]] = frozenset({"linear", "convolution", "sum"})
    supports_baseline: ClassVar[bool] = True

    @property
    def unfused(self) -> bool:
        return not self.bias

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        if context.base(record) is not None:
            return _against_baseline(context, record, context.to_q(record, signal))
        used = [None if each.learned and not self.bias else c for each, c in _additive(record)]
        below = self._denominator(record, used)
        if self.epsilon:
            ratio = self._damped(context, record, signal, below)
        elif below is record.value:
            ratio = context.to_q(record, signal)
        elif signal.form == "Q":
            ratio, none = times_over(record.value, signal.tensor, below)
            if none is not None:
                context.absorb_where(record, none, context.to_r(record, signal))
        else:
            ratio, none = quotient_and_zeros(signal.tensor, below)
            context.absorb_where(record, none, signal.tensor)
        context.blame_constants(record, ratio, used)
        return _all(record, ratio)

    def _denominator(self, record: Record, used: Sequence[Tensor | None]) -> Tensor:
        """b_j, without the constants that stand outside of it."""
        if all(constant is not None for constant in used):
            return record.value
        below = record.product
        for constant in used:
            below = below if constant is None else below + constant
        return below

    def _damped(self, context: RuleContext, record: Record, signal: Signal, below: Tensor) -> Tensor:
        """R over the damped denominator; `epsilon sign(b)` of it is absorbed."""
        if signal.form == "Q" and below is record.value:  # sign(b) b = |b| loses nothing where b is small
            size = below.abs()
            damped = size + self.epsilon
            shared = divided(signal.tensor, damped)
            context.absorb(record, times(below, shared), self.epsilon)
            return size * shared
        shift = self.epsilon * torch.where(below < 0, -torch.ones_like(below), torch.ones_like(below))
        ratio = context.to_r(record, signal) / (below + shift)
        context.absorb(record, shift * ratio)
        return ratio


def _additive(record: Record) -> Iterable[tuple[Additive, Tensor]]:
    return zip(record.operation.additive, record.constants, strict=True)


def _against_baseline(context: RuleContext, record: Record, q: Tensor) -> Contributions:
    given = _all(record, q)
    context.blame_biases(record, q)
    if record.operation.detached:  # indices or weights that differ between the two
        context.absorb_remainder(record, q, given)
    return given


def _operand_and_weight(record: Record) -> tuple[Key, Key]:
    operation = record.operation
    weights = [key for key in operation.fixed if key in record.edges]
    if len(weights) != 1 or len(operation.live) != 1:
        raise RelevanceError(
            f"{operation.where} is not a product of one activation with one weight, which this rule needs; give that "
            "module the rule Epsilon, as in composite.but(named={...})."
        )
    return operation.live[0], weights[0]


@dataclass(frozen=True)
class _Signed:
    """The contributions `a_i w_ij` and constants of one sign: `parts` are the operand's halves with what each gives and
    where the operand has that sign (None: everywhere), `constants` those of the sign."""

    record: Record
    parts: list[tuple[Tensor, Tensor, Tensor | None]]
    constants: list[Tensor | None]

    @property
    def total(self) -> Tensor:
        """The sum of the contributions."""
        total = self.parts[0][1]
        for each in (*(made for _, made, _ in self.parts[1:]), *(c for c in self.constants if c is not None)):
            total = total + each
        return total if self.record.differentiable else total.detach()

    def shares(self, signal: Tensor) -> Tensor:
        """What the operand gets of a signal."""
        found = []
        for part, made, side in self.parts:
            (back,) = transposed(made, signal, [part], self.record.differentiable)
            found.append(back if side is None else torch.where(side, back, torch.zeros_like(back)))
        return found[0] if len(found) == 1 else found[0] + found[1]


def _signed(record: Record, positive: bool, bias: bool = True) -> _Signed:
    key, weight = _operand_and_weight(record)
    a, w = record.edges[key], record.edges[weight]
    lowest = bool((a.detach() >= 0).all())  # what comes out of a ReLU has no other half
    parts = []
    for sign in (1,) if lowest else (1, -1):
        side = None if lowest else a > 0 if sign == 1 else a < 0
        part = record.edge(a if side is None else torch.where(side, a, torch.zeros_like(a)))
        w_part = w.clamp(min=0) if (sign == 1) == positive else w.clamp(max=0)
        parts.append((part, record.again({key: part, weight: w_part}), side))
    constants = [(c.clamp(min=0) if positive else c.clamp(max=0)) if bias else None for c in record.constants]
    return _Signed(record, parts, constants)


@dataclass(frozen=True)
class AlphaBeta(RelevanceRule):
    """LRP-alpha-beta: positive and negative contributions are normalised apart and weighted by alpha and -beta.

    `R_i = sum_j (alpha c_ij^+ / sum_k c_kj^+ - beta c_ij^- / sum_k c_kj^-) R_j`, with `c_ij = a_i w_ij`. The share of a
    sign that has no contribution is absorbed.

    Args:
        alpha: weight of the positive contributions (default 2).
        beta: weight of the negative contributions (default 1).
        bias: whether biases are among the contributions (default True).

    Raises:
        ValueError: if alpha - beta is not 1.

    Source: Bach et al. (2015), eq. 60.

    >>> AlphaBeta(1.0, 0.0)
    AlphaBeta(alpha=1.0, beta=0.0, bias=True)
    """

    alpha: float = 2.0
    beta: float = 1.0
    bias: bool = True
    kinds: ClassVar[frozenset[str]] = _WEIGHTED

    def __post_init__(self) -> None:
        if abs(self.alpha - self.beta - 1) > 1e-9:
            raise ValueError(
                f"AlphaBeta(alpha={self.alpha}, beta={self.beta}): alpha - beta must be 1 to conserve relevance; "
                "give such a pair, as in 2 and 1."
            )

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        r = context.to_r(record, signal)
        key, given = record.operation.live[0], []
        for positive, factor in ((True, self.alpha), (False, -self.beta)):
            if factor == 0:
                continue
            signed = _signed(record, positive, self.bias)
            below, its = signed.total, r if factor == 1 else factor * r
            ratio, none = quotient_and_zeros(its, below)
            context.absorb_where(record, none, its)
            context.blame_constants(record, ratio, signed.constants)
            given.append(signed.shares(ratio))
        return {key: Signal(given[0] if len(given) == 1 else given[0] + given[1], "Q")}


@dataclass(frozen=True)
class ZPlus(RelevanceRule):
    """LRP-z+: relevance in proportion to the positive contributions alone, `R_i = sum_j c_ij^+ / sum_k c_kj^+ R_j`.

    Here `c_ij = a_i w_ij`; it is LRP-alpha-beta with alpha = 1, beta = 0. Where nothing is positive, R_j is absorbed.

    Args:
        bias: whether positive biases are among the contributions (default True).

    Source: Montavon et al. (2017), eq. 14.

    >>> ZPlus()
    ZPlus(bias=True)
    """

    bias: bool = True
    kinds: ClassVar[frozenset[str]] = _WEIGHTED

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        return AlphaBeta(1.0, 0.0, self.bias).back(context, record, signal)


@dataclass(frozen=True)
class Gamma(RelevanceRule):
    """LRP-gamma: contributions of the output's own sign are favoured by a factor 1 + gamma.

    `R_i = sum_j (c_ij + gamma c_ij^s) / sum_k (c_kj + gamma c_kj^s) R_j`, with `c_ij = a_i w_ij`, biases among them,
    and s the sign of b_j. For positive operands and outputs this is LRP-0 with the weights `w + gamma w^+`.

    Args:
        gamma: how much contributions of the output's sign are favoured (default 0.25); 0 is LRP-0.

    Source: Montavon et al. (2019), LRP-gamma; Andéol et al. (2021) for operands of both signs.

    >>> Gamma()
    Gamma(gamma=0.25)
    """

    gamma: float = 0.25
    kinds: ClassVar[frozenset[str]] = _WEIGHTED

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        r, value, key = context.to_r(record, signal), record.value, record.operation.live[0]
        nothing = torch.zeros_like(value)
        sides = [(value > 0, _signed(record, True)), (value < 0, _signed(record, False))]
        below = value
        for side, signed in sides:
            below = below + self.gamma * torch.where(side, signed.total, nothing)
        ratio, none = quotient_and_zeros(r, below)
        context.absorb_where(record, none, r)
        (given,) = record.transposed(ratio, [key])
        context.blame_constants(record, ratio, record.constants)
        for side, signed in sides:
            own = self.gamma * torch.where(side, ratio, nothing)
            given = given + signed.shares(own)
            context.blame_constants(record, own, signed.constants)
        return {key: Signal(given, "Q")}


@dataclass(frozen=True)
class Flat(RelevanceRule):
    """Flat rule: relevance in equal parts to the n_j operands that an output is connected to, `R_i = sum_j R_j / n_j`.

    For the first layer: what it gives does not depend on the operands. Biases get nothing.

    Source: Lapuschkin et al. (2019), supplement.

    >>> Flat()
    Flat()
    """

    kinds: ClassVar[frozenset[str]] = _WEIGHTED

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        return _by_weights(context, record, signal, squared=False)


@dataclass(frozen=True)
class WSquare(RelevanceRule):
    """w-squared rule: relevance in proportion to the squared weights, `R_i = sum_j w_ij^2 / sum_k w_kj^2 R_j`.

    For the first layer: what it gives does not depend on the operands. Biases get nothing.

    Source: Montavon et al. (2017), eq. 12.

    >>> WSquare()
    WSquare()
    """

    kinds: ClassVar[frozenset[str]] = _WEIGHTED

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        return _by_weights(context, record, signal, squared=True)


def _by_weights(context: RuleContext, record: Record, signal: Signal, *, squared: bool) -> Contributions:
    r = context.to_r(record, signal)
    key, weight = _operand_and_weight(record)
    ones, w = record.edge(torch.ones_like(record.edges[key])), record.edges[weight]
    made = record.again({key: ones, weight: w * w if squared else torch.ones_like(w)})
    ratio, none = quotient_and_zeros(r, made)
    context.absorb_where(record, none, r)
    context.blame_constants(record, r, [None] * len(record.constants))
    (found,) = transposed(made, ratio, [ones], record.differentiable)
    return {key: Signal(found, "R")}
