"""Sums with constants, views, squares and bags of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from deadhead.relevance.lowering.common import (
    Arguments,
    Options,
    broadcast,
    named,
    own,
)
from deadhead.relevance.program import Lowering, lowering


@lowering("square")
def square(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """x^2 as an elementwise function."""
    here.finish("nonlinearity", torch.square, *args)


@lowering("add", "sub", "subtract", "rsub")
def add(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """x + alpha y: of two live operands or of one and a constant."""
    given = named(here, args, kwargs)
    first, second, alpha = given["self"], given["other"], given.get("alpha", 1)
    signs = (1, alpha) if here.op == "add" else (-alpha, 1) if here.op == "rsub" else (1, -alpha)
    live = [here.program.is_live(each) for each in (first, second)]
    if all(live):
        if signs[0] == 1:
            here.finish("sum", lambda a, b: torch.add(a, b, alpha=signs[1]), first, second, degree=1)
        else:
            here.finish("sum", lambda a, b: torch.add(b, a, alpha=signs[0]), first, second, degree=1)
        return
    value, other = (first, second) if live[0] else (second, first)
    sign, its = (signs[0], signs[1]) if live[0] else (signs[1], signs[0])
    if isinstance(value, fx.Node) and tuple(value.meta["val"].shape) != tuple(here.node.meta["val"].shape):

        def spread(value: Tensor, other: Tensor) -> Tensor:
            return value.expand(broadcast(value.shape, other.shape))

        value = here.call("movement", spread, value, other, op="spread", operands=(value,))
    additive = (here.constant(other, lambda c: its * c),)
    here.finish("sum", lambda v: v if sign == 1 else sign * v, value, additive=additive)


@lowering("view", "_unsafe_view")
def view(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """A view, of values whose strides need not be those of the trace."""
    sized = len(args) > 1 and isinstance(args[1], (list, tuple))
    here.finish("movement", torch.reshape if sized else own(here), *args, kwargs=kwargs)


@lowering("embedding_bag", "_embedding_bag")
def embedding_bag(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """Embeddings, and the sum or mean of each bag."""
    given = named(here, args, kwargs)
    weight, indices, offsets, mode = given["weight"], given["indices"], given["offsets"], given["mode"]
    plain = given["per_sample_weights"] is None and given.get("padding_idx") in (None, -1) and mode in (0, 1)
    if not plain:
        here.finish("unknown", lambda *a, **k: own(here)(*a, **k), *args, kwargs=kwargs)
        return
    last = given["include_last_offset"]

    def bags(found: Tensor, offsets: Tensor) -> Tensor:
        starts = offsets[:-1] if last else offsets
        bag = torch.bucketize(torch.arange(len(found), device=found.device), starts, right=True) - 1
        sums = found.new_zeros(len(starts), found.shape[1]).index_add(0, bag, found)
        if mode == 0:
            return sums
        return sums / torch.bincount(bag, minlength=len(starts)).clamp(min=1)[:, None].to(found.dtype)

    found = here.call("embedding", torch.nn.functional.embedding, indices, weight, op="embedding")
    here.finish("sum", bags, found, offsets)
