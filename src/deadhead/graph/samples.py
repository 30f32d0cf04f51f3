"""Where the samples of a batch lie in a tensor: sums, copies and choices by sample, and how the place is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.graph.graph import Edits, Graph
from deadhead.graph.trace import batch_size, rows_of
from deadhead.graph.units.groups import Units

COUNT, CHANGED = 3, 1
"""How many samples are looked at, and which of them is changed."""


@dataclass(frozen=True)
class SampleLayout:
    """Where the samples of a batch lie in a tensor: along one axis, alone or merged with something inside them.

    In a merged axis each sample has as many entries (positions, heads) as the axis is longer than the batch: side by
    side, entry i of sample `i // inside`, or with `inner` samples inside, entry i of sample `i % samples`. A tensor of
    which it is not known which entries belong to which sample has no layout: None stands for it.

    Args:
        axis: the axis along which the samples lie, counted from 0.
        inner: whether that axis counts something times samples; samples times something by default.

    Example:
        >>> tokens = torch.arange(12.0).reshape(6, 2)  # 2 samples of 3 positions each, flattened: 2 features
        >>> SampleLayout(0).sum(tokens, samples=2)
        tensor([15., 51.])
        >>> SampleLayout(0, inner=True).sum(tokens, samples=2, keep=1)
        tensor([[12., 15.],
                [18., 21.]])
        >>> SampleLayout(1).spread(torch.tensor([1.0, 2.0]), like=torch.zeros(3, 4))
        tensor([[1., 1., 2., 2.]])
    """

    axis: int = 0
    inner: bool = False

    def fits(self, value: Tensor, samples: int) -> bool:
        """Whether so many samples can lie in a tensor in this way."""
        return value.dim() > self.axis and value.shape[self.axis] % samples == 0

    def size(self, value: Tensor, inside: int = 1) -> int:
        """The number of samples in a tensor, where each has `inside` entries along the axis."""
        return value.shape[self.axis] // inside

    def split(self, value: Tensor, samples: int) -> Tensor:
        """`value` with the axis as two: samples and what is inside them, or with `inner` the other way round."""
        return _split(value, self.axis, samples, self.inner)

    def first(self, value: Tensor, samples: int) -> Tensor:
        """`value` with the samples first, as (samples, inside, the other axes in their order)."""
        places = (self.axis + 1, self.axis) if self.inner else (self.axis, self.axis + 1)
        return self.split(value, samples).movedim(places, (0, 1))

    def sum(self, value: Tensor, samples: int, keep: int | None = None) -> Tensor:
        """The sum over everything but the sample, and the axis `keep` where it is given (another than the samples').

        Returns: shape (samples,), or (samples, n) where `keep` has n entries.
        """
        first = self.first(value, samples)
        if keep is None:
            return first.flatten(1).sum(1)
        keep %= value.dim()
        return first.movedim(keep + 2 if keep < self.axis else keep + 1, -1).flatten(1, -2).sum(1)

    def spread(self, vectors: Tensor, like: Tensor, keep: int | None = None) -> Tensor:
        """What there is for each sample, laid out so that it broadcasts with a tensor of this layout.

        Args:
            vectors: a number for each sample, shape (samples,), or a vector for each, (samples, n).
            like: a tensor in which the samples lie in this way.
            keep: the axis of `like` along which the vectors of n entries lie; None for numbers.

        Returns: a tensor with as many axes as `like`, of size 1 along all others.
        """
        inside = like.shape[self.axis] // len(vectors)
        each = [1] * (vectors.dim() - 1)
        long = vectors.repeat(inside, *each) if self.inner else vectors.repeat_interleave(inside, 0)
        shape = [1] * like.dim()
        shape[self.axis] = len(long)
        if keep is not None:
            keep %= like.dim()
            shape[keep] = vectors.shape[1]
            long = long.T if keep < self.axis else long
        return long.reshape(shape)

    def join(self, copies: Tensor, samples: int) -> Tensor:
        """Several tensors of one batch, (copies, *shape), as that of one batch of `copies * samples`, copy by copy."""
        if not self.inner:
            return copies.movedim(0, self.axis).flatten(self.axis, self.axis + 1)
        apart = _split(copies, self.axis + 1, samples, inner=True)
        return apart.movedim(0, self.axis + 1).flatten(self.axis, self.axis + 2)

    def repeat(self, value: Any, copies: int, samples: int) -> Any:
        """A tensor, or each of several, for a batch of `copies` of its samples, copy by copy."""
        if copies == 1:
            return value
        return _each(value, lambda tensor: self.join(tensor.expand(copies, *tensor.shape), samples))

    def choose(self, value: Any, index: Tensor, samples: int) -> Any:
        """The samples `index` of a tensor, or of each of several."""

        def chosen(tensor: Tensor) -> Tensor:
            apart = self.split(tensor, samples).index_select(self.axis + self.inner, index.to(tensor.device))
            return apart.flatten(self.axis, self.axis + 1)

        return _each(value, chosen)


BATCH_FIRST = SampleLayout(0)
"""The samples along the first axis."""


def _split(value: Tensor, axis: int, samples: int, inner: bool) -> Tensor:
    inside = value.shape[axis] // samples
    sizes = (inside, samples) if inner else (samples, inside)
    return value.reshape(*value.shape[:axis], *sizes, *value.shape[axis + 1 :])


def _each(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """`function` of a tensor, or of each in a list; what is no tensor, or has no axis, as it is."""
    if isinstance(value, (tuple, list)):
        return type(value)(_each(each, function) for each in value)
    return function(value) if isinstance(value, Tensor) and value.dim() else value


@dataclass(frozen=True)
class SampleLayouts:
    """Where the samples lie in what the consumers, norms and producers of a graph read and make, as measured.

    `known[node, position]` is the layout of an argument of a node, or of what it makes where the position is -1;
    places whose samples cannot be told apart are missing. `mixed` says that the outputs of one sample depend on
    another.
    """

    known: Mapping[tuple[fx.Node, int], SampleLayout]
    mixed: bool

    def at(self, node: fx.Node, position: int) -> SampleLayout | None:
        """The layout at a place; None where samples are not told apart there."""
        return self.known.get((node, position))


def measure_samples(
    graph: Graph, units: Units, tensors: list[Tensor], batch_axis: int, state: Mapping[str, Tensor]
) -> SampleLayouts:
    """Where the samples lie, as measured: one of three samples is changed, and what moves is its own. Looked at are
    what consumers and norms read and make, what producers make, and the outputs."""
    read = [site for group in units.groups for site in (*group.consumers, *group.norms)]
    places = {(site.node, place) for site in read for place in (site.position, -1)}
    places |= {(site.node, site.position) for group in units.groups for site in group.producers}
    seen: list[dict[tuple[fx.Node, int], Tensor]] = [{}, {}]
    outputs = []
    for inputs, found in zip(_with_one_changed(tensors, batch_axis), seen, strict=True):
        edits = Edits()
        for node, position in places:
            edits.at(node, position, _keep_in(found, (node, position)))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs.append(graph.run([tensor.clone() for tensor in inputs], state, edits))
    known = {}
    for (node, position), before in seen[0].items():
        traced = _meta(_argument(node, position))
        layout = layout_of_change(before, seen[1][node, position], _free_axes(traced, before))
        if layout is not None:
            known[node, position] = layout
    mixed = any(
        layout_of_change(before, after) is None
        for before, after in zip(*outputs, strict=True)
        if isinstance(before, Tensor) and before.dim() and before.is_floating_point()
    )
    return SampleLayouts(known, mixed)


def layouts_of(
    graph: Graph, nodes: Sequence[fx.Node], tensors: list[Tensor], batch_axis: int, state: Mapping[str, Tensor]
) -> dict[fx.Node, SampleLayout | None]:
    """Where the samples lie in what each of `nodes` gives, measured; None where they are not told apart."""
    seen = []
    for inputs in _with_one_changed(tensors, batch_axis):
        kept: dict[fx.Node, Any] = dict.fromkeys(nodes)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            graph.run([tensor.clone() for tensor in inputs], state, kept=kept)
        kept.update((node, tensor) for node, tensor in zip(graph.inputs, inputs, strict=True) if node in kept)
        seen.append(kept)
    return {node: _layout_of_all(_meta(node), seen[0][node], seen[1][node]) for node in nodes}


def _layout_of_all(traced: Any, before: Any, after: Any) -> SampleLayout | None:
    """The layout of what a node gives; where that is a list of tensors, the one in which all agree."""
    if isinstance(before, (tuple, list)):
        each = traced if isinstance(traced, (tuple, list)) and len(traced) == len(before) else [None] * len(before)
        found = {_layout_of_all(*parts) for parts in zip(each, before, after, strict=True) if parts[1] is not None}
        return found.pop() if len(found) == 1 else None
    return layout_of_change(before, after, _free_axes(traced, before)) if isinstance(before, Tensor) else None


def layout_of_change(
    before: Tensor, after: Tensor, axes: Sequence[int] | None = None, samples: int = COUNT, changed: int = CHANGED
) -> SampleLayout | None:
    """The first layout in which nothing moved but the entries of the changed sample; None where there is none.

    Args:
        before: a tensor of a batch of so many samples.
        after: the same once sample `changed` was another.
        axes: the axes that may count samples; None for all.
    """
    if before.shape != after.shape:
        return None
    moved = (before != after) & ~(before.isnan() & after.isnan())
    others = [sample for sample in range(samples) if sample != changed]
    for axis in range(before.dim()) if axes is None else axes:
        size = before.shape[axis]
        for inner in (False, True) if size > samples else (False,):
            layout = SampleLayout(axis, inner)
            if size and layout.fits(before, samples) and not layout.first(moved, samples)[others].any():
                return layout
    return None


def _meta(node: Any) -> Any:
    """What the trace says of a node's result: tensors without values."""
    return node.meta.get("val") if isinstance(node, fx.Node) else None


def _free_axes(traced: Any, value: Tensor) -> list[int] | None:
    """The axes whose sizes the trace left free, so that they may count samples; None where it says nothing."""
    if not isinstance(traced, Tensor) or traced.dim() != value.dim():
        return None
    return [axis for axis, size in enumerate(traced.shape) if not isinstance(size, int)]


def _argument(node: fx.Node, position: int) -> Any:
    """What a node reads at a position, counted with lists taken apart; the node itself at -1."""
    if position < 0:
        return node
    flat = [each for arg in node.args for each in (arg if isinstance(arg, (list, tuple)) else [arg])]
    return flat[position] if position < len(flat) else None


def _with_one_changed(tensors: list[Tensor], batch_axis: int) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs of `COUNT` samples, and the same with sample `CHANGED` changed."""
    chosen = rows_of(tensors, batch_axis, torch.arange(COUNT) % batch_size(tensors, batch_axis))
    generator = torch.Generator().manual_seed(0)
    first, second = [], []
    for tensor in chosen:
        other = tensor.clone()
        if tensor.dim() > batch_axis and tensor.shape[batch_axis] == COUNT:
            sample = other.select(batch_axis, CHANGED)
            if sample.is_floating_point():
                noise = torch.randn(sample.shape, generator=generator).to(sample)
                sample.add_(noise * (0.5 + sample.abs().mean()))
            elif sample.dim():
                sample.copy_(sample.flip(-1))
        first.append(tensor)
        second.append(other)
    return first, second


def _keep_in(found: dict[tuple[fx.Node, int], Tensor], key: tuple[fx.Node, int]) -> Callable[[Tensor], Tensor]:
    def keep(value: Tensor) -> Tensor:
        if isinstance(value, Tensor):  # a producer may give several
            found[key] = value.detach().clone()
        return value

    return keep
