"""What labels are attached to: axes of a tensor in blocks, the reasons why other axes have none, and places where ops
meet them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import fx

from deadhead.graph.units.union_find import Array

INSIDE = "it lies inside a unit"
UNIFORM = "it is the same all along"
"""The reason for an axis without labels that does not fix others: what is broadcast or filled there fits any size."""


@dataclass(frozen=True)
class Block:
    """Labels that `axes` (ascending) carry together: `labels` has one axis for each of them."""

    axes: tuple[int, ...]
    labels: Array


@dataclass(frozen=True)
class Value:
    """The labels of one tensor.

    Attributes:
        shape: its sizes.
        blocks: the labels of the axes that have some.
        why: for each axis the reason why it has none; empty where it has.
    """

    shape: tuple[int, ...]
    blocks: tuple[Block, ...] = ()
    why: tuple[str, ...] = ()

    def block_of(self, axis: int) -> Block | None:
        """The block that an axis is in; None where it has no labels."""
        return next((block for block in self.blocks if axis in block.axes), None)


@dataclass(frozen=True)
class Product:
    """An einsum of an activation with a parameter, as a letter for each axis; an empty one for an axis of size one that
    is broadcast, and for every axis of size one of the parameter.

    Attributes:
        value: the letters of the activation.
        weight: those of the parameter, in the order of its own axes.
        result: those of the result.
    """

    value: tuple[str, ...]
    weight: tuple[str, ...]
    result: tuple[str, ...]


@dataclass(frozen=True)
class Contact:
    """A place where a contraction meets labels.

    Attributes:
        node: the node.
        position: the argument, counted with lists taken apart; -1 for the result.
        axis: the axis of that argument.
        labels: the labels along it.
        weight: the parameter that it is contracted with; None where that is an activation, or made of a parameter.
        weight_axis: the axis of that parameter.
        among: how many units must remain because the node chooses among them (softmax, topk), and a closed gate means
            minus infinity; 0 where it does not.
        product: the contraction, where it is one of two operands and `weight` the other.
    """

    node: fx.Node
    position: int
    axis: int
    labels: Array
    weight: str | None
    weight_axis: int | None
    among: int = 0
    product: Product | None = None


@dataclass(frozen=True)
class Aligned:
    """The result of `Labels.align`.

    Attributes:
        blocks: {letter with labels: (the letters of its block, the block's labels)}.
        reasons: {other letter: why it is fixed}.
    """

    blocks: dict[str, tuple[tuple[str, ...], Array]]
    reasons: dict[str, str]


def segments_of(old: tuple[int, ...], new: tuple[int, ...]) -> Iterable[tuple[list[int], list[int]]]:
    """Smallest runs of old and new axes with the same number of entries, in order; axes of size one stand alone."""
    i = j = 0
    while i < len(old) or j < len(new):
        if i < len(old) and old[i] == 1 and not (j < len(new) and new[j] == 1):
            yield [i], []
            i += 1
            continue
        if j < len(new) and new[j] == 1 and not (i < len(old) and old[i] == 1):
            yield [], [j]
            j += 1
            continue
        left, right = [i], [j]
        a, b = old[i], new[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a *= old[i]
                left.append(i)
                i += 1
            else:
                b *= new[j]
                right.append(j)
                j += 1
        yield left, right
