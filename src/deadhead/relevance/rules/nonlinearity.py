"""Relevance rules for elementwise functions b = f(a): DeepLIFT's Rescale, pass, deconvnet, guided backpropagation.

A value f(0) other than zero, as a sigmoid's, counts as a bias of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from deadhead.graph.catalogue import names_of
from deadhead.relevance.forward import Record, transposed
from deadhead.relevance.rules.general import Gradient
from deadhead.relevance.rules.rule import Contributions, RelevanceRule, RuleContext
from deadhead.relevance.signals import Signal, all_finite, divided, quotient

_NONLINEARITY = frozenset({"nonlinearity", "normalisation"})
HOMOGENEOUS = frozenset(names_of(slopes="homogeneous"))
"""f(t a) = t f(a) for t > 0: the slope to zero is the derivative."""
KINKED = frozenset(names_of(slopes="kinked"))
"""Functions with kinks beside zero, across which a quadrature would be wrong."""
SINGULAR = frozenset(names_of(slopes="singular"))
"""Functions whose derivatives grow without bound: near is what is near beside their size."""
SMALL = 1e-2
NODES = ((0.5 - math.sqrt(0.15), 5 / 18), (0.5, 4 / 9), (0.5 + math.sqrt(0.15), 5 / 18))
"""Three-point Gauss-Legendre quadrature on [0, 1]: nodes and weights."""


def _key(record: Record) -> Any:
    return record.operation.live[0]


def _apply(record: Record, value: Tensor) -> Tensor:
    return record.again({_key(record): value})


def _derivative(record: Record, value: Tensor) -> Tensor:
    at = record.edge(value)
    made = _apply(record, at)
    (found,) = transposed(made, torch.ones_like(made), [at], record.differentiable)
    return found


def _is_alone(record: Record) -> bool:
    """Whether the operand is the one value that the function is of: then it can be asked at any entries."""
    return len(record.arguments) == 1


def at_zero(record: Record) -> Tensor:
    """f(0), in the operand's shape, or as one number where it is the same everywhere."""
    a = record.edges[_key(record)]
    zero = _apply(record, a.new_zeros(()) if _is_alone(record) else torch.zeros_like(a))
    return zero if record.differentiable else zero.detach()


def _secant(record: Record, a: Tensor, r: Tensor | None, f_a: Tensor, f_r: Tensor, kinked: bool) -> Tensor:
    """`(f(a) - f(r)) / (a - r)` for a and r of one sign, r = 0 where None: by quadrature of the derivative where they
    are near."""
    gap = a if r is None else a - r
    if kinked or (r is None and record.operation.op in SINGULAR):
        near = gap == 0
    elif r is not None and record.operation.op in SINGULAR:
        near = (gap == 0) | (gap.abs() < SMALL * torch.minimum(a.abs(), r.abs()))
    else:
        near = (gap < SMALL) & (gap > -SMALL)
    far = divided(f_a - f_r, torch.where(near, 1.0, gap))
    if not _is_alone(record):
        start = torch.where(near, torch.zeros_like(a) if r is None else r, torch.ones_like(a))
        return torch.where(near, _mean_slope(record, start, torch.where(near, gap, torch.zeros_like(gap))), far)
    where = near.nonzero(as_tuple=True)
    if not where[0].numel():
        return far
    way = gap[where]
    close = _mean_slope(record, torch.zeros_like(way) if r is None else r[where], way)
    return far.index_put(where, close.to(far.dtype))


def _mean_slope(record: Record, start: Tensor, way: Tensor) -> Tensor:
    """The mean of f' from `start` along `way`, by quadrature; zero where it is infinite: a square root at zero."""
    found = sum(weight * _derivative(record, start + node * way) for node, weight in NODES)
    assert isinstance(found, Tensor)
    return torch.where(found.isfinite(), found, torch.zeros_like(found))


def slope(record: Record, base: Record | None) -> tuple[Tensor, Tensor | None]:
    """The slope `(f(a) - f(r)) / (a - r)`, with r = 0 without a baseline, and then f(0) where it is not zero."""
    key, op = _key(record), record.operation.op
    a = record.edges[key]
    kinked = op in KINKED
    if base is not None:
        r = base.edges[key]
        if op in HOMOGENEOUS:
            own, other = (at.transposed(torch.ones_like(a), [key])[0] for at in (record, base))
            return torch.where(own == other, own, quotient(record.value - base.value, a - r)), None
        zero = at_zero(record)
        whole = _secant(record, a, r, record.value, base.value, kinked)
        across = (a * r < 0) & zero.isfinite()
        if kinked or not across.any():
            return whole, None
        nothing = torch.zeros_like(a)
        to_zero = [_secant(record, x, None, f, zero, kinked) for x, f in ((a, record.value), (r, base.value))]
        apart = quotient(a * to_zero[0] - r * to_zero[1], torch.where(across, a - r, nothing))
        return torch.where(across, apart, whole), None
    if op in HOMOGENEOUS:
        (found,) = record.transposed(torch.ones_like(record.value), [key])
        return found, None
    zero = at_zero(record)
    return _secant(record, a, None, record.value, zero, kinked), zero if bool((zero != 0).any()) else None


def _by_slope(context: RuleContext, record: Record, q: Tensor) -> Contributions:
    base = context.base(record)
    if base is None and record.operation.op in HOMOGENEOUS:
        (found,) = record.transposed(q, [_key(record)])
        return {_key(record): Signal(found, "Q")}
    if base is None and not at_zero(record).isfinite().all():
        return Gradient().back(context, record, Signal(q, "Q"))
    found, zero = slope(record, base)
    if zero is not None:
        a = record.edges[_key(record)]  # what is masked has no slope: exp(-inf) is 0, not 1 and -1
        own = zero if all_finite(a) else torch.where(a.isfinite(), zero, record.value)
        context.blame_value_at_zero(record, own * q)
    return {_key(record): Signal(found * q, "Q")}


@dataclass(frozen=True)
class Rescale(RelevanceRule):
    """DeepLIFT's Rescale rule: the multiplier is the slope `(f(a) - f(r)) / (a - r)` to the baseline r.

    Without a baseline r = 0, and f(0) is the function's own bias, with the relevance `f(0) Q_b`. For |a - r| < 0.01 the
    quotient is computed by three-point Gauss quadrature of f' between the two (error 2e-16). Where f(0) is not finite,
    the derivative is taken and its Taylor remainder absorbed.

    Source: Shrikumar et al. (2017), the Rescale rule; "Visualizing Neural networks, how to blame the bias", AI
    Alignment Forum, "Slope" and "Rephrasing Nonlinearity".

    >>> Rescale()
    Rescale()
    """

    kinds: ClassVar[frozenset[str]] = _NONLINEARITY
    supports_baseline: ClassVar[bool] = True

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        if signal.form == "Q":
            return _by_slope(context, record, signal.tensor)
        found, _ = slope(record, context.base(record))
        return {_key(record): signal.like(found * signal.tensor)}


@dataclass(frozen=True)
class Pass(RelevanceRule):
    """Pass: relevance goes through a nonlinearity unchanged, `R_a = R_b`.

    In the form Q = R / a this is the slope `f(a) / a`, that is, the Rescale rule without a baseline.

    Source: Bach et al. (2015), section "Multilayer networks"; "Visualizing Neural networks, how to blame the bias", AI
    Alignment Forum, "Ignore".

    >>> Pass()
    Pass()
    """

    kinds: ClassVar[frozenset[str]] = _NONLINEARITY
    supports_baseline: ClassVar[bool] = True

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        if signal.form == "Q":
            return _by_slope(context, record, signal.tensor)
        return {_key(record): signal}


@dataclass(frozen=True)
class Deconvnet(RelevanceRule):
    """Deconvnet: the nonlinearity is applied to what runs backward, `R_a = f(R_b)`.

    Source: Zeiler and Fergus (2014), section 2.1; "Visualizing Neural networks, how to blame the bias", AI Alignment
    Forum, "Repeat".

    >>> Deconvnet()
    Deconvnet()
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"nonlinearity"})

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        made = _apply(record, context.to_r(record, signal))
        return {_key(record): Signal(made if record.differentiable else made.detach(), "R")}


@dataclass(frozen=True)
class GuidedBackprop(RelevanceRule):
    """Guided backpropagation: gradients of which only the positive ones pass a ReLU, `R_a = f'(a) f(R_b)`.

    Source: Springenberg et al. (2015), section 3.4.

    >>> GuidedBackprop()
    GuidedBackprop()
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"nonlinearity"})

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        made = _apply(record, context.to_r(record, signal))
        (found,) = record.transposed(made if record.differentiable else made.detach(), [_key(record)])
        return {_key(record): Signal(found, "R")}
