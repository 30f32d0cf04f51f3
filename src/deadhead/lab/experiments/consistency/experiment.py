"""Consistency of relevance rules: two ways to see one op, which ought to give the same relevance."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.lab.experiments.consistency.claims import CLAIMS, TAKEAWAY
from deadhead.lab.experiments.registry import experiment
from deadhead.progress import Progress
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

MATRIX: dict[str, RelevanceRule] = {"gradient": Gradient(), "lrp_0": Epsilon()}
"""Rules for linear layers. The essay calls LRP-0 "normalized"."""
NONLINEARITY: dict[str, RelevanceRule] = {
    "pass": Pass(),
    "gradient": Gradient(),
    "rescale": Rescale(),
    "deconvnet": Deconvnet(),
}
"""Rules for nonlinearities. The essay calls pass "ignore", Rescale "slope" and deconvnet "repeat"."""
MAXIMUM: dict[str, RelevanceRule] = {
    "gradient": Gradient(),
    "radial": RadialMaximum(),
    "soft": SoftMaximum(),
    "relu": ReluMaximum(),
}
"""Rules for maxima."""
VALUES = (-2.0, -0.7, -0.3, 0.4, 1.0, 2.5)
"""Where the two ways are compared: on both sides of zero and of the constants."""
CONSTANTS = ((0.0,), (-0.5,), (-0.5, -0.5))
"""What maxima are taken with."""


@dataclass(frozen=True)
class Comparison:
    """Two rules that see one op in two ways.

    Args:
        first: rule of the matrix, or of the maximum.
        second: rule of the nonlinearity.
        agree: whether both give the same relevance.
        essay: what "Visualizing Neural networks, how to blame the bias" says: "yes", "no", "perhaps", or nothing.
        constants: what a maximum is taken with.
        scale: factor by which a scaling multiplies relevance, where the rules agree.

    >>> Comparison("gradient", "rescale", True, "yes", scale=3.0).agree
    True
    """

    first: str
    second: str
    agree: bool
    essay: str
    constants: tuple[float, ...] = ()
    scale: float | None = None


@dataclass(frozen=True)
class Consistency:
    """Settings.

    Args:
        factor: the constant of the scaling that is shown.
        factors: constants for which the table must hold.
        constants: what maxima of two are taken with, none above zero.
    """

    factor: float = 3.0
    factors: tuple[float, ...] = (2.5, -1.7)
    constants: tuple[float, ...] = (0.0, -0.5, -2.0)


VARIANTS = {"constants at zero": {"constants": [0.0]}}


@experiment("consistency", Consistency, claims=CLAIMS, takeaway=TAKEAWAY, variants=VARIANTS)
def consistency(settings: Consistency, seed: int, progress: Progress | None) -> dict[str, Any]:
    """Whether relevance rules for linear layers, nonlinearities and maxima agree where they see the same op.

    Args:
        settings: see `Consistency`.
        seed: not used, because nothing is drawn.
        progress: not used.

    Returns:
        "scaling equivalence" and "maximum with constants": lists of comparisons as dicts; and how often the pairs that
        the essay names disagree.

    Source: "Visualizing Neural networks, how to blame the bias", AI Alignment Forum, "Consistency rules".

    >>> found = consistency(Consistency(), 0, None)
    >>> found["scaling equivalence"][4]
    {'first': 'lrp_0', 'second': 'pass', 'agree': True, 'essay': 'yes', 'constants': (), 'scale': 1.0}
    """
    tables = [each for factor in settings.factors for each in scalings(factor)]
    swapped = {"gradient": "lrp_0", "lrp_0": "gradient"}

    def mismatches(maximum: str, nonlinearity: str) -> int:
        rules = MAXIMUM[maximum], NONLINEARITY[nonlinearity]
        return sum(not maximum_with_constants(*rules, (c,)) for c in settings.constants)

    return {
        "scaling equivalence": [asdict(each) for each in scalings(settings.factor)],
        "maximum with constants": [asdict(each) for each in maxima()],
        "pairs": len(scalings(settings.factor)),
        "pairs_that_agree": sum(each.agree for each in scalings(settings.factor)),
        "constants_tried": len(settings.constants),
        "agreements": sum(each.agree for each in tables),
        "table_mismatches": sum(each.agree != (each.essay == "yes") for each in tables),
        "scale_error": max(
            abs((each.scale or 0.0) - (factor if each.first == "gradient" else 1.0))
            for factor in settings.factors
            for each in scalings(factor)
            if each.agree
        ),
        "swapped_table_mismatches": sum(
            each.agree != ((swapped[each.first], each.second) in _AGREE) for each in tables
        ),
        "gradient_mismatches": mismatches("gradient", "gradient"),
        "radial_mismatches": mismatches("radial", "rescale"),
        "gradient_pass_mismatches": mismatches("gradient", "pass"),
    }


class _Alone:
    """A backward pass over one operation: no baseline, and no account of biases and what is absorbed."""

    def base(self, record: Record) -> None:
        return None

    def to_q(self, record: Record, signal: Signal) -> Tensor:
        return signal.tensor if signal.form == "Q" else quotient(signal.tensor, record.value)

    def to_r(self, record: Record, signal: Signal) -> Tensor:
        return signal.tensor if signal.form == "R" else times(record.value, signal.tensor)

    def _ignored(self, *_: Any) -> None:
        pass

    blame_biases = blame_constants = blame_value_at_zero = absorb = absorb_where = absorb_remainder = _ignored


def _shared(
    rule: RelevanceRule, kind: str, op: str, function: Callable[..., Tensor], operands: Sequence[Tensor]
) -> Tensor:
    """R of the first operand by a rule, where every entry of the result has the relevance one."""
    node = fx.Graph().placeholder("alone")
    keys: list[Key] = [Intermediate(f"operand {i}") for i in range(len(operands))]
    operation = Operation(Intermediate("result"), node, op, kind, function, tuple(keys), {}, live=tuple(keys))
    edges = {key: value.detach().requires_grad_() for key, value in zip(keys, operands, strict=True)}
    made = function(*edges.values())
    values: dict[Key, Tensor] = dict(zip(keys, operands, strict=True))
    record = Record(operation, edges, values, made, (), made.detach(), False)
    context = _Alone()
    found: Contributions = rule.back(context, record, Signal(torch.ones_like(made), "R"))
    signal = found[keys[0]]
    return signal.tensor if signal.form == "R" else times(operands[0], signal.tensor)


def scaling(matrix: RelevanceRule, nonlinearity: RelevanceRule, factor: float = 3.0) -> tuple[bool, float]:
    """Scaling equivalence: multiplication by a constant as a scaled identity matrix and as an elementwise function.

    Args:
        matrix: a rule for linear layers.
        nonlinearity: a rule for nonlinearities.
        factor: the constant (default 3).

    Returns:
        Whether both rules give the same R, and the factor by which the matrix rule multiplies R.

    Source: "Visualizing Neural networks, how to blame the bias", AI Alignment Forum, "Scaling equivalence".

    >>> scaling(Epsilon(), Pass())
    (True, 1.0)
    """
    a = torch.tensor(VALUES, dtype=torch.float64)
    identity = torch.eye(len(VALUES), dtype=torch.float64)
    as_matrix = _shared(matrix, "linear", "linear", lambda v: v @ (factor * identity), [a])
    elementwise = _shared(nonlinearity, "nonlinearity", "scaled", lambda v: factor * v, [a])
    return torch.allclose(as_matrix, elementwise, rtol=0, atol=1e-12), float(as_matrix[0])


def maximum_with_constants(
    maximum: RelevanceRule, nonlinearity: RelevanceRule, constants: Sequence[float] = (0.0,)
) -> bool:
    """Whether `f(a) = max(a, c_1, ...)` gets the same relevance as a nonlinearity and as a maximum with constants.

    Args:
        maximum: a rule for maxima.
        nonlinearity: a rule for nonlinearities.
        constants: the constants c, none above zero, so that f(0) = 0 (default: zero).

    Returns:
        Whether both rules give the same R.

    Source: "Visualizing Neural networks, how to blame the bias", AI Alignment Forum, "Consistency rules".

    >>> maximum_with_constants(Gradient(), Gradient(), (-0.5,))
    True
    """
    a = torch.tensor(VALUES, dtype=torch.float64)
    held = [torch.full_like(a, c) for c in constants]

    def largest(*values: Tensor) -> Tensor:
        return torch.stack(values, -1).amax(-1)

    def clamped(value: Tensor) -> Tensor:
        return largest(value, *(c.flatten()[0].expand_as(value) for c in held))

    as_maximum = _shared(maximum, "maximum", "maximum", largest, [a, *held])
    elementwise = _shared(nonlinearity, "nonlinearity", "clamp", clamped, [a])
    return torch.allclose(as_maximum, elementwise, rtol=0, atol=1e-12)


_AGREE = {("gradient", "gradient"), ("gradient", "rescale"), ("gradient", "deconvnet"), ("lrp_0", "pass")}
"""The rows of the essay's table of scaling equivalence."""


def scalings(factor: float = 3.0) -> list[Comparison]:
    """Scaling equivalence for every pair of a matrix rule and a nonlinearity rule, beside the essay's table.

    Args:
        factor: the constant of the scaling (default 3).

    >>> len(scalings())
    8
    """
    found = []
    for m, matrix in MATRIX.items():
        for n, nonlinearity in NONLINEARITY.items():
            same, scale = scaling(matrix, nonlinearity, factor)
            found.append(Comparison(m, n, same, "yes" if (m, n) in _AGREE else "no", scale=scale if same else None))
    return found


def maxima() -> list[Comparison]:
    """Every rule for maxima against every rule for nonlinearities, with several constants, beside what the essay says.

    It says that gradient matches gradient, and suspects that radial matches Rescale for a maximum of two.

    >>> len(maxima())
    48
    """
    found = []
    for (m, maximum), (n, nonlinearity) in itertools.product(MAXIMUM.items(), NONLINEARITY.items()):
        for constants in CONSTANTS:
            says = "yes" if m == n == "gradient" else ""
            if (m, n) == ("radial", "rescale"):
                says = "perhaps" if len(constants) == 1 else "no"
            agree = maximum_with_constants(maximum, nonlinearity, constants)
            found.append(Comparison(m, n, agree, says, constants))
    return found
