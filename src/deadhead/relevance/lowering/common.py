"""What the lowerings share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from deadhead.graph.graph import Edits
from deadhead.graph.nodes import named_arguments
from deadhead.relevance.operations import Additive
from deadhead.relevance.program import Lowering

Arguments = tuple[Any, ...]
Options = dict[str, Any]


def broadcast(*shapes: Sequence[int]) -> torch.Size:
    return torch.Size(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]


def named(here: Lowering, args: Arguments, kwargs: Options) -> dict[str, Any]:
    """The arguments by name; of a getitem, those of the op that gives the tuple."""
    node = here.node
    if not isinstance(node.target, torch._ops.OpOverload):
        node = here.program.tuples[node.args[0]]  # type: ignore[index]
    return named_arguments(node, args, kwargs)


def product_kind(here: Lowering, operands: Sequence[Any], weighted: str) -> tuple[str, int]:
    """Products with one live operand are linear in it, unless another depends on the inputs too."""
    program = here.program
    live = sum(program.is_live(each) for each in operands)
    if live > 1 or any(program.depends(each) and not program.is_live(each) for each in operands):
        return "product", live
    return weighted, 1


def by_axis(axis: int, rank_behind: int) -> Any:
    """Lay a vector along an axis that has so many behind it."""
    return lambda value: value.reshape(-1, *[1] * rank_behind) if rank_behind else value


def rank(value: Any) -> int:
    made = value.meta["val"]
    return int(made.dim())


def with_live_bias(
    here: Lowering,
    kind: str,
    function: Any,
    args: Arguments,
    degree: int,
    additive: tuple[Additive, ...],
    fused: Any = None,
) -> None:
    """A product and what is added to it; where that carries relevance itself, as a sum of two."""
    if any(here.program.is_live(each.source) for each in additive):
        (other,) = additive
        made = here.call(kind, function, *args, degree=degree)
        placed = here.call("movement", other.place, other.source, op="laid")
        here.finish("sum", torch.add, made, placed, op="add")
    else:
        here.finish(kind, function, *args, degree=degree, additive=additive, fused=fused)


def own(here: Lowering) -> Any:
    """The function of the node itself."""
    node, graph = here.node, here.program.graph
    return lambda *args, **kwargs: graph.apply(node, list(args), kwargs, Edits())
