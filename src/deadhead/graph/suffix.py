"""Replaying from the middle: what lies behind some nodes, for several copies of the batch at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from deadhead.graph.graph import Edits, Graph
from deadhead.graph.nodes import op_name
from deadhead.graph.samples import SampleLayout, layouts_of


@dataclass(frozen=True)
class Suffix:
    """The part of a graph from the nodes `start` on: its `calls` in order, and what they read of what lies before.

    `crossing` are activations, whose samples have to be repeated for several copies of the batch; `sizes` are nodes
    that depend on sizes alone, in order, which are computed anew. `layouts` says where the samples lie in each of what
    is repeated, and in the outputs; `stacks` whether all of them are known.
    """

    graph: Graph
    calls: tuple[fx.Node, ...]
    crossing: tuple[fx.Node, ...]
    sizes: tuple[fx.Node, ...]
    layouts: Mapping[fx.Node, SampleLayout | None]
    stacks: bool

    def run(
        self,
        held: Mapping[fx.Node, Any],
        inputs: Sequence[Tensor],
        state: Mapping[str, Tensor],
        edits: Edits,
        copies: int,
        samples: int,
        given: Mapping[fx.Node, Any] | None = None,
    ) -> list[Any]:
        """The outputs for `copies` of a batch of so many samples, one behind the other, from what `held` has of the
        crossing nodes for the batch, and `given` for all copies."""
        graph = self.graph
        values: dict[fx.Node, Any] = {**graph.constants, **{node: state[name] for node, name in graph.state.items()}}
        for node in self.crossing:
            if given is not None and node in given:
                values[node] = given[node]
            else:
                layout = self.layouts[node]
                values[node] = held[node] if layout is None else layout.repeat(held[node], copies, samples)
        for node in self.sizes:
            if op_name(node).startswith("sym_size"):
                values[node] = self._size(node, held, inputs, copies)
            else:
                values[node] = graph.step(node, values, edits)
        for node in self.calls:
            values[node] = graph.step(node, values, edits)
        return [values[out] if isinstance(out, fx.Node) else out for out in graph.outputs]

    def _size(self, node: fx.Node, held: Mapping[fx.Node, Any], inputs: Sequence[Tensor], copies: int) -> int:
        source, axis = node.args[:2]
        assert isinstance(source, fx.Node)
        assert isinstance(axis, int)
        known = dict(zip(self.graph.inputs, inputs, strict=True))
        value = known[source] if source in known else held[source]
        layout = self.layouts[source]
        counts_samples = layout is not None and axis % value.dim() == layout.axis
        return int(value.shape[axis]) * (copies if counts_samples else 1)

    @property
    def needed(self) -> set[fx.Node]:
        """What has to be held of a replay of the whole."""
        sources = {node.args[0] for node in self.sizes if op_name(node).startswith("sym_size")}
        return {*self.crossing, *(each for each in sources if isinstance(each, fx.Node))} - set(self.graph.inputs)


def suffix_of(
    graph: Graph, start: Collection[fx.Node], tensors: list[Tensor], batch_axis: int, state: Mapping[str, Tensor]
) -> Suffix:
    """The suffix of a graph from the nodes `start` on; where samples lie is measured on `tensors`."""
    behind: set[fx.Node] = set()
    for node in graph.calls:
        if node in start or any(arg in behind for arg in node.all_input_nodes):
            behind.add(node)
    calls = tuple(node for node in graph.calls if node in behind)
    data = _data(graph)
    outputs = [node for node in graph.outputs if isinstance(node, fx.Node)]
    before = {*(arg for node in calls for arg in node.all_input_nodes), *outputs} - behind
    crossing = tuple(node for node in (*graph.inputs, *graph.calls) if node in before and node in data)
    given = {*graph.constants, *graph.state, *graph.inputs}
    plain = reaching_without([node for node in before if node not in data], data) - given
    sizes = tuple(node for node in graph.calls if node in plain)
    sources = [node.args[0] for node in sizes if op_name(node).startswith("sym_size")]
    asked = list(dict.fromkeys([*crossing, *(s for s in sources if isinstance(s, fx.Node)), *outputs]))
    layouts = layouts_of(graph, asked, tensors, batch_axis, state)
    return Suffix(graph, calls, crossing, sizes, layouts, all(layout is not None for layout in layouts.values()))


def reaching_without(nodes: Collection[fx.Node], stop: Collection[fx.Node]) -> set[fx.Node]:
    """`nodes` and what they depend on, not going on from those in `stop`, nor into them."""
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found and node not in stop:
            found.add(node)
            if not op_name(node).startswith("sym_size"):
                waiting += node.all_input_nodes
    return found


def _data(graph: Graph) -> set[fx.Node]:
    """The nodes whose values depend on those of the inputs, and not on their sizes alone."""
    data: set[fx.Node] = set(graph.inputs)
    for node in graph.calls:
        if not op_name(node).startswith("sym_size") and any(arg in data for arg in node.all_input_nodes):
            data.add(node)
    return data
