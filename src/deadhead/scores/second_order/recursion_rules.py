"""The rules of the recursion: how first derivatives and the diagonal of second ones go back through one op."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.errors import DataError
from deadhead.graph.catalogue import known, names_of
from deadhead.graph.nodes import named_arguments, op_name, where
from deadhead.graph.units.registry import RULES as LABEL_RULES

Cotangents = list[Tensor | None]
Both = tuple[list[Tensor], list[Tensor]]


@dataclass
class Step:
    """One op of the forward pass.

    Attributes:
        node: the op in the graph.
        args: its arguments.
        kwargs: those by name.
        function: computes it from both.
        leaves: the activations that it reads, by position, detached from what made them.
        sources: the nodes that made them, by position.
        read: what an edit was given and gave, by position.
        made: its results.
    """

    node: fx.Node
    args: list[Any]
    kwargs: dict[str, Any]
    function: Callable[[list[Any], dict[str, Any]], Any]
    leaves: dict[int, Tensor] = field(default_factory=dict)
    sources: dict[int, fx.Node] = field(default_factory=dict)
    read: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    made: list[Any] = field(default_factory=list)

    def again(self, entries: Mapping[int, Any], kwargs: Mapping[str, Any] | None = None) -> Tensor:
        """The op's first result with other arguments at some positions."""
        made = self.function(placed(self.args, entries), {**self.kwargs, **(kwargs or {})})
        return as_list(made)[0]  # type: ignore[no-any-return]

    def pull(self, cotangents: Cotangents) -> list[Tensor]:
        """The cotangents of the results, pulled back to the leaves."""
        pairs = [
            (made, cotangent)
            for made, cotangent in zip(self.made, cotangents, strict=True)
            if cotangent is not None and isinstance(made, Tensor) and made.requires_grad
        ]
        leaves = list(self.leaves.values())
        made, given = zip(*pairs, strict=True)
        found = torch.autograd.grad(made, leaves, given, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(x) if each is None else each for x, each in zip(leaves, found, strict=True)]


DiagonalRule = Callable[[Step, Cotangents, Cotangents], Both]
"""From g and h of a step's results to those of its leaves."""


def as_list(made: Any) -> list[Any]:
    return list(made) if isinstance(made, (tuple, list)) else [made]


def leaf_places(args: Sequence[Any]) -> list[Any]:
    """Arguments with lists taken apart: the entry at each position."""
    return [each for arg in args for each in (arg if isinstance(arg, (tuple, list)) else (arg,))]


def placed(args: Sequence[Any], entries: Mapping[int, Any]) -> list[Any]:
    """`args` with other entries at some positions."""
    places = iter(range(len(leaf_places(args))))
    return [
        [entries.get(next(places), each) for each in arg]
        if isinstance(arg, (tuple, list))
        else entries.get(next(places), arg)
        for arg in args
    ]


def copied(step: Step, first: Cotangents, second: Cotangents) -> Both:
    """Ops that copy entries, drop them or sum them up: every coefficient is 0 or 1, its own square."""
    return step.pull(first), step.pull(second)


def _gathered(step: Step, first: Cotangents, second: Cotangents) -> Both:
    """Ops that are affine in each entry and put it into one place: `h_x = c^2 h_y`, c the pullback of ones."""
    ones: Cotangents = [
        None if cotangent is None else torch.ones_like(made) for made, cotangent in zip(step.made, second, strict=True)
    ]
    scales, (leaf,) = step.pull(ones), step.leaves.values()
    g, h = first[0], second[0]
    if g is not None and h is not None and leaf.shape == g.shape:
        return [scales[0] * g], [scales[0].square() * h]
    return step.pull(first), [c * each for c, each in zip(scales, step.pull(second), strict=True)]


def _pointwise(step: Step, first: Cotangents, second: Cotangents) -> Both:
    """Elementwise ops of one activation, `h_x = f'(x)^2 h_y + f''(x) g_y`, or sums and choices of several."""
    g, h, shape = first[0], second[0], step.made[0].shape
    assert g is not None
    assert h is not None
    firsts, seconds = [], []
    for position, leaf in step.leaves.items():
        x, made = leaf, step.made[0]
        if leaf.shape != shape:
            x = leaf.detach().expand(shape).requires_grad_()
            made = step.again({position: x})
        slope = torch.autograd.grad(made, x, torch.ones_like(made), create_graph=True, allow_unused=True)[0]
        if slope is None:
            firsts.append(torch.zeros_like(leaf))
            seconds.append(torch.zeros_like(leaf))
            continue
        held = slope.detach()
        curved = held.square() * h
        if slope.requires_grad:
            second_slope = torch.autograd.grad(slope, x, torch.ones_like(slope), retain_graph=True, allow_unused=True)[
                0
            ]
            if second_slope is not None:
                curved = torch.addcmul(curved, second_slope, g)
        firsts.append((held * g).sum_to_size(leaf.shape).to(leaf.dtype))
        seconds.append(curved.sum_to_size(leaf.shape).to(leaf.dtype))
    return firsts, seconds


def _contracted(step: Step, first: Cotangents, second: Cotangents) -> Both:
    """Products with parameters: the op's own pullback with every coefficient squared."""
    entries = {
        position: entry.square()
        for position, entry in enumerate(leaf_places(step.args))
        if isinstance(entry, Tensor) and entry.is_floating_point() and position not in step.leaves
    }
    scalars = {key: value**2 for key, value in step.kwargs.items() if key in ("alpha", "beta")}
    squared = step.again(entries, scalars)
    leaves = list(step.leaves.values())
    found = torch.autograd.grad(squared, leaves, second[0], allow_unused=True)
    return step.pull(first), [
        torch.zeros_like(x) if each is None else each for x, each in zip(leaves, found, strict=True)
    ]


def _linear(step: Step, first: Cotangents, second: Cotangents) -> Both:
    """`h_x = h_y W^2`, without another forward pass."""
    weight, h = step.args[1], second[0]
    assert h is not None
    if list(step.leaves) != [0] or weight.dim() != 2:
        return _contracted(step, first, second)
    return step.pull(first), [h @ weight.square()]


def _convolved(step: Step, first: Cotangents, second: Cotangents) -> Both:
    """The input's gradient with the squared kernel, without another forward pass."""
    given = named_arguments(step.node, step.args, step.kwargs)
    x, kernel = step.leaves.get(0), given["weight"]
    if x is None or len(step.leaves) > 1 or x.dim() != kernel.dim() or isinstance(given["padding"], str):
        return _contracted(step, first, second)
    rank = kernel.dim() - 2
    stride, padding, dilation = (_for_each_axis(given[name], rank) for name in ("stride", "padding", "dilation"))
    pulled = torch.ops.aten.convolution_backward(
        second[0], x.detach(), kernel.square(), None, stride, padding, dilation, False, [0] * rank, given["groups"],
        [True, False, False],
    )  # fmt: skip
    return step.pull(first), [pulled[0]]


def _for_each_axis(sizes: int | Sequence[int], rank: int) -> list[int]:
    sizes = [sizes] if isinstance(sizes, int) else list(sizes)
    return sizes * rank if len(sizes) == 1 else sizes


def _slid(step: Step, first: Cotangents, second: Cotangents) -> Both:
    """Averages over windows and interpolations: linear along each axis in space, so `h_x = (A_1^2 x A_2^2 ..)^T h_y`
    with the coefficients A along each axis found by sending unit vectors through the op."""
    (position, leaf), h = next(iter(step.leaves.items())), second[0]
    assert h is not None
    rank = next(int(char) for char in op_name(step.node) if char.isdigit())
    sizes, results = leaf.shape[-rank:], step.made[0].shape[-rank:]
    middle = [size // 2 for size in results]
    with torch.no_grad():
        whole = step.again({position: leaf.new_ones((1, 1, *sizes))})[(0, 0, *middle)]
        for axis, size in enumerate(sizes):
            shape = [size, 1, *(size if each == axis else 1 for each in range(rank))]
            units = torch.eye(size, dtype=leaf.dtype, device=leaf.device).reshape(shape)
            sent = step.again({position: units.expand(size, 1, *sizes).contiguous()})
            for other in reversed(range(rank)):
                if other != axis:
                    sent = sent.select(2 + other, middle[other])
            matrix = sent[:, 0] if axis == 0 else sent[:, 0] / whole
            place = h.dim() - rank + axis
            h = (h.movedim(place, -1) @ matrix.square().T).movedim(-1, place)
    return step.pull(first), [h]


SOFTMAX = frozenset(names_of(before_loss=True))
"""Ops that belong to the loss where only an output reads them."""

_DIAGONAL: dict[str, DiagonalRule] = {
    "copied": copied,
    "gathered": _gathered,
    "slid": _slid,
    "contracted": _contracted,
    "pointwise": _pointwise,
}
RULES: dict[str, DiagonalRule] = {
    **dict.fromkeys(names_of("convolution"), _convolved),
    "linear": _linear,
}
"""How g and h go back through ops that no word of the catalogue describes."""


def _name(node: fx.Node) -> str:
    """The name of an op, `max.other` and `min.other` by their elementwise names."""
    name = op_name(node)
    return f"{name}imum" if name in ("max", "min") and str(node.target).endswith(".other") else name


def rule_of(node: fx.Node) -> DiagonalRule:
    name = _name(node)
    if name in RULES:
        return RULES[name]
    diagonal = known(name).diagonal
    if diagonal is not None:
        return _DIAGONAL[diagonal]
    tagged = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
    if tagged or known(name).sums or LABEL_RULES.get(name) is LABEL_RULES["pointwise"]:
        return _pointwise
    raise refusal(node, "is not elementwise, nor linear in its input")


def check(step: Step) -> None:
    """Refuse what a rule would get wrong."""
    node, name, rule = step.node, _name(step.node), rule_of(step.node)
    op = known(name)
    added = op.bias if op.family == "product" else None
    multiplied = [position for position in step.leaves if position != added]
    if rule in (_contracted, _convolved, _linear) and len(multiplied) > 1:
        raise refusal(node, "multiplies activations by each other")
    if rule is _pointwise and not op.sums and len(step.leaves) > 1:
        raise refusal(node, "combines several activations")
    if rule in (_gathered, _slid) and list(step.leaves) != [0]:
        raise refusal(node, "combines several activations")
    if name == "einsum" and not _is_plain(str(step.args[0]), multiplied[0] - 1):
        raise refusal(node, "sums its weights before it multiplies")
    if name == "batch_norm" and (step.args[5] or step.args[3] is None):
        raise refusal(node, "takes statistics of the batch")
    if name == "to" and any(isinstance(each, Tensor) and each.is_complex() for each in step.made):
        raise refusal(node, "makes complex numbers")


def _is_plain(equation: str, operand: int) -> bool:
    """Whether every coefficient of an einsum is one entry of the other of two operands."""
    terms, arrow, result = equation.replace(" ", "").partition("->")
    operands = terms.split(",")
    if not arrow or len(operands) != 2:
        return False
    other = operands[1 - operand]
    return len(set(other)) == len(other) and set(other) <= set(operands[operand]) | set(result)


def refusal(node: fx.Node, why: str) -> DataError:
    return DataError(
        f"The recursion of taylor2 does not go through {where(node)}, which {why}; choose "
        "taylor2_gauss_newton, taylor1 or mrs."
    )
