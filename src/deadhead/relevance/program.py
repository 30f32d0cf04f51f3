"""The program of a graph: its ops as operations of known kinds, in order, for the forward and the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.graph.catalogue import known
from deadhead.graph.graph import Edits, Graph
from deadhead.graph.nodes import module_path, op_name
from deadhead.relevance.operations import (
    CONSTANT,
    DETACHED,
    INDICES,
    LIVE,
    Additive,
    Intermediate,
    Key,
    Operation,
    is_key,
    keys_in,
)


@dataclass
class Program:
    """The operations of a graph in order, and what each value is to relevance.

    Args:
        graph: the traced graph.
        detached: kinds of op whose outputs carry no relevance.
        operations: the operations, from the inputs to the outputs.
        status: for each value that depends on the inputs, LIVE, DETACHED or INDICES.
        tuples: for each node that gives a tuple, the node whose op gives it.
    """

    graph: Graph
    detached: frozenset[str]
    operations: list[Operation] = field(default_factory=list)
    status: dict[Any, str] = field(default_factory=dict)
    tuples: dict[Key, fx.Node] = field(default_factory=dict)

    def status_of(self, value: Any) -> str:
        """What a value is: LIVE, DETACHED, INDICES, or CONSTANT where it does not depend on the inputs."""
        return self.status.get(value, CONSTANT) if is_key(value) else CONSTANT

    def is_live(self, value: Any) -> bool:
        """Whether a value carries relevance."""
        return self.status_of(value) == LIVE

    def depends(self, value: Any) -> bool:
        """Whether a value depends on those of the inputs."""
        return self.status_of(value) != CONSTANT

    @functools.cached_property
    def made_by(self) -> dict[Key, Operation]:
        """The operation that gives each value."""
        return {operation.key: operation for operation in self.operations}

    @functools.cached_property
    def reached(self) -> set[Key]:
        """The values that relevance can reach from the outputs."""
        found: set[Key] = {each for each in self.graph.outputs if isinstance(each, fx.Node)}
        for operation in reversed(self.operations):
            if operation.key in found and operation.kind:
                found.update(
                    (
                        *operation.live,
                        *operation.detached,
                        *(each.source for each in operation.additive if is_key(each.source)),
                    )
                )
        return found

    @functools.cached_property
    def first(self) -> set[Operation]:
        """The operations with weights that have none before them."""
        behind: set[Key] = set()
        found = set()
        for operation in self.operations:
            if any(key in behind for key in operation.live):
                behind.add(operation.key)
            elif operation.has_weights:
                found.add(operation)
                behind.add(operation.key)
        return found

    @functools.cached_property
    def last(self) -> set[Operation]:
        """The operations with weights that have none behind them."""
        before: set[Key] = set()
        found = set()
        for operation in reversed(self.operations):
            if operation.has_weights and operation.key not in before:
                found.add(operation)
            if operation.has_weights or operation.key in before:
                before.update(operation.live)
        return found

    def name_of(self, value: Any, default: str) -> tuple[str, bool]:
        """A name for a constant (the parameter or buffer in it, else `default`), and whether it is learned."""
        found, waiting, seen = [], [value], set()
        while waiting:
            each = waiting.pop()
            if not is_key(each) or each in seen:
                continue
            seen.add(each)
            if isinstance(each, Intermediate):
                waiting.append(each.origin)
            else:
                if each in self.graph.state:
                    found.append(each)
                waiting += each.all_input_nodes
        learned = [each for each in found if self.graph.state[each] not in self.graph.buffers]
        for names in (learned, found):
            if len(names) == 1:
                return self.graph.state[names[0]], True
        return default, bool(found)

    def compute(self, node: fx.Node, function: Callable[..., Any], args: Any, kwargs: Any, status: str) -> None:
        """An operation that is only computed."""
        self.operations.append(Operation(node, node, op_name(node), "", function, tuple(args), dict(kwargs)))
        self.status[node] = status


@dataclass(frozen=True)
class Details:
    """What may be said of an operation besides its function and arguments.

    Args:
        op: the name of the op (default: the node's).
        kwargs: keyword arguments of the function.
        additive: constants that are added to what the function gives.
        degree: how many operands share the relevance of a product (default: those that carry relevance).
        operands: the arguments that are operands (default: all values among them).
        fused: a function that computes all of it at once, from the constants and the arguments.
    """

    op: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    additive: tuple[Additive, ...] = ()
    degree: int | None = None
    operands: tuple[Any, ...] | None = None
    fused: Callable[..., Any] | None = None


class Lowering:
    """How one node becomes operations: `call` adds one, `finish` the one that gives the node's own value.

    Both take, by keyword, what `Details` lists.
    """

    def __init__(self, program: Program, node: fx.Node, key: Key, op: str) -> None:
        self.program, self.node, self.key, self.op = program, node, key, op
        self._count = 0

    def call(
        self, kind: str, function: Callable[..., Any], *args: Any, origin: Any = None, **details: Any
    ) -> Intermediate:
        """A value inside the node, by an operation of this kind; `origin` is the constant that it is made of."""
        self._count += 1
        key = Intermediate(f"{self.node.name}.{details.get('op') or self.op}.{self._count}", origin)
        self._add(key, kind, function, args, Details(**details))
        return key

    def finish(self, kind: str, function: Callable[..., Any], *args: Any, **details: Any) -> None:
        """The value of the node."""
        self._add(self.key, kind, function, args, Details(**details))

    def _add(self, key: Key, kind: str, function: Callable[..., Any], args: tuple[Any, ...], details: Details) -> None:
        """Add an operation; its status, and the roles of its operands, follow from theirs."""
        program, kwargs, additive = self.program, dict(details.kwargs), details.additive
        given = list(keys_in([list(args), kwargs]))
        operands = given if details.operands is None else list(keys_in(list(details.operands)))
        of = {
            status: unique([each for each in operands if program.status_of(each) == status])
            for status in (LIVE, INDICES, DETACHED, CONSTANT)
        }
        sources = [*operands, *given, *(each.source for each in additive)]
        carries = bool(of[LIVE]) or any(program.is_live(each.source) for each in additive)
        if kind == "constant":
            status = CONSTANT
        elif kind == "embedding" or (carries and kind not in program.detached):
            status = LIVE
        elif kind == "movement" and of[INDICES] and not is_floating(self.node):
            status = INDICES
        else:
            status = DETACHED if any(map(program.depends, sources)) else CONSTANT
        operation = Operation(
            key, self.node, details.op or self.op, kind if status in (LIVE, INDICES) else "", function, args, kwargs,
            additive, of[INDICES] if status == INDICES or kind == "embedding" else of[LIVE], of[DETACHED], of[CONSTANT],
            len([each for each in operands if program.status_of(each) == LIVE]) if details.degree is None
            else details.degree, details.fused if additive else None,
        )  # fmt: skip
        program.operations.append(operation)
        program.status[key] = status

    def constant(self, source: Any, place: Callable[[Tensor], Tensor] = lambda value: value) -> Additive:
        """A constant to add, under the name of what it is made of."""
        name, learned = self.program.name_of(source, self.default_name)
        return Additive(source, name, place, learned)

    @property
    def default_name(self) -> str:
        """The module of the node, or the node's own name."""
        return module_path(self.node) or self.node.name


def unique(keys: list[Any]) -> tuple[Any, ...]:
    """The keys without repetitions, in order.

    >>> unique([2, 1, 2])
    (2, 1)
    """
    return tuple(dict.fromkeys(keys))


def is_floating(node: fx.Node) -> bool:
    """Whether a node gives floating-point numbers."""
    made = node.meta.get("val")
    return isinstance(made, Tensor) and (made.is_floating_point() or made.is_complex())


LoweringFunction = Callable[[Lowering, tuple[Any, ...], dict[str, Any]], None]
LOWERINGS: dict[str, LoweringFunction] = {}


def lowering(*names: str) -> Callable[[LoweringFunction], LoweringFunction]:
    """Register how ops of these names become operations.

    Args:
        names: names of ops, such as "linear".

    Returns:
        A decorator for a function of a `Lowering`, the node's arguments and its keyword arguments, which calls
        `Lowering.call` for values inside the node and `Lowering.finish` for the node's own.

    >>> "linear" in LOWERINGS
    True
    """

    def register(function: LoweringFunction) -> LoweringFunction:
        for name in names:
            LOWERINGS[name] = function
        return function

    return register


def build(graph: Graph, detached: frozenset[str]) -> Program:
    """Build the program of a graph: its ops as operations of known kinds.

    Args:
        graph: the traced graph.
        detached: kinds of op whose outputs carry no relevance.

    >>> import torch, deadhead as dh
    >>> x = torch.rand(2, 2)
    >>> graph = dh.trace(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()), x).traced([x]).graph
    >>> [each.kind for each in build(graph, frozenset()).operations if each.kind]
    ['linear', 'nonlinearity']
    """
    program = Program(graph, detached)
    for node in graph.inputs:
        val = node.meta.get("val")
        if isinstance(val, Tensor):
            integer = not val.is_floating_point() and not val.is_complex()
            program.status[node] = DETACHED if val.dtype == torch.bool else INDICES if integer else LIVE
    for node in graph.calls:
        _add_node(program, node)
    return program


def _add_node(program: Program, node: fx.Node) -> None:
    graph = program.graph
    if node.op == "get_attr":
        program.compute(node, lambda: graph.step(node, {}, Edits()), (), {}, CONSTANT)
        return
    source, args, kwargs, op = node, node.args, node.kwargs, op_name(node)

    def function(*args: Any, **kwargs: Any) -> Any:
        return graph.apply(node, list(args), kwargs, Edits())

    made = node.meta.get("val")
    if op == "getitem" and node.args[0] in program.tuples:
        source, place = program.tuples[node.args[0]], node.args[1]  # type: ignore[index]
        args, kwargs, op = source.args, source.kwargs, op_name(source)

        def function(*args: Any, **kwargs: Any) -> Any:
            return graph.apply(source, list(args), kwargs, Edits())[place]

    states = {program.status_of(each) for each in source.all_input_nodes}
    if op == "embedding" and INDICES not in states:  # chosen by position, say
        program.compute(node, function, args, kwargs, CONSTANT)
        return
    if not states & {LIVE, INDICES}:
        program.compute(node, function, args, kwargs, DETACHED if DETACHED in states else CONSTANT)
        return
    if isinstance(made, (tuple, list)):
        program.tuples[node] = node
        program.status[node] = LIVE if LIVE in states else INDICES
        return
    if not isinstance(made, Tensor):  # a size
        program.compute(node, function, args, kwargs, CONSTANT)
        return
    lower, kind = LOWERINGS.get(op), known(op).relevance
    if kind == "constant":
        program.compute(node, function, args, kwargs, CONSTANT)
        return
    here = Lowering(program, node, node, op)
    if is_floating(node) and (LIVE in states or op == "embedding_bag"):
        if lower is not None:
            lower(here, args, dict(kwargs))
        else:
            here.finish(kind or _guess(source, program), function, *args, kwargs=kwargs)
    elif kind in ("movement", "embedding") and INDICES in states:
        here.finish(kind, function, *args, kwargs=kwargs)
    else:
        program.compute(node, function, args, kwargs, DETACHED)


def _guess(node: fx.Node, program: Program) -> str:
    """Elementwise ops of one operand are nonlinearities; others have no rule."""
    pointwise = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
    return "nonlinearity" if pointwise and len(list(node.all_input_nodes)) == 1 else "unknown"
