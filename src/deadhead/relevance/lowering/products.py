"""Products and what is added to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deadhead.graph.catalogue import names_of
from deadhead.graph.graph import Edits
from deadhead.relevance.lowering.common import (
    Arguments,
    Options,
    by_axis,
    named,
    own,
    product_kind,
    rank,
    with_live_bias,
)
from deadhead.relevance.operations import is_key
from deadhead.relevance.program import Lowering, lowering


@lowering("linear")
def linear(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """y = x W^T + b."""
    given = named(here, args, kwargs)
    value, weight, bias = given["input"], given["weight"], given["bias"]
    kind, degree = product_kind(here, (value, weight), "linear")
    additive = () if bias is None else (here.constant(bias),)
    fused = lambda constants, x, w: F.linear(x, w, *constants)  # noqa: E731
    with_live_bias(here, kind, F.linear, (value, weight), degree, additive, fused)


@lowering(*names_of("convolution", "transposed convolution"), "convolution")
def convolution(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """A convolution and its bias along the channels."""
    given = named(here, args, kwargs)
    bias = given.pop("bias")
    node, names = here.node, list(given)

    def fused(constants: Sequence[Any], *values: Any) -> Tensor:
        given = {**dict(zip(names, values, strict=True)), "bias": constants[0] if constants else None}
        return here.program.graph.apply(node, [], given, Edits())  # type: ignore[no-any-return]

    def function(*values: Any) -> Tensor:
        return fused((), *values)

    weight = given["weight"]
    kind, degree = product_kind(here, (given["input"], weight), "convolution")
    behind = rank(weight) - 2
    additive = () if bias is None else (here.constant(bias, by_axis(0, behind)),)
    with_live_bias(here, kind, function, tuple(given.values()), degree, additive, fused)


@lowering(*names_of("product", bias=None), "mul", "multiply")
def product(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """A product: linear in its one live operand, or a product of several."""
    operands = [each for arg in args for each in (arg if isinstance(arg, (list, tuple)) else [arg]) if is_key(each)]
    scaling = here.op in ("mul", "multiply")
    kind, degree = product_kind(here, operands, "sum" if scaling else "linear")
    here.finish(kind, own(here), *args, kwargs=kwargs, degree=degree)


@lowering(*names_of("grouped product"))
def grouped_product(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """Rows times the weight of the expert that each was given to."""
    kind, degree = product_kind(here, args[:2], "linear")
    here.finish(kind, own(here), *args, kwargs=kwargs, degree=degree)


@lowering(*names_of("product", bias=0))
def addmm(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """beta b + alpha x y."""
    given = named(here, args, kwargs)
    first, second = list(given)[1:3]
    left, right, alpha, beta = given[first], given[second], given["alpha"], given["beta"]
    kind, degree = product_kind(here, (left, right), "linear")
    additive = () if beta == 0 else (here.constant(given["self"], lambda c: c if beta == 1 else beta * c),)
    scaled = (lambda x, y: x @ y) if alpha == 1 else (lambda x, y: alpha * (x @ y))
    with_live_bias(here, kind, scaled, (left, right), degree, additive)


@lowering("addcmul")
def addcmul(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """x + value y z."""
    given = named(here, args, kwargs)
    scale, left, right = given["value"], given["tensor1"], given["tensor2"]
    kind, degree = product_kind(here, (left, right), "sum")
    with_live_bias(here, kind, lambda a, b: scale * a * b, (left, right), degree, (here.constant(given["self"]),))


@lowering("div", "true_divide", "divide")
def divide(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """x / y: x times the reciprocal of y where y depends on the inputs."""
    given = named(here, args, kwargs)
    above, below = given["self"], given["other"]
    if given.get("rounding_mode") is not None:
        here.finish("unknown", own(here), *args, kwargs=kwargs)
    elif not here.program.depends(below):
        here.finish("sum", torch.div, above, below)
    else:
        under = here.call("normalisation", torch.reciprocal, below, op="reciprocal")
        kind, degree = product_kind(here, (above, under), "sum")
        if not here.program.depends(above) and not here.program.is_live(under):
            kind = "normalisation"
        here.finish(kind, torch.mul, above, under, degree=degree)


@lowering("glu")
def glu(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """x1 sigmoid(x2), of the halves of x."""
    given = named(here, args, kwargs)
    value, dim = given["self"], given.get("dim", -1)
    first = here.call("movement", lambda v: v.chunk(2, dim)[0], value, op="first")
    second = here.call("movement", lambda v: v.chunk(2, dim)[1], value, op="second")
    gate = here.call("nonlinearity", torch.sigmoid, second, op="sigmoid")
    here.finish("product", torch.mul, first, gate, op="mul", degree=2)


@lowering("lerp")
def lerp(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """a + w (b - a)."""
    given = named(here, args, kwargs)
    first, last, weight = given["self"], given["end"], given["weight"]
    less = here.call("sum", torch.sub, last, first, op="sub", degree=1)
    kind, degree = product_kind(here, [each for each in (less, weight) if is_key(each)], "sum")
    scaled = here.call(kind, torch.mul, less, weight, op="mul", degree=degree)
    here.finish("sum", torch.add, first, scaled, op="add", degree=1)
