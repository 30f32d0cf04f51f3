"""Tensors in and out of whatever containers a model takes and returns: tuples, dicts, dataclasses, model outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class _Slot:
    """Where a tensor stood."""

    index: int


@dataclasses.dataclass(frozen=True)
class Structure:
    """A container without its tensors; `fill` puts others in."""

    template: Any
    count: int

    def fill(self, tensors: list[Tensor] | tuple[Tensor, ...]) -> Any:
        """The container with these tensors in their order."""
        if len(tensors) != self.count:
            raise ValueError(f"expected {self.count} tensors, got {len(tensors)}")
        return _fill(self.template, tensors)


def take(value: Any, *, opaque: bool = False) -> tuple[list[Tensor], Structure]:
    """Split a container into its tensors, in order, and the structure around them.

    Args:
        value: nested tuples, lists, mappings and dataclasses; a tensor alone is one too.
        opaque: whether objects that are neither a tensor nor a container nor a number become None in the structure (a
            cache in a model's output, say).

    Example:
        >>> tensors, structure = take({"x": torch.ones(2), "n": 3})
        >>> structure.fill([torch.zeros(1)])
        {'x': tensor([0.]), 'n': 3}
    """
    tensors: list[Tensor] = []
    template = _take(value, tensors, opaque)
    return tensors, Structure(template, len(tensors))


def _take(value: Any, tensors: list[Tensor], opaque: bool) -> Any:
    if isinstance(value, Tensor):
        tensors.append(value)
        return _Slot(len(tensors) - 1)
    return _rebuild(value, lambda item: _take(item, tensors, opaque), opaque)


def _fill(template: Any, tensors: list[Tensor] | tuple[Tensor, ...]) -> Any:
    if isinstance(template, _Slot):
        return tensors[template.index]
    return _rebuild(template, lambda item: _fill(item, tensors), opaque=False)


def _rebuild(value: Any, convert: Any, opaque: bool) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(convert(item) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(convert(item) for item in value)
    if isinstance(value, Mapping):
        items = {key: convert(item) for key, item in value.items()}
        if type(value) is dict:
            return items
        try:
            return type(value)(**items)
        except TypeError:
            return type(value)(items)  # type: ignore[call-arg]
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, _Slot)):
        return dataclasses.replace(
            value, **{f.name: convert(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        )
    if opaque and not isinstance(value, (str, int, float, bool, complex, torch.dtype, torch.device)):
        return None
    return value


@dataclasses.dataclass(frozen=True)
class Call:
    """Positional and keyword arguments, as one value."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def as_call(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments that `inputs` stands for: a mapping is keywords, a tuple or list is
    positional, anything else is the one argument."""
    if isinstance(inputs, Call):
        return inputs.args, inputs.kwargs
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    return (inputs,), {}
