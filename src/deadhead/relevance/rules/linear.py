"""Products with weights, and other linear ops."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deadhead.errors import RelevanceError
from deadhead.relevance.edges import Signal, fraction, quotient, times
from deadhead.relevance.forward import Record, transposed
from deadhead.relevance.rules.rule import Contributions, Here, Rule
from deadhead.relevance.steps import Key

_WEIGHTED = frozenset({"linear", "convolution"})
Part = tuple[Tensor, Tensor]


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

    def back(self, here: Here, record: Record, signal: Signal) -> Contributions:
        if here.base(record) is not None:
            return _against_baseline(here, record, here.to_q(record, signal))
        left_out = [each.learned and not self.bias for each in record.step.additive]
        if not self.epsilon and not any(left_out):
            ratio = here.to_q(record, signal)
        else:
            below = record.product if all(left_out) else record.value
            if any(left_out) and not all(left_out):
                below = record.product
                for constant, out in zip(record.constants, left_out, strict=True):
                    below = below if out else below + constant
            if signal.form == "Q" and not any(left_out):
                ratio = fraction(below, self.epsilon) * signal.tensor
                here.absorb(record, self.epsilon * times(below.sgn(), ratio))
            else:
                ratio = self._divided(here, record, here.to_r(record, signal), below)
        here.blame_shares(record, ratio, left_out)
        return _all(record, ratio)

    def _divided(self, here: Here, record: Record, r: Tensor, below: Tensor) -> Tensor:
        """R over the denominator; what epsilon takes, and what has none, is absorbed."""
        if not self.epsilon:
            if bool((below == 0).any()):
                here.absorb(record, torch.where(below == 0, r, torch.zeros_like(r)))
                return quotient(r, below)
            return r / below
        step = self.epsilon * torch.where(below < 0, -torch.ones_like(below), torch.ones_like(below))
        ratio = quotient(r, below + step)
        here.absorb(record, torch.where(below + step == 0, r, step * ratio))
        return ratio


def _against_baseline(here: Here, record: Record, q: Tensor) -> Contributions:
    given = _all(record, q)
    here.blame_all(record, q)
    if record.step.loose:  # indices or weights that differ between the two
        here.absorb_rest(record, q, given)
    return given


def _operand_and_weight(record: Record) -> tuple[Key, Key | None]:
    step = record.step
    weights = [key for key in step.still if key in record.edges]
    return step.live[0], weights[0] if len(weights) == 1 and len(step.live) == 1 else None


def _signed(record: Record, positive: bool) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
    """The contributions `a_i w_ij` of one sign, as (operand's part, what it gives, where the operand has that sign)."""
    key, weight = _operand_and_weight(record)
    if weight is None:
        raise RelevanceError(f"{record.step.where} is no product with one weight; give it the rule Normalised.")
    a, w = record.edges[key], record.edges[weight]
    for sign in (1, -1):
        side = a > 0 if sign == 1 else a < 0
        part = record.edge(torch.where(side, a, torch.zeros_like(a)))
        w_part = w.clamp(min=0) if (sign == 1) == positive else w.clamp(max=0)
        yield part, record.again({key: part, weight: w_part}), side


def _shares(record: Record, parts: list[tuple[Tensor, Tensor, Tensor]], signal: Tensor) -> Tensor:
    found = torch.zeros_like(parts[0][0])
    for part, made, side in parts:
        (back,) = transposed(made, signal, [part], record.differentiable)
        found = found + torch.where(side, back, torch.zeros_like(back))
    return found


def _constants(record: Record, positive: bool, used: bool) -> list[Tensor]:
    like = record.product
    if not used:
        return [torch.zeros_like(like) for _ in record.constants]
    return [(c.clamp(min=0) if positive else c.clamp(max=0)).expand_as(like) for c in record.constants]


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
        given = torch.zeros_like(record.edges[record.step.live[0]])
        blamed = [torch.zeros_like(record.product) for _ in record.constants]
        for positive, factor in ((True, self.alpha), (False, -self.beta)):
            if factor == 0:
                continue
            parts = list(_signed(record, positive))
            constants = _constants(record, positive, self.bias)
            below = sum((made for _, made, _ in parts), torch.zeros_like(r)) + sum(constants, torch.zeros_like(r))
            ratio = quotient(factor * r, below)
            here.absorb(record, torch.where(below == 0, factor * r, torch.zeros_like(r)))
            given = given + _shares(record, parts, ratio)
            blamed = [before + c * ratio for before, c in zip(blamed, constants, strict=True)]
        here.blame(record, blamed)
        return {record.step.live[0]: Signal(given, "Q")}


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
        r, value = here.to_r(record, signal), record.value
        key = record.step.live[0]
        below, found = value, {}
        for positive in (True, False):
            chosen = (value > 0) if positive else (value < 0)
            parts, constants = list(_signed(record, positive)), _constants(record, positive, True)
            made = sum((each for _, each, _ in parts), torch.zeros_like(r)) + sum(constants, torch.zeros_like(r))
            below = below + self.gamma * torch.where(chosen, made, torch.zeros_like(made))
            found[positive] = (chosen, parts, constants)
        ratio = quotient(r, below)
        here.absorb(record, torch.where(below == 0, r, torch.zeros_like(r)))
        (given,) = record.transposed(ratio, [key])
        blamed = [c * ratio for c in record.constants]
        for chosen, parts, constants in found.values():
            here_only = self.gamma * torch.where(chosen, ratio, torch.zeros_like(ratio))
            given = given + _shares(record, parts, here_only)
            blamed = [before + c * here_only for before, c in zip(blamed, constants, strict=True)]
        here.blame(record, blamed)
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
    if weight is None:
        raise RelevanceError(f"{record.step.where} is no product with one weight; give it the rule Normalised.")
    ones, w = record.edge(torch.ones_like(record.edges[key])), record.edges[weight]
    made = record.again({key: ones, weight: w * w if squared else torch.ones_like(w)})
    here.absorb(record, torch.where(made == 0, r, torch.zeros_like(r)))
    here.blame(record, [torch.zeros_like(r) for _ in record.constants])
    (found,) = transposed(made, quotient(r, made), [ones], record.differentiable)
    return {key: Signal(found, "R")}
