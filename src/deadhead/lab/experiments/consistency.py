"""000's consistency rules: two ways to see one op, which ought to give the same relevance."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.relevance.forward import Record
from deadhead.relevance.operations import Intermediate, Key, Operation
from deadhead.relevance.rules import (
    Contributions,
    Deconvnet,
    Epsilon,
    Gradient,
    Pass,
    RadialMaximum,
    RelevanceRule,
    ReluMaximum,
    Rescale,
    SoftMaximum,
)
from deadhead.relevance.signals import Signal, quotient, times

MATRIX: dict[str, RelevanceRule] = {"gradient": Gradient(), "normalised": Epsilon()}
NONLINEARITY: dict[str, RelevanceRule] = {
    "ignore": Pass(),
    "gradient": Gradient(),
    "slope": Rescale(),
    "repeat": Deconvnet(),
}
MAXIMUM: dict[str, RelevanceRule] = {
    "gradient": Gradient(),
    "radial": RadialMaximum(),
    "soft": SoftMaximum(),
    "fold": ReluMaximum(),
}
VALUES = (-2.0, -0.7, -0.3, 0.4, 1.0, 2.5)
"""Where the two ways are compared: on both sides of zero and of the constants."""


class _Alone:
    """A step by itself: no baseline, and nothing to keep account of."""

    def base(self, record: Record) -> None:
        return None

    def to_q(self, record: Record, signal: Signal) -> Tensor:
        return signal.tensor if signal.form == "Q" else quotient(signal.tensor, record.value)

    def to_r(self, record: Record, signal: Signal) -> Tensor:
        return signal.tensor if signal.form == "R" else times(record.value, signal.tensor)

    def _ignored(self, *_: Any) -> None:
        pass

    blame = blame_all = blame_shares = blame_own = absorb = absorb_where = absorb_rest = _ignored


def _shared(
    rule: RelevanceRule, kind: str, op: str, function: Callable[..., Tensor], operands: Sequence[Tensor]
) -> Tensor:
    """R of the first operand, where every entry of the result has relevance one and the same rule on R."""
    node = fx.Graph().placeholder("alone")
    keys: list[Key] = [Intermediate(f"operand {i}") for i in range(len(operands))]
    step = Operation(Intermediate("result"), node, op, kind, function, tuple(keys), {}, live=tuple(keys))
    edges = {key: value.detach().requires_grad_() for key, value in zip(keys, operands, strict=True)}
    made = function(*edges.values())
    values: dict[Key, Tensor] = dict(zip(keys, operands, strict=True))
    record = Record(step, edges, values, made, (), made.detach(), False)
    context = _Alone()
    found: Contributions = rule.back(context, record, Signal(torch.ones_like(made), "R"))
    signal = found[keys[0]]
    return signal.tensor if signal.form == "R" else times(operands[0], signal.tensor)


def scaling(matrix: RelevanceRule, nonlinearity: RelevanceRule, factor: float = 3.0) -> tuple[bool, float]:
    """Scaling equivalence: multiplication by a constant as a scaled identity matrix and as an elementwise function.

    Whether both rules, on R, do the same, and the factor by which the matrix rule scales R. Source: 000, section 2.

    >>> scaling(Epsilon(), Pass())
    (True, 1.0)
    """
    a = torch.tensor(VALUES, dtype=torch.float64)
    as_matrix = _shared(
        matrix, "linear", "linear", lambda v: v @ (factor * torch.eye(len(VALUES), dtype=torch.float64)), [a]
    )
    elementwise = _shared(nonlinearity, "nonlinearity", "scaled", lambda v: factor * v, [a])
    return torch.allclose(as_matrix, elementwise, rtol=0, atol=1e-12), float(as_matrix[0])


def maximum_with_constants(
    maximum: RelevanceRule, nonlinearity: RelevanceRule, constants: Sequence[float] = (0.0,)
) -> bool:
    """Whether `f(a) = max(a, c_1, ...)`, with constants c <= 0, gets the same R as a nonlinearity and as a maximum.

    Source: 000, section 2; f(0) = 0 is why no constant may be above zero.

    >>> maximum_with_constants(Gradient(), Gradient(), (-0.5,))
    True
    """
    a = torch.tensor(VALUES, dtype=torch.float64)
    held = [torch.full_like(a, c) for c in constants]

    def largest(*values: Tensor) -> Tensor:
        return torch.stack(values, -1).amax(-1)

    as_maximum = _shared(maximum, "maximum", "maximum", largest, [a, *held])
    elementwise = _shared(
        nonlinearity, "nonlinearity", "clamp", lambda v: largest(v, *(c.flatten()[0].expand_as(v) for c in held)), [a]
    )
    return torch.allclose(as_maximum, elementwise, rtol=0, atol=1e-12)


@dataclass(frozen=True)
class Comparison:
    """A pair of rules that see one op in two ways: whether they agree (`ours`), what 000 says of it ("yes", "no", its
    guess, or nothing), and the constants of a maximum or the factor by which a scaling scales R."""

    first: str
    second: str
    ours: bool
    document: str
    constants: tuple[float, ...] = ()
    scale: float | None = None


_AGREE = {("gradient", "gradient"), ("gradient", "slope"), ("gradient", "repeat"), ("normalised", "ignore")}
"""The rows of 000's table of scaling equivalence."""


def scalings() -> list[Comparison]:
    """Scaling equivalence for every pair of a matrix rule and a nonlinearity rule, beside 000's table."""
    found = []
    for m, matrix in MATRIX.items():
        for n, nonlinearity in NONLINEARITY.items():
            same, scale = scaling(matrix, nonlinearity)
            found.append(Comparison(m, n, same, "yes" if (m, n) in _AGREE else "no", scale=scale if same else None))
    return found


def maxima() -> list[Comparison]:
    """Every maximum rule against every nonlinearity rule, with the constants 0, -0.5, and -0.5 twice, beside what 000
    says of them: "gradient matches gradient", and the guess that radial matches slope for two values."""
    found = []
    for (m, maximum), (n, nonlinearity) in itertools.product(MAXIMUM.items(), NONLINEARITY.items()):
        for constants in ((0.0,), (-0.5,), (-0.5, -0.5)):
            says = "yes" if m == n == "gradient" else ""
            if (m, n) == ("radial", "slope"):
                says = "perhaps" if len(constants) == 1 else "no"
            ours = maximum_with_constants(maximum, nonlinearity, constants)
            found.append(Comparison(m, n, ours, says, constants))
    return found
