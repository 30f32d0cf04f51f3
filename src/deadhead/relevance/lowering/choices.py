"""Choices between values, entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.graph.catalogue import names_of
from deadhead.graph.graph import Edits
from deadhead.relevance.lowering.common import (
    Arguments,
    Options,
    broadcast,
    named,
    own,
)
from deadhead.relevance.program import Lowering, lowering

HUGE = 1e4
"""Numbers beyond this fill what is masked before a softmax: they never carry relevance."""


@lowering("masked_fill")
def masked_fill(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """A number where the mask is."""
    value, mask, number = args[:3]
    if isinstance(number, (int, float)) and not abs(number) < HUGE:

        def hidden(value: Tensor, mask: Tensor) -> Tensor:
            return torch.where(mask, value.new_full((), number), value)

        here.finish("movement", hidden, value, mask)
        return

    def whole(value: Tensor, mask: Tensor, number: Any) -> Tensor:
        filled = number.to(value.dtype) if isinstance(number, Tensor) else value.new_full((), number)
        return filled.expand(broadcast(value.shape, mask.shape))

    filled = here.call("constant", whole, value, mask, number, op="filled", origin=number)
    here.finish("movement", torch.where, mask, filled, value, op="where")


@lowering("pad", "constant_pad_nd", "scatter", "index_fill")
def written(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """A number where the op writes it, which is where it writes a one into zeros."""
    given = named(here, args, kwargs)
    number, graph, node = given.get("value"), here.program.graph, here.node
    if given.get("reduce") is not None:
        here.finish("unknown", own(here), *args, kwargs=kwargs)
        return
    carried = isinstance(number, (int, float)) and 0 < abs(number) < HUGE
    if not carried or given.get("mode", "constant") != "constant":
        here.finish("movement", own(here), *args, kwargs=kwargs)
        return
    names = list(given)[1:]

    def write(number: float) -> Callable[..., Tensor]:
        def written(value: Tensor, *others: Any) -> Tensor:
            arguments = {"self": value, **dict(zip(names, others, strict=True)), "value": number}
            return graph.apply(node, [], arguments, Edits())  # type: ignore[no-any-return]

        return written

    def there(value: Tensor, *others: Any) -> Tensor:
        return write(1)(torch.zeros_like(value), *others) != 0

    values = tuple(given.values())
    kept = here.call("movement", write(0), *values, operands=(given["self"],))
    mask = here.call("constant", there, *values, op="mask")
    filled = here.call("constant", lambda value: torch.full_like(value, given["value"]), kept, op="filled")
    here.finish("movement", torch.where, mask, filled, kept, op="where")


@lowering(*names_of("choice", sums=True))
def elementwise_choice(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """A choice between two values at each entry, both laid out in full."""
    kind = "movement" if here.op == "where" else "maximum"
    if len(args) < 2 or not all(isinstance(each, fx.Node) for each in args):
        here.finish("unknown" if kind == "maximum" else kind, own(here), *args, kwargs=kwargs)
        return
    *first, left, right = args
    whole = here.node.meta["val"].shape
    if any(tuple(each.meta["val"].shape) != tuple(whole) for each in (left, right)):

        def spread(value: Tensor, *others: Tensor) -> Tensor:
            return value.expand(broadcast(value.shape, *(each.shape for each in others)))

        left, right = (
            here.call("movement", spread, each, *args, op="spread", origin=each, operands=(each,))
            for each in (left, right)
        )
    here.finish(kind, own(here), *first, left, right)
