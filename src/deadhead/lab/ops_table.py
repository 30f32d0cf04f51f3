"""The table of ops and what the package knows to do with each, made from the catalogue and the registries of rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch

from deadhead.cut.program import FILLED, GROUPED
from deadhead.graph.catalogue import CATALOGUE, Op
from deadhead.graph.costs import is_counted
from deadhead.graph.units.matrices import has_matrix
from deadhead.graph.units.rules import RULES as LABELS
from deadhead.relevance import kinds, lowering  # noqa: F401 - they fill the registries
from deadhead.relevance.program import LOWERINGS
from deadhead.scores.certificate.lipschitz import ELEMENTWISE, LIPSCHITZ
from deadhead.scores.second_order.recursion_rules import RULES as DIAGONALS

MISSING = "missing"
APART = "unrolled"
"""What recurrent layers and cells have in place of rules: they are replaced by the ops of their steps."""


@dataclass(frozen=True)
class Row:
    """One op: how each feature deals with it, empty where there is nothing to deal with, `MISSING` where it cannot."""

    op: str
    family: str
    labels: str = ""
    relevance: str = ""
    diagonal: str = ""
    lipschitz: str = ""
    multiply_adds: str = ""
    matrix: str = ""
    rewriting: str = ""

    @property
    def lacks(self) -> list[str]:
        """The features that cannot deal with the op."""
        return [each.name for each in fields(self) if getattr(self, each.name) == MISSING]


def rows() -> list[Row]:
    """One row for each op of the catalogue, in its order.

    >>> next(row for row in rows() if row.op == "addmm")
    Row(op='addmm', family='product', labels='addmm', relevance='steps', diagonal='contracted', lipschitz='rule',
        multiply_adds='counted', matrix='yes', rewriting='')
    """
    return [_row(op) for op in CATALOGUE.values()]


def _row(op: Op) -> Row:
    if op.family in ("recurrent layer", "recurrent cell"):
        return Row(op.name, op.family, APART, APART, APART, APART)
    if op.family == "assertion":
        return Row(op.name, op.family)
    multiplies = is_counted(op) or op.family == "summed product"
    return Row(
        op.name,
        op.family,
        _labels(op),
        _relevance(op),
        _diagonal(op),
        _lipschitz(op),
        ("counted" if is_counted(op) else MISSING) if multiplies else "",
        ("yes" if has_matrix(op) else MISSING) if multiplies else "",
        _rewriting(op),
    )


def _labels(op: Op) -> str:
    if op.name in LABELS:
        return LABELS[op.name].__name__.strip("_")
    return "pointwise" if _is_pointwise(op.name) else "" if op.family == "creation" else MISSING


def _relevance(op: Op) -> str:
    if op.name in LOWERINGS:
        return "steps"
    if op.relevance is not None:
        return op.relevance
    if _is_pointwise(op.name) and _may_read_one(op.name):
        return "nonlinearity"
    return MISSING if _has_derivative(op) else ""


def _diagonal(op: Op) -> str:
    if op.name in DIAGONALS:
        return DIAGONALS[op.name].__name__.strip("_")
    if op.diagonal is not None:
        return op.diagonal
    if not _has_derivative(op):
        return ""
    if op.sums or _is_pointwise(op.name) or LABELS.get(op.name) is LABELS["pointwise"]:
        return "pointwise"
    return MISSING


def _has_derivative(op: Op) -> bool:
    """Whether derivatives can run through an op: not where it makes constants or chooses."""
    return op.family != "creation" and not op.discrete


def _lipschitz(op: Op) -> str:
    if op.name not in LIPSCHITZ and (op.lipschitz is None or op.family not in ELEMENTWISE):
        return MISSING if _has_derivative(op) else ""
    return "rule" if op.lipschitz is None else f"{op.lipschitz:.4g}"


def _rewriting(op: Op) -> str:
    if op.rewritten is not None:
        return op.rewritten
    if op.groups is not None:
        return "groups" if op.family in GROUPED else MISSING
    return "repaired" if op.name in FILLED else ""


def _overloads(name: str) -> list[torch._ops.OpOverload]:
    packet = getattr(torch.ops.aten, name, None)
    return [] if packet is None else [getattr(packet, each) for each in packet.overloads()]


def _is_pointwise(name: str) -> bool:
    """Whether torch tags an op as pointwise: labels and derivatives then need no rule of its own."""
    return any(torch.Tag.pointwise in overload.tags for overload in _overloads(name))


def _may_read_one(name: str) -> bool:
    """Whether a form of an op reads one tensor and no more."""
    return any(
        sum("Tensor" in str(spec.type) for spec in overload._schema.arguments) == 1 for overload in _overloads(name)
    )


def markdown(table: Iterable[Row]) -> str:
    """The table as Markdown, with what its words mean and how many ops each feature lacks."""
    table = list(table)
    heads = [each.name.replace("_", "-") for each in fields(Row)]
    lacking = Counter(each for row in table for each in row.lacks)
    missing = ", ".join(f"{each.name} {lacking[each.name]}" for each in fields(Row) if lacking[each.name])
    lines = [_INTRODUCTION.format(ops=len(table), missing=missing.replace("_", "-"), torch=torch_version())]
    lines.append(f"| {' | '.join(heads)} |")
    lines.append("|" + "---|" * len(heads))
    for row in table:
        cells = [getattr(row, each.name) for each in fields(Row)]
        shown = [f"`{cells[0]}`", *(f"**{cell}**" if cell == MISSING else cell for cell in cells[1:])]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def torch_version() -> str:
    """The minor version of torch, whose tags say which ops are elementwise."""
    return ".".join(torch.__version__.split(".")[:2])


_INTRODUCTION = """# Ops

What deadhead can do with each of the {ops} ops that its catalogue (`deadhead/graph/catalogue.py`) knows. Made by
`python benchmarks/ops.py` with torch {torch}; do not edit.

A **missing** entry is what an op still needs: until then it is refused or left whole. An empty one has nothing to do.
Missing: {missing}.

- labels: the rule by which units are followed through the op. Without one, the units that it reads stay in the network.
- relevance: the kind of rule that composites give it, or "steps" where it is taken apart into several. Without one, the
  derivative is taken and the op is reported as unknown.
- diagonal: how `taylor2` takes second derivatives back through it. Without one, `taylor2` refuses the network.
- lipschitz: the constant, or "rule" where it depends on weights or sizes. Without one, `certificate` refuses what lies
  in front of it.
- multiply-adds: whether they are counted; elementwise ops have none to count.
- matrix: whether compensation can refit a weight that the op multiplies by.
- rewriting: which of the op's numbers a cut rewrites in an exported program: "sizes", "parts" of a split, the "range"
  of a slice, "unflatten", "groups"; "repaired" are sizes that are tried out.
"""
