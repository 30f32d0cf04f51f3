"""What each op of a graph is to relevance: a list of steps of known kinds, from the inputs to the outputs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.graph.graph import Edits, Graph
from deadhead.graph.nodes import module_path, op_name
from deadhead.relevance.steps import CONSTANT, DETACHED, INDICES, LIVE, Additive, Key, Made, Step, is_key, keys_in


@dataclass
class Plan:
    """The steps of a graph in order, and what each value is."""

    graph: Graph
    detached: frozenset[str]
    steps: list[Step] = field(default_factory=list)
    status: dict[Any, str] = field(default_factory=dict)
    tuples: dict[Key, fx.Node] = field(default_factory=dict)

    def status_of(self, value: Any) -> str:
        return self.status.get(value, CONSTANT) if is_key(value) else CONSTANT

    def is_live(self, value: Any) -> bool:
        return self.status_of(value) == LIVE

    def depends(self, value: Any) -> bool:
        """Whether a value depends on those of the inputs."""
        return self.status_of(value) != CONSTANT

    @functools.cached_property
    def made_by(self) -> dict[Key, Step]:
        """The step that gives each value."""
        return {step.key: step for step in self.steps}

    @functools.cached_property
    def reached(self) -> set[Key]:
        """The values that relevance can reach from the outputs."""
        found: set[Key] = {each for each in self.graph.outputs if isinstance(each, fx.Node)}
        for step in reversed(self.steps):
            if step.key in found and step.kind:
                found.update((*step.live, *step.loose, *(each.source for each in step.additive if is_key(each.source))))
        return found

    @functools.cached_property
    def first(self) -> set[Step]:
        """The steps with weights that have none before them."""
        behind: set[Key] = set()
        found = set()
        for step in self.steps:
            if any(key in behind for key in step.live):
                behind.add(step.key)
            elif step.has_weights:
                found.add(step)
                behind.add(step.key)
        return found

    @functools.cached_property
    def last(self) -> set[Step]:
        """The steps with weights that have none behind them."""
        before: set[Key] = set()
        found = set()
        for step in reversed(self.steps):
            if step.has_weights and step.key not in before:
                found.add(step)
            if step.has_weights or step.key in before:
                before.update(step.live)
        return found

    def name_of(self, value: Any, step: str) -> tuple[str, bool]:
        """A name for a constant, and whether it is learned: the parameter or buffer that it is made of, else `step`."""
        found, waiting, seen = [], [value], set()
        while waiting:
            each = waiting.pop()
            if not is_key(each) or each in seen:
                continue
            seen.add(each)
            if isinstance(each, Made):
                waiting.append(each.origin)
            else:
                if each in self.graph.state:
                    found.append(each)
                waiting += each.all_input_nodes
        learned = [each for each in found if self.graph.state[each] not in self.graph.buffers]
        for names in (learned, found):
            if len(names) == 1:
                return self.graph.state[names[0]], True
        return step, bool(found)

    def compute(self, node: fx.Node, function: Callable[..., Any], args: Any, kwargs: Any, status: str) -> None:
        """A step that is only computed."""
        self.steps.append(Step(node, node, op_name(node), "", function, tuple(args), dict(kwargs)))
        self.status[node] = status


class Lowering:
    """How one node becomes steps: `call` adds one, `finish` the one that gives the node's own value."""

    def __init__(self, plan: Plan, node: fx.Node, key: Key, op: str) -> None:
        self.plan, self.node, self.key, self.op = plan, node, key, op
        self._count = 0

    def call(
        self, kind: str, function: Callable[..., Any], *args: Any, op: str = "", origin: Any = None, **options: Any
    ) -> Made:
        """A value inside the node, by a step of this kind; `origin` is the constant that it is made of."""
        self._count += 1
        key = Made(f"{self.node.name}.{op or self.op}.{self._count}", origin)
        self.step(key, kind, function, args, op=op, **options)
        return key

    def finish(self, kind: str, function: Callable[..., Any], *args: Any, op: str = "", **options: Any) -> None:
        """The value of the node."""
        self.step(self.key, kind, function, args, op=op, **options)

    def step(
        self,
        key: Key,
        kind: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None = None,
        additive: tuple[Additive, ...] = (),
        op: str = "",
        degree: int | None = None,
        operands: tuple[Any, ...] | None = None,
        fused: Callable[..., Any] | None = None,
    ) -> None:
        """Add a step; its status, and the roles of its operands, follow from theirs."""
        plan, kwargs = self.plan, dict(kwargs or {})
        operands = tuple(keys_in([list(args), kwargs])) if operands is None else tuple(keys_in(list(operands)))
        live = [each for each in operands if plan.status_of(each) == LIVE]
        indices = [each for each in operands if plan.status_of(each) == INDICES]
        sources = [*operands, *keys_in([list(args), kwargs]), *(each.source for each in additive)]
        if (
            kind in plan.detached
            or kind == "constant"
            or not (live or any(plan.is_live(each.source) for each in additive))
        ):
            moved = kind == "movement" and indices and not is_floating(self.node)
            status = INDICES if moved else DETACHED if any(map(plan.depends, sources)) else CONSTANT
            if kind == "embedding":
                status = LIVE
            elif kind == "constant":
                status = CONSTANT
        else:
            status = LIVE
        loose = [each for each in operands if plan.status_of(each) == DETACHED]
        still = [each for each in operands if plan.status_of(each) == CONSTANT]
        step = Step(
            key, self.node, op or self.op, kind if status in (LIVE, INDICES) else "", function, args, kwargs, additive,
            unique(indices if status == INDICES or kind == "embedding" else live), unique(loose), unique(still),
            len(live) if degree is None else degree, fused if additive else None,
        )  # fmt: skip
        plan.steps.append(step)
        plan.status[key] = status

    def constant(self, source: Any, place: Callable[[Tensor], Tensor] = lambda value: value) -> Additive:
        """A constant to add, under the name of what it is made of."""
        name, learned = self.plan.name_of(source, self.default_name)
        return Additive(source, name, place, learned)

    @property
    def default_name(self) -> str:
        return module_path(self.node) or self.node.name


def unique(keys: list[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(keys))


def is_floating(node: fx.Node) -> bool:
    """Whether a node gives floating-point numbers."""
    made = node.meta.get("val")
    return isinstance(made, Tensor) and (made.is_floating_point() or made.is_complex())


Rule = Callable[[Lowering, tuple[Any, ...], dict[str, Any]], None]
LOWERINGS: dict[str, Rule] = {}
KINDS: dict[str, str] = {}


def lowering(*names: str) -> Callable[[Rule], Rule]:
    """Register how ops of these names become steps."""

    def register(function: Rule) -> Rule:
        for name in names:
            LOWERINGS[name] = function
        return function

    return register


def build(graph: Graph, detached: frozenset[str]) -> Plan:
    """The plan of a graph; the results of steps of the kinds in `detached` carry no relevance."""
    plan = Plan(graph, detached)
    for node in graph.inputs:
        val = node.meta.get("val")
        if isinstance(val, Tensor):
            integer = not val.is_floating_point() and not val.is_complex()
            plan.status[node] = DETACHED if val.dtype == torch.bool else INDICES if integer else LIVE
    for node in graph.calls:
        _plan_node(plan, node)
    return plan


def _plan_node(plan: Plan, node: fx.Node) -> None:
    graph = plan.graph
    if node.op == "get_attr":
        plan.compute(node, lambda: graph.step(node, {}, Edits()), (), {}, CONSTANT)
        return
    source, args, kwargs, op = node, node.args, node.kwargs, op_name(node)

    def function(*args: Any, **kwargs: Any) -> Any:
        return graph.apply(node, list(args), kwargs, Edits())

    made = node.meta.get("val")
    if op == "getitem" and node.args[0] in plan.tuples:
        source, place = plan.tuples[node.args[0]], node.args[1]  # type: ignore[index]
        args, kwargs, op = source.args, source.kwargs, op_name(source)

        def function(*args: Any, **kwargs: Any) -> Any:
            return graph.apply(source, list(args), kwargs, Edits())[place]

    states = {plan.status_of(each) for each in source.all_input_nodes}
    if op == "embedding" and INDICES not in states:  # chosen by position, say
        plan.compute(node, function, args, kwargs, CONSTANT)
        return
    if not states & {LIVE, INDICES}:
        plan.compute(node, function, args, kwargs, DETACHED if DETACHED in states else CONSTANT)
        return
    if isinstance(made, (tuple, list)):
        plan.tuples[node] = node
        plan.status[node] = LIVE if LIVE in states else INDICES
        return
    if not isinstance(made, Tensor):  # a size
        plan.compute(node, function, args, kwargs, CONSTANT)
        return
    rule, kind = LOWERINGS.get(op), KINDS.get(op)
    if kind == "constant":
        plan.compute(node, function, args, kwargs, CONSTANT)
        return
    here = Lowering(plan, node, node, op)
    if is_floating(node) and (LIVE in states or op == "embedding_bag"):
        if rule is not None:
            rule(here, args, dict(kwargs))
        else:
            here.finish(kind or _guess(source, plan), function, *args, kwargs=kwargs)
    elif kind in ("movement", "embedding") and INDICES in states:
        here.finish(kind, function, *args, kwargs=kwargs)
    else:
        plan.compute(node, function, args, kwargs, DETACHED)


def _guess(node: fx.Node, plan: Plan) -> str:
    """Elementwise ops of one operand are nonlinearities; others have no rule."""
    pointwise = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
    return "nonlinearity" if pointwise and len(list(node.all_input_nodes)) == 1 else "unknown"
