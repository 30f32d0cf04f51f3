"""The operations of a program: one op each, with its operands by the role that they play for relevance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, fx

from deadhead.graph.nodes import module_path

CONSTANT, DETACHED, INDICES, LIVE = "constant", "detached", "indices", "live"
"""What a value is: independent of the inputs; dependent, but outside of relevance; moved input ids; carrying it."""


Key: TypeAlias = "fx.Node | Intermediate"


class Intermediate:
    """A value inside a node that is split into several operations; `origin` is the constant that it is made of."""

    def __init__(self, name: str, origin: Key | None = None) -> None:
        self.name = name
        self.origin = origin

    def __repr__(self) -> str:
        return self.name


def mapped(value: Any, convert: Callable[[Any], Any]) -> Any:
    """Nested arguments with their keys converted, inside lists, tuples and dicts too.

    >>> mapped([Intermediate("a"), 2], str)
    ['a', 2]
    """
    if isinstance(value, (fx.Node, Intermediate)):
        return convert(value)
    if isinstance(value, (list, tuple)):
        return type(value)([mapped(each, convert) for each in value])
    if isinstance(value, dict):
        return {key: mapped(each, convert) for key, each in value.items()}
    return value


def keys_in(value: Any) -> Iterator[Key]:
    """The keys in nested arguments, in order.

    >>> list(keys_in([Intermediate("a"), 2, {"other": Intermediate("b")}]))
    [a, b]
    """
    if isinstance(value, (fx.Node, Intermediate)):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from keys_in(each)
    elif isinstance(value, dict):
        yield from keys_in(list(value.values()))


@dataclass(frozen=True, eq=False)
class Additive:
    """A constant that an operation adds to what its function gives, such as a bias.

    Args:
        source: the key of the constant, or a number.
        name: the name under which its relevance is reported.
        place: a function that lays its value out as it is added.
        learned: whether it is made of a parameter or buffer (default True).
    """

    source: Any
    name: str
    place: Callable[[Tensor], Tensor]
    learned: bool = True


@dataclass(eq=False)
class Operation:
    """One op: `key = function(*args, **kwargs) + additive`, of a kind that says which rules may stand there.

    Args:
        key: the value that it gives.
        node: the node of the graph that it comes from.
        op: the name of the op.
        kind: what a composite gives rules to; empty for an operation that is only computed.
        function: what computes it, without the constants that are added.
        args: its arguments, with keys for values.
        kwargs: its keyword arguments.
        additive: the constants that are added, such as a bias.
        live: the operands that carry relevance.
        detached: the operands that depend on the inputs and carry none.
        fixed: the operands that do not depend on the inputs.
        degree: how many operands share the relevance of a product.
        fused: a function that computes all of it at once, from the constants' sources and the arguments.
    """

    key: Key
    node: fx.Node
    op: str
    kind: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    additive: tuple[Additive, ...] = ()
    live: tuple[Key, ...] = ()
    detached: tuple[Key, ...] = ()
    fixed: tuple[Key, ...] = ()
    degree: int = 1
    fused: Callable[..., Any] | None = None

    @property
    def path(self) -> str:
        """The module that the op comes from."""
        return module_path(self.node)

    @property
    def where(self) -> str:
        """The op and its module, for errors."""
        return f"{self.op} in {self.path}" if self.path else self.op

    @property
    def name(self) -> str:
        """The module of the op, or its node where there is none."""
        return self.path or str(self.key)

    @property
    def has_weights(self) -> bool:
        """Whether it is a layer with weights: linear or convolutional."""
        return self.kind in ("linear", "convolution")


def is_key(value: Any) -> bool:
    """Whether an argument stands for a value of the program.

    >>> is_key(Intermediate("a")), is_key(2)
    (True, False)
    """
    return isinstance(value, (fx.Node, Intermediate))
