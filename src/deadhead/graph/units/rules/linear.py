"""Contractions of matrices: linear layers, matrix products, einsum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from deadhead.graph.catalogue import names_of
from deadhead.graph.nodes import argument, is_tensor, listed_nodes, op_name, operand, shape_of, where
from deadhead.graph.units.labels import Labels, Value
from deadhead.graph.units.registry import broadcast, contract, give_up, rule


def _add(labels: Labels, node: fx.Node, value: Value, other: Any) -> Value:
    """`value` plus a bias or an input matrix that is broadcast against it."""
    return broadcast(labels, node, [value, labels.values[other]]) if is_tensor(other) else value


@rule("linear")
def linear(labels: Labels, node: fx.Node) -> Any:
    """y[..., o] = sum_i x[..., i] W[o, i] + b[o]."""
    x, weight = operand(node, 0), operand(node, 1)
    value, matrix = labels.values[x], labels.values[weight]
    outer = [str(axis) for axis in range(len(value.shape) - 1)]
    operands = [(0, x, value, [*outer, "i"]), (1, weight, matrix, ["o", "i"][2 - len(matrix.shape) :])]
    result = [*outer, "o"] if len(matrix.shape) == 2 else outer
    output, _ = contract(labels, node, operands, [*outer, "i", "o"], result)
    return _add(labels, node, output, node.args[2] if len(node.args) > 2 else node.kwargs.get("bias"))


def _product(labels: Labels, node: fx.Node, left: int, right: int) -> Value:
    """A matrix product of two arguments, with broadcast batch axes."""
    a, b = operand(node, left), operand(node, right)
    first, second = labels.values[a], labels.values[b]
    rank = max(len(first.shape), len(second.shape))
    batch = [str(axis) for axis in range(max(rank - 2, 0))]

    def names(value: Value, last: list[str]) -> list[str]:
        return last if len(value.shape) < 2 else [*batch[len(batch) - (len(value.shape) - 2) :], *last]

    left_names = names(first, ["m", "i"] if len(first.shape) > 1 else ["i"])
    right_names = names(second, ["i", "n"] if len(second.shape) > 1 else ["i"])
    result = [*batch, *(x for x in ("m", "n") if x in (*left_names, *right_names))]
    operands = [(left, a, first, left_names), (right, b, second, right_names)]
    return contract(labels, node, operands, [*batch, "m", "i", "n"], result)[0]


@rule("matmul", "mm", "bmm", "mv", "dot", "vdot", "linalg_matmul")
def matmul(labels: Labels, node: fx.Node) -> Any:
    """y[..., m, n] = sum_i a[..., m, i] b[..., i, n]."""
    return _product(labels, node, 0, 1)


@rule(*names_of("product", bias=0), *names_of("summed product"))
def addmm(labels: Labels, node: fx.Node) -> Any:
    """y = c + a b."""
    if op_name(node) == "addbmm":
        return give_up(labels, node, f"{where(node)} sums over a batch")
    return _add(labels, node, _product(labels, node, 1, 2), node.args[0])


def einsum_letters(node: fx.Node, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """The letters of each operand's axes, of so many axes each, and of the result's; dots are numbers."""
    equation = str(argument(node, 0, "equation")).replace(" ", "")
    terms, _, result = equation.partition("->")
    operands = terms.split(",")
    if "->" not in equation:
        joined = terms.replace(",", "").replace(".", "")
        result = ("..." if "..." in terms else "") + "".join(sorted(c for c in set(joined) if joined.count(c) == 1))
    longest = max((rank - len(term.replace(".", ""))) for rank, term in zip(ranks, operands, strict=True))
    dots = [str(axis) for axis in range(longest)] if "..." in terms else []

    def names(term: str, rank: int) -> list[str]:
        before, found, after = term.partition("...")
        middle = dots[len(dots) - (rank - len(before) - len(after)) :] if found else []
        return [*before, *middle, *after]

    letters = [names(term, rank) for term, rank in zip(operands, ranks, strict=True)]
    return letters, names(result, len(shape_of(node)))


@rule("einsum")
def einsum(labels: Labels, node: fx.Node) -> Any:
    """Any einsum without repeated letters in one operand."""
    args = listed_nodes(node, 1)
    values = [labels.values[arg] for arg in args]
    letters, outputs = einsum_letters(node, [len(value.shape) for value in values])
    if any(len(set(each)) < len(each) for each in letters):
        return give_up(labels, node, f"{where(node)} takes a diagonal")
    seen = dict.fromkeys(letter for each in letters for letter in each)
    every = [*sorted(filter(str.isdigit, seen), key=int), *(letter for letter in seen if not letter.isdigit())]
    packed = [(1 + i, arg, v, n) for i, (arg, v, n) in enumerate(zip(args, values, letters, strict=True))]
    return contract(labels, node, packed, every, outputs)[0]


def _sizes(experts: Value) -> dict[str, int]:
    return dict(zip("eio", experts.shape, strict=True))


@rule(*names_of("grouped product"))
def grouped_matmul(labels: Labels, node: fx.Node) -> Any:
    """y[t, o] = sum_i x[t, i] W[e(t), i, o]: one matrix for each expert, rows in the order of their experts."""
    x, weight = operand(node, 0), operand(node, 1)
    value, experts = labels.values[x], labels.values[weight]
    if len(value.shape) != 2 or len(experts.shape) != 3:
        return give_up(labels, node, f"{where(node)} has no rule for these shapes")
    value = labels.fix_axis(value, 0, where(node))
    ends = operand(node, 2) if len(node.args) > 2 else None
    if ends is None or labels.values[ends].block_of(0) is None:
        experts = labels.fix_axis(experts, 0, f"{where(node)} chooses among them")
    else:
        labels.align([(experts, ["e", "i", "o"]), (labels.values[ends], ["e"])], _sizes(experts), (), where(node))
    operands = [(0, x, value, ["t", "i"]), (1, weight, experts, ["e", "i", "o"])]
    return contract(labels, node, operands, ["e", "t", "i", "o"], ["t", "o"])[0]
