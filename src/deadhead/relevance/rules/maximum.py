"""Relevance rules for maxima b = max_i a_i (max-pooling, amax, maximum): how relevance is shared among the candidates.

Each rule gives shares s_i, so that `Q_i = s_i Q_b` in the form Q = R / a; minima are maxima of the negated values.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from deadhead.relevance.forward import Record, transposed
from deadhead.relevance.operations import Key
from deadhead.relevance.rules.rule import Contributions, RelevanceRule, RuleContext
from deadhead.relevance.signals import Signal, difference, quotient

NOTHING = -math.inf
"""What stands where a window leaves its tensor."""


def candidates(record: Record, edges: Mapping[Key, Tensor]) -> Tensor:
    """The values that a maximum chooses among, row-major along a first axis: (K, *the shape of the maximum)."""
    operation, op = record.operation, record.operation.op
    if op in ("maximum", "minimum", "fmax", "fmin"):
        return torch.stack([edges[key] for key in operation.args if key in edges])
    value = edges[operation.live[0]]
    if "pool" in op:
        return _windows(value, record)
    given = operation.kwargs.get("dim", operation.args[1] if len(operation.args) > 1 else None)
    rank = value.dim()
    dims = range(rank) if given is None or given == [] else [given] if isinstance(given, int) else given
    chosen = sorted({dim % rank for dim in dims})
    moved = value.movedim(chosen, list(range(len(chosen)))).flatten(0, len(chosen) - 1)
    return moved.reshape(len(moved), *record.value.shape)


def _windows(value: Tensor, record: Record) -> Tensor:
    """The windows of a max-pool over the last axes, their entries along a first axis."""
    operation = record.operation
    rank = _rank(operation.op)
    outputs, axes = record.value.shape[-rank:], range(value.dim() - rank, value.dim())
    if "adaptive" in operation.op:
        for axis, count in zip(axes, outputs, strict=True):
            value = _adaptive(value, axis, count)
    else:
        names = ("kernel_size", "stride", "padding", "dilation")
        given = dict(zip(("self", *names), operation.args, strict=False)) | operation.kwargs
        kernel = _each(given["kernel_size"], rank)
        stride = _each(given.get("stride") or kernel, rank)
        padding, dilation = _each(given.get("padding", 0), rank), _each(given.get("dilation", 1), rank)
        sizes = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        needed = [(count - 1) * s + size for count, s, size in zip(outputs, stride, sizes, strict=True)]
        behind = [max(0, n - p - value.shape[axis]) for n, p, axis in zip(needed, padding, axes, strict=True)]
        if any((*padding, *behind)):
            both = [each for pair in zip(padding, behind, strict=True) for each in reversed(pair)]
            value = F.pad(value, both[::-1], value=NOTHING)
        for i, axis in enumerate(axes):
            value = value.unfold(axis, sizes[i], stride[i]).narrow(axis, 0, outputs[i])[..., :: dilation[i]]
    laid = value.movedim(list(range(-rank, 0)), list(range(rank)))
    return laid.reshape(-1, *laid.shape[rank:])


def _rank(op: str) -> int:
    return next(int(each) for each in op if each.isdigit())


def _each(value: Any, rank: int) -> list[int]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * rank if len(values) == 1 else values


def _adaptive(value: Tensor, axis: int, outputs: int) -> Tensor:
    """An axis as so many adaptive windows, whose entries lie along a new last axis."""
    length = value.shape[axis]
    starts = [i * length // outputs for i in range(outputs)]
    ends = [-(-(i + 1) * length // outputs) for i in range(outputs)]
    widest = max(end - start for start, end in zip(starts, ends, strict=True))
    places = torch.tensor(starts, device=value.device)[:, None] + torch.arange(widest, device=value.device)
    inside = places < torch.tensor(ends, device=value.device)[:, None]
    taken = value.index_select(axis, places.clamp(max=length - 1).flatten())
    laid = taken.reshape(*value.shape[:axis], outputs, widest, *value.shape[axis + 1 :]).movedim(axis + 1, -1)
    shape = [1] * laid.dim()
    shape[axis], shape[-1] = outputs, widest
    return torch.where(inside.reshape(shape), laid, laid.new_full((), NOTHING))


@dataclass(frozen=True)
class _SharedMaximum(RelevanceRule):
    """What the rules for maxima have in common: they differ in `shares` alone."""

    kinds: ClassVar[frozenset[str]] = frozenset({"maximum"})

    @abstractmethod
    def shares(self, a: Tensor, b: Tensor, r: Tensor | None) -> Tensor:
        """s_i for candidates a (K, ...), whose maximum is b (...), and what they are for the baseline."""

    def back(self, context: RuleContext, record: Record, signal: Signal) -> Contributions:
        base, sign = context.base(record), -1 if "min" in record.operation.op else 1
        q = context.to_q(record, signal)
        keys = [
            key
            for key in (*record.operation.live, *record.operation.detached, *record.operation.fixed)
            if key in record.edges
        ]
        with torch.enable_grad():
            found = candidates(record, record.edges)
        a = found if record.differentiable else found.detach()
        r = None if base is None else sign * candidates(base, base.edges)
        r = r if r is None or record.differentiable else r.detach()
        shares = self.shares(sign * a, sign * record.value, r) * q
        given = transposed(found, shares, [record.edges[key] for key in keys], record.differentiable)
        return {key: Signal(each, "Q") for key, each in zip(keys, given, strict=True)}


@dataclass(frozen=True)
class RadialMaximum(_SharedMaximum):
    """Radial rule for maxima: relevance in proportion to the candidates' distance from zero.

    Where b > 0, `R_i / R_b = a_i / sum_{a_j > 0} a_j` for a_i > 0 and 0 for others; where all are negative, R_i is in
    proportion to 1 / a_i; where b = 0, the candidates that are 0 share it equally.

    Source: "Visualizing Neural networks, how to blame the bias", AI Alignment Forum, "Radial".

    >>> RadialMaximum()
    RadialMaximum()
    """

    def shares(self, a: Tensor, b: Tensor, r: Tensor | None) -> Tensor:
        above = a > 0
        positive = torch.where(above, a, torch.zeros_like(a)).sum(0)
        first = torch.where(above, quotient(b, positive), torch.zeros_like(a))
        there = (a < 0) & a.isfinite()
        inverse = torch.where(there, b / torch.where(there, a, torch.ones_like(a)), torch.zeros_like(a))
        second = inverse * quotient(inverse, inverse.sum(0).expand_as(a))
        zero = (a == 0).to(a.dtype)
        third = zero / zero.sum(0).clamp(min=1)
        return torch.where(b > 0, first, torch.where(b < 0, second, third))


@dataclass(frozen=True)
class SoftMaximum(_SharedMaximum):
    """Soft-maximum rule: a maximum as the limit of `eps log sum_i exp(a_i / eps)` for eps to 0.

    All of `b - b_baseline` goes to the argmax over i of `max(a_i, r_i)`, ties equally, where r_i is the candidate under
    the baseline (0 without one).

    Source: "Visualizing Neural networks, how to blame the bias", AI Alignment Forum, "Solution 2: Compare to baseline".

    >>> SoftMaximum()
    SoftMaximum()
    """

    supports_baseline: ClassVar[bool] = True

    def shares(self, a: Tensor, b: Tensor, r: Tensor | None) -> Tensor:
        if r is None:
            r = torch.where(a == NOTHING, a, torch.zeros_like(a))
            moved = b
        else:
            moved = b - r.amax(0)
        larger = torch.maximum(a, r)
        wins = larger == larger.amax(0)
        count = wins.sum(0)
        gap = difference(a, r)
        none = gap == 0
        part = (moved / count) / torch.where(none, torch.ones_like(gap), gap)
        return torch.where(wins, torch.where(none, 1 / count, part), torch.zeros_like(gap))


@dataclass(frozen=True)
class ReluMaximum(_SharedMaximum):
    """A maximum computed as `m <- m + relu(a_i - m)` over the candidates in row-major order, with the Rescale rule for
    each ReLU.

    Without a baseline this is the gradient. With one, and more than two candidates, it depends on their order.

    Source: "Visualizing Neural networks, how to blame the bias", AI Alignment Forum, "Solution 2: Compare to baseline".

    >>> ReluMaximum()
    ReluMaximum()
    """

    supports_baseline: ClassVar[bool] = True

    def shares(self, a: Tensor, b: Tensor, r: Tensor | None) -> Tensor:
        steps: list[Tensor] = []
        m, m_base = a[0], None if r is None else r[0]
        for i in range(1, len(a)):
            candidate, there, begun = a[i], a[i] != NOTHING, m != NOTHING
            both = there & begun
            d = torch.where(both, candidate, torch.zeros_like(m)) - torch.where(both, m, torch.zeros_like(m))
            taken = (d > 0).to(a.dtype)
            if r is not None and m_base is not None:
                other = torch.where(both, r[i], torch.zeros_like(m))
                e = other - torch.where(both, m_base, torch.zeros_like(m))
                slope = quotient(d.clamp(min=0) - e.clamp(min=0), d - e)
                taken = torch.where(d == e, taken, slope)
                m_base = torch.maximum(m_base, r[i])
            steps.append(torch.where(both, taken, (there & ~begun).to(a.dtype)))
            m = torch.maximum(m, candidate)
        left, found = torch.ones_like(m), []
        for taken in reversed(steps):
            found.append(left * taken)
            left = left * (1 - taken)
        return torch.stack([left, *reversed(found)])
