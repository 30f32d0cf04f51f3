"""Tensors that a forward can reach and that are not registered in its module."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor


def unregistered(module: nn.Module) -> dict[int, str]:
    """{address: name} of tensors that forward can reach and that are not registered: plain attributes, and those in
    Python lists and dicts of modules, which should be nn.ModuleList and nn.ModuleDict."""
    found: dict[int, str] = {}

    def walk(value: Any, name: str, depth: int) -> None:
        if isinstance(value, Tensor):
            if value.device.type != "meta" and not isinstance(value, FakeTensor):
                found.setdefault(value.data_ptr(), name)
        elif isinstance(value, nn.Module):
            for path, tensor in [*value.named_parameters(), *value.named_buffers()]:
                walk(tensor, f"{name}.{path}", depth)
        elif isinstance(value, (list, tuple)) and depth < 3:
            for place, item in enumerate(value):
                walk(item, f"{name}[{place}]", depth + 1)
        elif isinstance(value, dict) and depth < 3:
            for key, item in value.items():
                walk(item, f"{name}[{key!r}]", depth + 1)

    for path, owner in module.named_modules():
        for attribute, value in vars(owner).items():
            if not attribute.startswith("_") and isinstance(value, (Tensor, list, tuple, dict)):
                walk(value, f"{path}.{attribute}".removeprefix("."), 0)
    return found
