"""Normalisations, as products with the reciprocals of their deviations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.relevance.lowering.common import (
    Arguments,
    Options,
    by_axis,
    named,
    own,
    product_kind,
    rank,
)
from deadhead.relevance.operations import Additive, Intermediate, Key
from deadhead.relevance.program import Lowering, lowering


@lowering("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm", "cudnn_batch_norm")
def batch_norm(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """Batch norm in evaluation: (x - mean) w / sqrt(var + eps) + b, whose shift is a constant."""
    given = named(here, args, kwargs)
    training = given.get("training") or given.get("train") or given["running_mean"] is None
    value, eps = given["input"], given["eps"]
    weight, bias = given["weight"], given["bias"]
    behind = rank(value if isinstance(value, fx.Node) else here.node) - 2
    lay = by_axis(0, behind)
    if training:
        axes = [0, *range(2, behind + 2)]
        _normalise(here, value, axes, eps, weight, bias, lay)
        return
    mean, variance = given["running_mean"], given["running_var"]
    moved = here.call("scale", lambda m, v, *w: -m * _scale(v, eps, *w), mean, variance, *_present(weight))
    scale = here.call("scale", lambda v, *w: lay(_scale(v, eps, *w)), variance, *_present(weight))
    shift = Additive(moved, here.program.name_of(mean, here.default_name)[0], lay)
    additive = (shift,) if bias is None else (shift, here.constant(bias, lay))

    def fused(constants: Sequence[Tensor], value: Tensor, scale: Tensor) -> Tensor:
        shift = constants[0] if len(constants) == 1 else constants[0] + constants[1]
        return torch.addcmul(lay(shift), value, scale)

    here.finish("sum", torch.mul, value, scale, additive=additive, fused=fused)


def _present(value: Any) -> tuple[Any, ...]:
    return () if value is None else (value,)


def _scale(variance: Tensor, eps: float, weight: Tensor | None = None) -> Tensor:
    scale = (variance + eps).rsqrt()
    return scale if weight is None else scale * weight


def _normalise(
    here: Lowering, value: Key, axes: Sequence[int], eps: float, weight: Any, bias: Any, lay: Any, centred: bool = True
) -> None:
    """(x - mean) / sqrt(var + eps) w + b, with statistics over `axes`."""
    dims = list(axes)
    if "normalisation" in here.program.detached:  # the deviation is a number to what runs backward
        value = _by_deviation(here, value, dims, eps, centred, weight is None and bias is None)
    else:
        value = _in_steps(here, value, dims, eps, centred, weight is None and bias is None)
    additive = () if bias is None else (here.constant(bias, lay),)
    if weight is not None:
        fused = lambda constants, v, w: torch.addcmul(lay(*constants), v, lay(w))  # noqa: E731
        here.finish("sum", lambda v, w: v * lay(w), value, weight, op="mul", additive=additive, fused=fused)
    elif bias is not None:
        here.finish("sum", lambda v: v, value, op="add", additive=additive)


def _by_deviation(here: Lowering, value: Key, dims: list[int], eps: float, centred: bool, last: bool) -> Key:
    """(x - mean) / sqrt(var + eps) as one step, given the deviation."""

    def shifted(value: Tensor) -> Tensor:
        return value - value.mean(dims, keepdim=True) if centred else value

    def reciprocal(value: Tensor) -> Tensor:
        return (shifted(value).square().mean(dims, keepdim=True) + eps).rsqrt()

    def scaled(value: Tensor, under: Tensor) -> Tensor:
        return shifted(value) * under

    under = here.call("normalisation", reciprocal, value, op="rsqrt")
    kind, degree = product_kind(here, (value, under), "sum")
    return _given(here, last, kind, scaled, value, under, degree)


def _given(here: Lowering, last: bool, kind: str, function: Any, value: Key, under: Key, degree: int) -> Key:
    """A step inside of the node, or the one that gives its value."""
    if last:
        here.finish(kind, function, value, under, op="mul", degree=degree)
        return here.key
    return here.call(kind, function, value, under, op="mul", degree=degree)


def _in_steps(here: Lowering, value: Key, dims: list[int], eps: float, centred: bool, last: bool) -> Key:
    """(x - mean) / sqrt(var + eps), with a step for each op."""
    if centred:
        mean = here.call("sum", lambda v: v.mean(dims, keepdim=True), value, op="mean")
        value = here.call("sum", torch.sub, value, mean, op="sub", degree=1)
    squared = here.call("nonlinearity", torch.square, value, op="square")
    spread = here.call("sum", lambda v: v.mean(dims, keepdim=True), squared, op="mean")
    number = here.constant(eps)
    spread = here.call("sum", lambda v: v, spread, op="add", additive=(number,))
    under = here.call("normalisation", torch.rsqrt, spread, op="rsqrt")
    kind, degree = product_kind(here, (value, under), "sum")
    return _given(here, last, kind, torch.mul, value, under, degree)


@lowering("layer_norm", "native_layer_norm")
def layer_norm(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """LayerNorm over the last axes."""
    given = named(here, args, kwargs)
    axes = range(-len(given["normalized_shape"]), 0)
    _normalise(here, given["input"], axes, given["eps"], given["weight"], given["bias"], lambda value: value)


@lowering("rms_norm", "_fused_rms_norm")
def rms_norm(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """RMSNorm over the last axes."""
    given = named(here, args, kwargs)
    eps = given["eps"]
    if eps is None:
        eps = torch.finfo(here.node.meta["val"].dtype).eps
    axes = range(-len(given["normalized_shape"]), 0)
    _normalise(here, given["input"], axes, eps, given["weight"], None, lambda value: value, centred=False)


@lowering("group_norm", "instance_norm")
def group_norm(here: Lowering, args: Arguments, kwargs: Options) -> None:
    """Group norm as a normalisation of (rows, groups, the rest), and instance norm, whose groups are channels."""
    given = named(here, args, kwargs)
    value = given["input"]
    if here.op == "instance_norm" and not given["use_input_stats"]:
        here.finish("unknown", own(here), *args, kwargs=kwargs)
        return
    groups = given.get("num_groups")
    shape = here.call("shape", lambda v: v.shape, value, op="shape")
    split = here.call("movement", lambda v: v.reshape(v.shape[0], groups or v.shape[1], -1), value, op="split")
    program = here.program
    inner = Lowering(program, here.node, Intermediate(f"{here.node.name}.normed"), here.op)
    _normalise(inner, split, [2], given["eps"], None, None, None)
    whole = here.call("movement", lambda v, s: v.reshape(s), inner.key, shape, op="joined", operands=(inner.key,))
    lay = by_axis(0, rank(value) - 2)
    weight, bias = given["weight"], given["bias"]
    additive = () if bias is None else (here.constant(bias, lay),)
    if weight is None:
        here.finish("sum", lambda v: v, whole, additive=additive)
    else:
        here.finish("sum", lambda v, w: v * lay(w), whole, weight, additive=additive)
