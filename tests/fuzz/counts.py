"""Numbers that a forward reads: as attributes, from a configuration that modules may share, from a tuple, or hidden."""

from __future__ import annotations

import random
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from parts import Part, State

HOLDERS = (
    "attribute",
    "attribute",
    "config",
    "tuple",
    "list",
    "size",
    "derived",
    "namespace",
    "frozen",
    "dict",
    "hidden",
)
UNFOLLOWED = ("namespace", "frozen", "dict", "hidden")
"""Where the class cannot be told another number."""


class Config:
    """What transformers call a configuration: numbers under names."""

    def __init__(self, **numbers: int) -> None:
        vars(self).update(numbers)


@dataclass(frozen=True)
class Frozen:
    """A configuration that nobody may write to."""

    heads: int = 0
    width: int = 0
    size: int = 0
    layers: int = 0


class Counting(Part):
    """A part whose forward asks `self.number("heads")`. Hidden numbers stand for literals: no cut can follow."""

    holder: str = "attribute"

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.order: tuple[str, ...] = ()

    def hold(self, dice: random.Random, **numbers: int) -> None:
        """Keep the numbers in one of the ways."""
        self.holder = dice.choice(HOLDERS)
        self.order = tuple(numbers)
        self.rigid = self.holder in UNFOLLOWED
        if self.holder in ("attribute", "derived"):
            for name, value in numbers.items():
                setattr(self, name, value)
        elif self.holder in ("tuple", "list", "size"):
            kind: Any = {"tuple": tuple, "list": list, "size": torch.Size}[self.holder]
            self.sizes = kind(numbers.values())
        elif self.holder == "dict":
            self.numbers = dict(numbers)
        elif self.holder == "hidden":
            self.literals = {name: str(value) for name, value in numbers.items()}
        else:
            kinds: dict[str, Any] = {"config": Config, "namespace": SimpleNamespace, "frozen": Frozen}
            self.config = kinds[self.holder](**numbers)

    def number(self, name: str) -> int:
        """The number under its name."""
        if self.holder == "derived" and name == "width" and "size" in self.order:
            return self.size // self.heads  # type: ignore[no-any-return]
        if self.holder in ("attribute", "derived"):
            return getattr(self, name)  # type: ignore[no-any-return]
        if self.holder in ("tuple", "list", "size"):
            return self.sizes[self.order.index(name)]
        if self.holder == "dict":
            return self.numbers[name]
        if self.holder == "hidden":
            return int(self.literals[name])
        return getattr(self.config, name)  # type: ignore[no-any-return]
