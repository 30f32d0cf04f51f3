"""Normalisations over the units that are open: what LayerNorm, RMSNorm and statistics over an axis compute without the
entries that a cut removes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.graph.graph import Around
from deadhead.graph.nodes import named_arguments, op_name


def renormalised(node: fx.Node, weights: Callable[[Tensor], Tensor]) -> Around:
    """A normalisation in which every entry counts with a weight: 1 for open units, 0 for closed ones.

    Where all weights are 1 it is the node's own function. `weights(value)` gives them, in a shape that broadcasts with
    the value. The mean is `m = sum_k w_k x_k / sum_k w_k`, the variance `sum_k w_k (x_k - m)^2 / sum_k w_k`.
    """

    def around(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        value = args[0]
        counts = weights(value)
        if not counts.requires_grad and bool((counts == 1).all()):
            return function(*args, **kwargs)
        name = op_name(node)
        wide = torch.promote_types(value.dtype, torch.float32)
        return RULES[name](named_arguments(node, args, kwargs), value.to(wide), counts.to(wide), value.dtype)

    return around


def _moments(value: Tensor, counts: Tensor, dims: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, sum of squared deviations and count over `dims`, which remain as axes of size 1."""
    counts = counts.expand_as(value)
    number = counts.sum(dims, keepdim=True)
    mean = (value * counts).sum(dims, keepdim=True) / number
    return mean, ((value - mean).square() * counts).sum(dims, keepdim=True), number


def _layer_norm(given: dict[str, Any], value: Tensor, counts: Tensor, dtype: torch.dtype) -> Any:
    mean, squares, number = _moments(value, counts, [-1])
    result = (value - mean) * torch.rsqrt(squares / number + given["eps"])
    return _affine(result, given).to(dtype)


def _native_layer_norm(given: dict[str, Any], value: Tensor, counts: Tensor, dtype: torch.dtype) -> Any:
    mean, squares, number = _moments(value, counts, [-1])
    return _layer_norm(given, value, counts, dtype), mean, torch.rsqrt(squares / number + given["eps"])


def _rms_norm(given: dict[str, Any], value: Tensor, counts: Tensor, dtype: torch.dtype) -> Any:
    eps = torch.finfo(dtype).eps if given["eps"] is None else given["eps"]
    mean = (value.square() * counts).sum(-1, keepdim=True) / counts.expand_as(value).sum(-1, keepdim=True)
    return _affine(value * torch.rsqrt(mean + eps), given).to(dtype)


def _affine(result: Tensor, given: dict[str, Any]) -> Tensor:
    weight, bias = given.get("weight"), given.get("bias")
    result = result if weight is None else result * weight.to(result)
    return result if bias is None else result + bias.to(result)


def _dims(given: dict[str, Any], value: Tensor) -> list[int]:
    dims = given.get("dim")
    if dims is None or dims == []:
        return list(range(value.dim()))
    return list(dims) if isinstance(dims, (list, tuple)) else [dims]


def _shaped(result: Tensor, given: dict[str, Any], dims: list[int], dtype: torch.dtype) -> Tensor:
    return (result if given.get("keepdim") else result.squeeze([d % result.dim() for d in dims])).to(dtype)


def _mean(given: dict[str, Any], value: Tensor, counts: Tensor, dtype: torch.dtype) -> Any:
    dims = _dims(given, value)
    return _shaped(_moments(value, counts, dims)[0], given, dims, given.get("dtype") or dtype)


def _var_mean(given: dict[str, Any], value: Tensor, counts: Tensor, dtype: torch.dtype) -> Any:
    dims = _dims(given, value)
    mean, squares, number = _moments(value, counts, dims)
    correction = given.get("correction")
    if correction is None:
        correction = 1 if given.get("unbiased", True) in (True, None) else 0
    return _shaped(squares / (number - correction), given, dims, dtype), _shaped(mean, given, dims, dtype)


def _std_mean(given: dict[str, Any], value: Tensor, counts: Tensor, dtype: torch.dtype) -> Any:
    variance, mean = _var_mean(given, value, counts, dtype)
    return variance.sqrt(), mean


RULES: dict[str, Callable[[dict[str, Any], Tensor, Tensor, torch.dtype], Any]] = {
    "layer_norm": _layer_norm,
    "native_layer_norm": _native_layer_norm,
    "rms_norm": _rms_norm,
    "mean": _mean,
    "var": lambda *given: _var_mean(*given)[0],
    "std": lambda *given: _std_mean(*given)[0],
    "var_mean": _var_mean,
    "std_mean": _std_mean,
}
"""How each op normalises where entries have weights, by the op's name."""
