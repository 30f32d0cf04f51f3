"""Recording which numbers of a module, and of the objects that it holds, its forward reads."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

Reads = dict[tuple[str, str], tuple[type, Any]]
"""{(path, attribute): the class that it was read from, and the value}."""


class Recording:
    """A context in which every int and tuple of ints that is read from a module, or from an object that it holds, is
    recorded."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._changed: list[tuple[Any, type]] = []
        self._reads: Reads = {}

    def __enter__(self) -> tuple[nn.Module, Reads]:
        for path, each in self._module.named_modules():
            if not type(each).__module__.startswith("torch.nn.modules"):
                self._record(each, type(each), [(path, "")])
            held: dict[int, tuple[Any, list[tuple[str, str]]]] = {}
            for name, value in vars(each).items():
                if _holds_numbers(value):
                    held.setdefault(id(value), (value, []))[1].append((path, f"{name}."))
            for value, places in held.values():
                self._record(value, type(each), places)
        return self._module, self._reads

    def __exit__(self, *_: object) -> None:
        for value, kind in self._changed:
            object.__setattr__(value, "__class__", kind)

    def _record(self, value: Any, owner: type, places: list[tuple[str, str]]) -> None:
        kind, reads = type(value), self._reads
        known = getattr(kind, "_deadhead_places", None)
        if known is not None and kind.__dict__.get("_deadhead_object") is value:
            known.extend(places)
            return

        def read(self: Any, name: str) -> Any:
            found: Any = kind.__getattribute__(self, name)  # type: ignore[call-arg]
            if not name.startswith("_") and _is_number(found) and not isinstance(getattr(kind, name, None), property):
                for path, prefix in type(self)._deadhead_places:
                    reads.setdefault((path, prefix + name), (owner, found))
            return found

        body = {
            "__getattribute__": read,
            "_deadhead_places": list(places),
            "_deadhead_object": value,
            "__module__": kind.__module__,
        }
        try:
            object.__setattr__(value, "__class__", type(kind.__name__, (kind,), body))
        except TypeError:  # a class whose objects cannot change theirs: its numbers stay unknown
            return
        self._changed.append((value, kind))


def _holds_numbers(value: Any) -> bool:
    """Whether a module's attribute is an object of a user's class, such as a configuration."""
    if isinstance(value, (nn.Module, Tensor, type)) or not hasattr(value, "__dict__") or callable(value):
        return False
    return not type(value).__module__.startswith(("torch", "builtins", "collections"))


def _is_number(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return 0 < len(value) <= 16 and all(_is_number(item) and isinstance(item, int) for item in value)
    return isinstance(value, int) and not isinstance(value, bool)
