"""Everything of a user's that a library could harm, to the bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")


def bits(tensor: Tensor) -> tuple[Any, ...]:
    """A tensor's type, shape and bytes, so that NaN equals NaN and 0.0 differs from -0.0."""
    if tensor.is_meta:
        return (tensor.dtype, tuple(tensor.shape))
    held = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return (tensor.dtype, tuple(tensor.shape), held.numpy().tobytes())


def same(left: nn.Module, right: nn.Module) -> bool:
    a, b = left.state_dict(), right.state_dict()
    return list(a) == list(b) and all(bits(a[name]) == bits(b[name]) for name in a)


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return (id(value), bits(value))
    if isinstance(value, (list, tuple)):
        return (type(value), id(value) if isinstance(value, list) else 0, [_plain(item) for item in value])
    if isinstance(value, dict):
        return (id(value), [(key, _plain(item)) for key, item in value.items()])
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    return id(value)


def facts_of(module: nn.Module) -> dict[str, Any]:
    """The facts of a module by name."""
    facts: dict[str, Any] = {}
    for name, each in module.named_modules(remove_duplicate=False):
        facts[f"module {name}"] = (id(each), type(each))
        facts[f"mode {name}"] = each.training
        for table in HOOKS:
            facts[f"{table} {name}"] = [(key, id(hook)) for key, hook in getattr(each, table).items()]
        for key, value in vars(each).items():
            if key not in ("_parameters", "_buffers", "_modules", *HOOKS):
                facts[f"attribute {name}.{key}"] = _plain(value)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        facts[f"parameter {name}"] = (id(parameter), parameter.requires_grad, bits(parameter))
        gradient = parameter.grad
        facts[f"gradient {name}"] = None if gradient is None else (id(gradient), bits(gradient))
    for name, buffer in module.named_buffers(remove_duplicate=False):
        facts[f"buffer {name}"] = (id(buffer), bits(buffer))
    return facts


def settings() -> dict[str, Any]:
    """What is global in torch and Python."""
    return {
        "torch's random numbers": bits(torch.get_rng_state()),
        "Python's random numbers": random.getstate(),
        "numpy's random numbers": np.random.get_state()[1].tobytes(),
        "gradient mode": torch.is_grad_enabled(),
        "default type": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "attention's fast path": torch.backends.mha.get_fastpath_enabled(),
    }


def files_of(folder: Path) -> dict[str, bytes | None]:
    """The content of every file below a folder, by path; None for folders."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


class Unharmed:
    """`with unharmed(model, folder, tensor):` compares all of it before and after, whether an error passes or not."""

    @contextmanager
    def __call__(self, *things: nn.Module | Path | Tensor) -> Iterator[None]:
        before = [self._facts(thing) for thing in things]
        around = settings()
        try:
            yield
        finally:
            after = [self._facts(thing) for thing in things]
            for old, new in [*zip(before, after, strict=True), (around, settings())]:
                changed = [key for key in {**old, **new} if old.get(key, "absent") != new.get(key, "absent")]
                assert not changed, f"not as before: {changed}"

    @staticmethod
    def _facts(thing: nn.Module | Path | Tensor) -> dict[str, Any]:
        if isinstance(thing, nn.Module):
            return facts_of(thing)
        if isinstance(thing, Path):
            return dict(files_of(thing))
        return {"tensor": bits(thing)}
