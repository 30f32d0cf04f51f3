"""Layouts of nodes that multiply by a weight: the weight as a matrix, what the node reads as columns, its result as
outputs. Whatever the op, `weight matrix @ columns` is the result without its bias."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from deadhead.graph.catalogue import Op, op_of
from deadhead.graph.nodes import listed_nodes, operand, where
from deadhead.graph.units.groups import Site
from deadhead.graph.units.labels import Product
from deadhead.graph.units.windows import Window, is_convolution, is_transposed, steps_of, unfold, window_of


@dataclass(frozen=True)
class Arrangement:
    """A weight as a matrix (groups, outputs, columns).

    Attributes:
        split: the shape that the weight is reshaped to, each axis of one of three kinds.
        group: the axes of groups.
        output: the axes of outputs.
        column: the axes of columns.
        flipped: the axes that run backwards.
    """

    split: tuple[int, ...]
    group: tuple[int, ...]
    output: tuple[int, ...]
    column: tuple[int, ...]
    flipped: tuple[int, ...] = ()

    @property
    def groups(self) -> int:
        """The number of groups."""
        return math.prod(self.split[axis] for axis in self.group)

    @property
    def outputs(self) -> int:
        """The number of outputs of one group."""
        return math.prod(self.split[axis] for axis in self.output)

    @property
    def columns(self) -> int:
        """The number of columns of one group."""
        return math.prod(self.split[axis] for axis in self.column)

    @property
    def _order(self) -> tuple[int, ...]:
        return (*self.group, *self.output, *self.column)

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as (groups, outputs, columns)."""
        parts = weight.reshape(self.split)
        parts = parts.flip(self.flipped) if self.flipped else parts
        return parts.permute(self._order).reshape(self.groups, self.outputs, self.columns)

    def weight_of(self, matrix: Tensor, shape: Sequence[int]) -> Tensor:
        """The weight of this shape that such a matrix stands for."""
        order = self._order
        parts = matrix.reshape([self.split[axis] for axis in order])
        parts = parts.permute([order.index(axis) for axis in range(len(order))])
        parts = parts.flip(self.flipped) if self.flipped else parts
        return parts.reshape(tuple(shape)).contiguous()

    def along(self, entries: Tensor, axis: int, shape: Sequence[int]) -> Tensor:
        """The entry of each column of the first group, of `entries` along an axis of a weight of this shape."""
        laid = entries.reshape([-1 if each == axis else 1 for each in range(len(shape))]).expand(tuple(shape))
        parts = laid.reshape(self.split).permute(self._order)
        return parts[(0,) * (len(self.group) + len(self.output))].reshape(-1)


@dataclass(frozen=True)
class Layout(ABC):
    """How one node lays out its weight, what it reads and what it gives."""

    arrangement: Arrangement

    @abstractmethod
    def columns(self, value: Tensor, turn: int | None = None) -> Tensor:
        """What each output reads at each sample and position: (groups, samples and positions, columns).

        With `turn` given, a wide convolution is read on a grid of positions only, another grid for each turn.
        """

    def total(self, value: Tensor) -> tuple[Tensor, int]:
        """The sum of each column over samples and positions, (groups, columns), float64, and how many these are."""
        columns = self.columns(value)
        return columns.sum(1, dtype=torch.float64), columns.shape[1]

    @abstractmethod
    def outputs(self, made: Tensor) -> Tensor:
        """The node's result, or a gradient there: (groups, samples and positions, outputs)."""

    @abstractmethod
    def spread(self, constant: Tensor) -> Tensor:
        """A constant (groups * outputs,) in a shape that can be added to the node's result."""

    @abstractmethod
    def channels(self, dim: int) -> int | None:
        """The axis along which all groups and outputs lie in the node's result; None where there are several."""


@dataclass(frozen=True)
class ProductLayout(Layout):
    """A product of two tensors, by the letters of its axes."""

    product: Product

    def _letters(self, axes: Sequence[int]) -> list[str]:
        return [self.product.weight[axis] for axis in axes]

    def columns(self, value: Tensor, turn: int | None = None) -> Tensor:
        letters = self.product.value
        group, column = self._letters(self.arrangement.group), self._letters(self.arrangement.column)
        summed = [
            axis for axis, letter in enumerate(letters) if letter and letter not in (*self.product.result, *column)
        ]
        value = value.sum(summed, keepdim=True) if summed else value
        rows = [letter for letter in self.product.result if letter in letters and letter not in group]
        first = [letters.index(letter) for letter in (*group, *rows, *column)]
        rest = [axis for axis in range(len(letters)) if axis not in first]  # of size one
        return value.permute(*first, *rest).reshape(self.arrangement.groups, -1, self.arrangement.columns)

    def outputs(self, made: Tensor) -> Tensor:
        letters = self.product.result
        group, output = self._letters(self.arrangement.group), self._letters(self.arrangement.output)
        rows = [letter for letter in letters if letter not in (*group, *output)]
        order = [letters.index(letter) for letter in (*group, *rows, *output) if letter]
        return made.permute(order).reshape(self.arrangement.groups, -1, self.arrangement.outputs)

    def spread(self, constant: Tensor) -> Tensor:
        axes = [a for a in (*self.arrangement.group, *self.arrangement.output) if self.product.weight[a]]
        sizes = {self.product.weight[axis]: self.arrangement.split[axis] for axis in axes}
        letters = self.product.result
        parts = constant.reshape(list(sizes.values()))
        ranks = sorted(range(len(sizes)), key=lambda place: letters.index(list(sizes)[place]))
        return parts.permute(ranks).reshape([sizes.get(letter, 1) for letter in letters])

    def channels(self, dim: int) -> int | None:
        letters = [each for each in self._letters((*self.arrangement.group, *self.arrangement.output)) if each]
        return self.product.result.index(letters[0]) if len(letters) == 1 else None


@dataclass(frozen=True)
class ConvolutionLayout(Layout):
    """A convolution, plain or transposed."""

    window: Window

    def columns(self, value: Tensor, turn: int | None = None) -> Tensor:
        rank = len(self.window.kernel)
        value = value[None] if value.dim() == rank + 1 else value
        steps = [1] * rank
        if turn is not None:
            spread = self.window.spread
            sizes = [size * s for size, s in zip(value.shape[2:], spread or [1] * rank, strict=True)]
            steps = steps_of(self.arrangement.outputs, self.arrangement.columns, sizes, spread)
        return unfold(value, self.window, steps, turn or 0)

    def total(self, value: Tensor) -> tuple[Tensor, int]:
        """As above; columns are linear in the activation, so that its sum over the batch stands for all samples."""
        batched = value.dim() > len(self.window.kernel) + 1
        columns = self.columns(value.sum(0, keepdim=True, dtype=torch.float64) if batched else value.double())
        return columns.sum(1), columns.shape[1] * (len(value) if batched else 1)

    def outputs(self, made: Tensor) -> Tensor:
        rows = made.movedim(self.channels(made.dim()), -1)
        return rows.reshape(-1, self.arrangement.groups, self.arrangement.outputs).movedim(1, 0)

    def spread(self, constant: Tensor) -> Tensor:
        return constant.reshape(-1, *[1] * len(self.window.kernel))

    def channels(self, dim: int) -> int:
        return dim - len(self.window.kernel) - 1


def layout_of(site: Site, shape: Sequence[int]) -> Layout | str:
    """The layout of the node that reads units at a site with a weight of this shape, or why it has none."""
    node, family = site.node, op_of(site.node).family
    if is_convolution(node):
        return _of_convolution(node, tuple(shape)) if site.position == 0 else f"{where(node)} slides the units over it"
    if family == "grouped product":
        return f"each expert reads rows of its own in {where(node)}, which is not compensated"
    if family != "product":
        return f"{where(node)} is neither a convolution nor a plain product with it"
    if site.product is None:
        return f"{where(node)} multiplies more than two tensors at once"
    if any(node.kwargs.get(key, 1) != 1 for key in ("alpha", "beta")):
        return f"{where(node)} scales what it adds"
    product = site.product
    own, read, given = (set(each) - {""} for each in (product.weight, product.value, product.result))
    if own - read - given:
        return f"{where(node)} sums the weight over an axis that the units do not lie along"
    kinds: tuple[list[int], list[int], list[int]] = ([], [], [])
    for axis, letter in enumerate(product.weight):
        kinds[0 if letter in read & given else 2 if letter in read else 1].append(axis)
    return ProductLayout(Arrangement(tuple(shape), *(tuple(axes) for axes in kinds)), product)


def _of_convolution(node: fx.Node, shape: tuple[int, ...]) -> Layout:
    window = window_of(node, shape)
    split = (window.groups, shape[0] // window.groups, *shape[1:])
    taps = tuple(range(3, len(split)))
    out, into = (2, 1) if is_transposed(node) else (1, 2)
    return ConvolutionLayout(Arrangement(split, (0,), (out,), (into, *taps), taps if window.spread else ()), window)


def has_matrix(op: Op) -> bool:
    """Whether an op is a convolution, or a product of two tensors and no more."""
    return bool(op.options) or op.family == "product"


def operands_of(node: fx.Node) -> dict[int, fx.Node]:
    """The tensors that a convolution or a product multiplies, by position; none for other ops."""
    op = op_of(node)
    if not has_matrix(op):
        return {}
    if op.name == "einsum":
        return dict(enumerate(listed_nodes(node, 1), 1))
    return {place: operand(node, place) for place in op.operands}


def bias_of(node: fx.Node) -> fx.Node | None:
    """What a node adds to the product, where that is a tensor."""
    op = op_of(node)
    place = op.bias
    if place is None or not has_matrix(op):
        return None
    bias = node.args[place] if len(node.args) > place else node.kwargs.get("bias")
    return bias if isinstance(bias, fx.Node) else None


def fits(layout: Layout, bias: Tensor) -> bool:
    """Whether a constant can be added, entry by entry, to the bias of the node."""
    count = layout.arrangement.groups * layout.arrangement.outputs
    if isinstance(layout, ConvolutionLayout):
        return tuple(bias.shape) == (count,)
    return _without_ones(bias.shape) == _without_ones(layout.spread(torch.empty(count, device="meta")).shape)


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    first = next((axis for axis, size in enumerate(shape) if size != 1), len(shape))
    return tuple(shape[first:])
