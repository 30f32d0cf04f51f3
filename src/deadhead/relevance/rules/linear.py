"""Products with weights, and other linear ops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deadhead.errors import RelevanceError
from deadhead.relevance.edges import Signal, divided, quotient_and_zeros, times, times_over
from deadhead.relevance.forward import Record, transposed
from deadhead.relevance.rules.rule import Contributions, Here, Rule
from deadhead.relevance.steps import Additive, Key

_WEIGHTED = frozenset({"linear", "convolution"})


def _all(record: Record, signal: Tensor) -> Contributions:
    found = record.transposed(signal, record.step.live)
    return {key: Signal(each, "Q") for key, each in zip(record.step.live, found, strict=True)}


@dataclass(frozen=True)
class Normalised(Rule):
    """`R_i = sum_j a_i w_ij / (b_j + epsilon sign b_j) R_j`; as Q, `Q_i = sum_j w_ij |b_j| / (|b_j| + epsilon) Q_j`.

    With `bias`, b_j has its bias in it, whose relevance `beta_j / (b_j + epsilon sign b_j) R_j` is reported: with
    epsilon = 0 that is 000's "blame the bias". Without, learned constants beta_j stand outside of the denominator,
    `Q_i = sum_j w_ij b_j / (b_j - beta_j) Q_j`, as 000 writes it. What epsilon takes, and what has no operand to go to
    (b_j = beta_j), is absorbed. Source: 000, section 2, "Normalized" (its blip) and "Rephrasing Matrix Multiplication";
    Bach et al. (2015), eq. 58.
    """

    epsilon: float = 0.0
    bias: bool = True
    kinds: ClassVar[frozenset[str]] = frozenset({"linear", "convolution", "sum"})
    referenced: ClassVar[bool] = True

    @property
    def apart(self) -> bool:
        return not self.bias

    def back(self, here: Here, record: Record, signal: Signal) -> Contributions:
        if here.base(record) is not None:
            return _against_baseline(here, record, here.to_q(record, signal))
        used = [None if each.learned and not self.bias else c for each, c in _additive(record)]
        below = self._denominator(record, used)
        if self.epsilon:
            ratio = self._damped(here, record, signal, below)
        elif below is record.value:
            ratio = here.to_q(record, signal)
        elif signal.form == "Q":
            ratio, none = times_over(record.value, signal.tensor, below)
            if none is not None:
                here.absorb_where(record, none, here.to_r(record, signal))
        else:
            ratio, none = quotient_and_zeros(signal.tensor, below)
            here.absorb_where(record, none, signal.tensor)
        here.blame_shares(record, ratio, used)
        return _all(record, ratio)

    def _denominator(self, record: Record, used: Sequence[Tensor | None]) -> Tensor:
        """b_j, without the constants that stand outside of it."""
        if all(constant is not None for constant in used):
            return record.value
        below = record.product
        for constant in used:
            below = below if constant is None else below + constant
        return below

    def _damped(self, here: Here, record: Record, signal: Signal, below: Tensor) -> Tensor:
        """R over the damped denominator; `epsilon sign(b)` of it is absorbed."""
        if signal.form == "Q" and below is record.value:  # sign(b) b = |b| loses nothing where b is small
            size = below.abs()
            damped = size + self.epsilon
            shared = divided(signal.tensor, damped)
            here.absorb(record, times(below, shared), self.epsilon)
            return size * shared
        step = self.epsilon * torch.where(below < 0, -torch.ones_like(below), torch.ones_like(below))
        ratio = here.to_r(record, signal) / (below + step)
        here.absorb(record, step * ratio)
        return ratio


def _additive(record: Record) -> Iterable[tuple[Additive, Tensor]]:
    return zip(record.step.additive, record.constants, strict=True)


def _against_baseline(here: Here, record: Record, q: Tensor) -> Contributions:
    given = _all(record, q)
    here.blame_all(record, q)
    if record.step.loose:  # indices or weights that differ between the two
        here.absorb_rest(record, q, given)
    return given


def _operand_and_weight(record: Record) -> tuple[Key, Key]:
    step = record.step
    weights = [key for key in step.still if key in record.edges]
    if len(weights) != 1 or len(step.live) != 1:
        raise RelevanceError(f"{step.where} is no product with one weight; give it the rule Normalised.")
    return step.live[0], weights[0]


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
class AlphaBeta(Rule):
    """`R_i = sum_j (alpha c_ij^+ / sum_k c_kj^+ - beta c_ij^- / sum_k c_kj^-) R_j`, of `c_ij = a_i w_ij`.

    Biases are among the contributions unless `bias` is off. Where there are none of a sign, its share is absorbed.
    alpha - beta = 1. Source: Bach et al. (2015), eq. 60.
    """

    alpha: float = 2.0
    beta: float = 1.0
    bias: bool = True
    kinds: ClassVar[frozenset[str]] = _WEIGHTED

    def __post_init__(self) -> None:
        if abs(self.alpha - self.beta - 1) > 1e-9:
            raise ValueError(f"alpha - beta must be 1, these are {self.alpha} and {self.beta}")

    def back(self, here: Here, record: Record, signal: Signal) -> Contributions:
        r = here.to_r(record, signal)
        key, given = record.step.live[0], []
        for positive, factor in ((True, self.alpha), (False, -self.beta)):
            if factor == 0:
                continue
            signed = _signed(record, positive, self.bias)
            below, its = signed.total, r if factor == 1 else factor * r
            ratio, none = quotient_and_zeros(its, below)
            here.absorb_where(record, none, its)
            here.blame_shares(record, ratio, signed.constants)
            given.append(signed.shares(ratio))
        return {key: Signal(given[0] if len(given) == 1 else given[0] + given[1], "Q")}


@dataclass(frozen=True)
class ZPlus(Rule):
    """`R_i = sum_j c_ij^+ / sum_k c_kj^+ R_j`, of `c_ij = a_i w_ij`: only what pushes the same way counts.

    Biases that are positive count too, unless `bias` is off; where nothing is positive, R_j is absorbed. Source:
    Montavon et al., "Explaining nonlinear classification decisions with deep Taylor decomposition" (2017), eq. 14.
    """

    bias: bool = True
    kinds: ClassVar[frozenset[str]] = _WEIGHTED

    def back(self, here: Here, record: Record, signal: Signal) -> Contributions:
        return AlphaBeta(1.0, 0.0, self.bias).back(here, record, signal)


@dataclass(frozen=True)
class Gamma(Rule):
    """`R_i = sum_j (c_ij + gamma c_ij^s) / sum_k (c_kj + gamma c_kj^s) R_j`, of `c_ij = a_i w_ij` and biases, s being
    the sign of b_j.

    For operands and outputs that are positive this is `w + gamma w^+`. Source: Montavon et al., "Layer-Wise Relevance
    Propagation: An Overview" (2019), and Andeol et al. (2021) for both signs.
    """

    gamma: float = 0.25
    kinds: ClassVar[frozenset[str]] = _WEIGHTED

    def back(self, here: Here, record: Record, signal: Signal) -> Contributions:
        r, value, key = here.to_r(record, signal), record.value, record.step.live[0]
        nothing = torch.zeros_like(value)
        sides = [(value > 0, _signed(record, True)), (value < 0, _signed(record, False))]
        below = value
        for side, signed in sides:
            below = below + self.gamma * torch.where(side, signed.total, nothing)
        ratio, none = quotient_and_zeros(r, below)
        here.absorb_where(record, none, r)
        (given,) = record.transposed(ratio, [key])
        here.blame_shares(record, ratio, record.constants)
        for side, signed in sides:
            own = self.gamma * torch.where(side, ratio, nothing)
            given = given + signed.shares(own)
            here.blame_shares(record, own, signed.constants)
        return {key: Signal(given, "Q")}


@dataclass(frozen=True)
class Flat(Rule):
    """`R_i = sum_j 1 / n_j R_j` over the n_j operands that b_j is connected to, whatever they are.

    For the first layer: what it gives is R, not in proportion to the operand. Biases get nothing. Source: Lapuschkin et
    al., "Unmasking Clever Hans predictors" (2019), supplement.
    """

    kinds: ClassVar[frozenset[str]] = _WEIGHTED

    def back(self, here: Here, record: Record, signal: Signal) -> Contributions:
        return _by_weights(here, record, signal, squared=False)


@dataclass(frozen=True)
class WSquare(Rule):
    """`R_i = sum_j w_ij^2 / sum_k w_kj^2 R_j`.

    For the first layer, as `Flat`. Source: Montavon et al. (2017), eq. 12.
    """

    kinds: ClassVar[frozenset[str]] = _WEIGHTED

    def back(self, here: Here, record: Record, signal: Signal) -> Contributions:
        return _by_weights(here, record, signal, squared=True)


def _by_weights(here: Here, record: Record, signal: Signal, *, squared: bool) -> Contributions:
    r = here.to_r(record, signal)
    key, weight = _operand_and_weight(record)
    ones, w = record.edge(torch.ones_like(record.edges[key])), record.edges[weight]
    made = record.again({key: ones, weight: w * w if squared else torch.ones_like(w)})
    ratio, none = quotient_and_zeros(r, made)
    here.absorb_where(record, none, r)
    here.blame_shares(record, r, [None] * len(record.constants))
    (found,) = transposed(made, ratio, [ones], record.differentiable)
    return {key: Signal(found, "R")}
