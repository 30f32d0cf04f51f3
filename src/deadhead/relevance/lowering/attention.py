"""Attention, as two products and a softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.graph.catalogue import names_of, op_of
from deadhead.relevance.lowering.common import (
    Arguments,
    Options,
    named,
    own,
    product_kind,
)
from deadhead.relevance.operations import Key
from deadhead.relevance.program import Lowering, lowering


@lowering(*names_of("attention"))
def attention(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """softmax(scale q k^T + mask) v, as two products and a softmax."""
    given = named(here, args, kwargs)
    query, key, value, mask = given["query"], given["key"], given["value"], given["attn_mask"]
    if given.get("enable_gqa"):
        key = here.call("movement", _repeated_heads, key, query, op="heads", operands=(key,))
        value = here.call("movement", _repeated_heads, value, query, op="heads", operands=(value,))
    scale = given["scale"]

    def scores(query: Tensor, key: Tensor) -> Tensor:
        factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        return (query * factor) @ key.transpose(-2, -1)

    weights: Key
    if "softmax" in here.program.detached:  # nothing runs through what is before it

        def whole(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
            found = scores(query, key)
            if given["is_causal"]:
                found += found.new_zeros(found.shape[-2:]).masked_fill_(~_allowed(found), -math.inf)
            if mask is None:
                return found.softmax(-1)
            return _attend(found.masked_fill_(~mask, -math.inf) if mask.dtype == torch.bool else found + mask)

        weights = here.call("softmax", whole, query, key, mask, op="softmax")
    else:
        weights = _in_steps(here, scores, query, key, mask, given["is_causal"])
    kind, degree = product_kind(here, (weights, value), "linear")
    here.finish(kind, torch.matmul, weights, value, op="matmul", degree=degree)


def _in_steps(
    here: Lowering, scores: Callable[[Tensor, Tensor], Tensor], query: Key, key: Key, mask: Any, causal: bool
) -> Key:
    """The weights of attention, with a step for each op."""
    kind, degree = product_kind(here, (query, key), "linear")
    found: Key = here.call(kind, scores, query, key, op="scores", degree=degree)
    if causal:
        found = here.call("movement", _causal, found, op="causal")
    if mask is not None and here.program.is_live(mask):
        found = here.call("sum", torch.add, found, mask, op="mask", degree=1)
    elif mask is not None and mask.meta["val"].dtype == torch.bool:
        found = here.call("movement", lambda s, m: torch.where(m, s, s.new_full((), -math.inf)), found, mask, op="mask")
    elif mask is not None:
        found = here.call("sum", lambda s: s, found, op="mask", additive=(here.constant(mask),))
    return here.call("softmax", _attend, found, op="softmax")


def _attend(scores: Tensor) -> Tensor:
    """The softmax over the keys, zero where all are masked."""
    none = scores.amax(-1, keepdim=True) == -math.inf
    if not none.any():
        return scores.softmax(-1)
    return torch.where(none, torch.zeros_like(scores), scores.masked_fill(none, 0.0).softmax(-1))


def _repeated_heads(value: Tensor, query: Tensor) -> Tensor:
    return value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)


def _causal(scores: Tensor) -> Tensor:
    return torch.where(_allowed(scores), scores, scores.new_full((), -math.inf))


def _allowed(scores: Tensor) -> Tensor:
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()


@lowering(*names_of(relevance="softmax"))
def softmax(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """A softmax: detached, where rules say so and it does not reach the outputs but as a factor of a product."""
    kind = "softmax" if _is_gate(here.node) else "general"
    here.finish(kind, own(here), *args, kwargs=kwargs)


def _is_gate(node: fx.Node) -> bool:
    """Whether all that is made of a node weighs something else."""
    waiting, seen = list(node.users), set()
    while waiting:
        user = waiting.pop()
        if user in seen:
            continue
        seen.add(user)
        op = op_of(user)
        made = user.meta.get("val")
        if op.family == "assertion" or (isinstance(made, Tensor) and not made.is_floating_point()):
            continue
        if op.carries:
            waiting += list(user.users)
        elif not op.weighs:
            return False
    return bool(seen)
