"""A traced graph that can be replayed: the nodes of an exported program, without side effects, with edits between."""

from __future__ import annotations

import contextlib
import functools
import operator
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from deadhead.graph.catalogue import known
from deadhead.graph.recurrent import unroll

Edit = Callable[[Tensor], Tensor]
Around = Callable[[Callable[..., Any], list[Any], dict[str, Any]], Any]


@dataclass
class Edits:
    """What a replay does differently at some nodes.

    Attributes:
        read: {node: {position: what is applied to that argument before the node reads it}}; positions count the
            entries of lists.
        made: {node: what is applied to its result}.
        around: {node: (function, args, kwargs) to the result, in the place of its function}.
    """

    read: dict[fx.Node, dict[int, Edit]] = field(default_factory=dict)
    made: dict[fx.Node, Edit] = field(default_factory=dict)
    around: dict[fx.Node, Around] = field(default_factory=dict)

    def on_read(self, node: fx.Node, position: int, edit: Edit) -> None:
        """Apply `edit` to an argument, after those that are applied already."""
        at = self.read.setdefault(node, {})
        at[position] = _behind(at.get(position), edit)

    def on_made(self, node: fx.Node, edit: Edit) -> None:
        """Apply `edit` to the result of a node, after those that are applied already."""
        self.made[node] = _behind(self.made.get(node), edit)

    def at(self, node: fx.Node, position: int, edit: Edit) -> None:
        """Apply `edit` to an argument, or to the node's result where `position` is -1."""
        if position < 0:
            self.on_made(node, edit)
        else:
            self.on_read(node, position, edit)


def _behind(before: Edit | None, edit: Edit) -> Edit:
    return edit if before is None else (lambda value: edit(before(value)))


class Graph:
    """The nodes of an exported program as pure functions of inputs, parameters, buffers and constants.

    Attributes:
        nodes: all nodes, in order.
        inputs: the nodes of the inputs.
        state: {node: the name of its parameter or buffer}.
        buffers: the names of the buffers.
        constants: {node: its value}.
        outputs: what the graph returns, nodes or numbers.
        calls: the nodes that are computed and that an output depends on, in order.
        every_call: `calls`, and those that no output depends on.
    """

    def __init__(self, program: ExportedProgram, prefix: str = "") -> None:
        program = unroll(functional(program))  # before regions are inlined: torch's own pass knows them
        self.module = program.graph_module
        self._autocast = _inline(program.graph_module)
        self.nodes: list[fx.Node] = list(program.graph.nodes)
        signature = program.graph_signature
        by_name = {node.name: node for node in self.nodes if node.op == "placeholder"}
        self.state: dict[fx.Node, str] = {}
        self.buffers: set[str] = set()
        self.constants: dict[fx.Node, Any] = {}
        self.inputs: list[fx.Node] = []
        for spec in signature.input_specs:
            node = by_name.get(getattr(spec.arg, "name", ""))
            if node is None:
                continue
            if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
                self.state[node] = str(spec.target).removeprefix(prefix)
                if spec.kind is InputKind.BUFFER:
                    self.buffers.add(self.state[node])
            elif spec.kind is InputKind.USER_INPUT:
                self.inputs.append(node)
            else:
                self.constants[node] = program.constants[str(spec.target)]
        kept = [spec.kind is OutputKind.USER_OUTPUT for spec in signature.output_specs]
        self.outputs: list[Any] = [arg for arg, keep in zip(self.nodes[-1].args[0], kept, strict=True) if keep]  # type: ignore[arg-type]
        alive = reaching(node for node in self.outputs if isinstance(node, fx.Node))
        self.every_call = [node for node in self.nodes if node.op in ("call_function", "get_attr")]
        self.calls = [node for node in self.every_call if node in alive]
        self._functions = {node: _pure(node) for node in self.calls if node.op == "call_function"}
        self._last_use = self._find_last_uses()

    def _find_last_uses(self) -> dict[fx.Node, list[fx.Node]]:
        seen: set[fx.Node] = {node for node in self.outputs if isinstance(node, fx.Node)}
        last: dict[fx.Node, list[fx.Node]] = {}
        for node in reversed(self.calls):
            last[node] = [arg for arg in (*node.all_input_nodes, node) if arg not in seen]
            seen.update(node.all_input_nodes)
            seen.add(node)
        return last

    def run(
        self,
        inputs: Sequence[Tensor],
        state: Mapping[str, Tensor],
        edits: Edits | None = None,
        until: Collection[fx.Node] | None = None,
        kept: dict[fx.Node, Any] | None = None,
    ) -> list[Any]:
        """Replay the graph.

        Args:
            inputs: the tensors of a call, in order.
            state: parameters and buffers by name.
            edits: what the replay does differently.
            until: nodes after which it ends, once all have run.
            kept: a dict whose keys are nodes; what they give is put there.

        Returns:
            The outputs; none with `until`.
        """
        edits = edits or Edits()
        values: dict[fx.Node, Any] = dict(zip(self.inputs, inputs, strict=True))
        values.update(self.constants)
        values.update((node, state[name]) for node, name in self.state.items())
        left = None if until is None else set(until)
        for node in self.calls:
            values[node] = self.step(node, values, edits)
            if kept is not None and node in kept:
                kept[node] = values[node]
            for unused in self._last_use[node]:
                values.pop(unused, None)
            if left is not None:
                left.discard(node)
                if not left:
                    return []
        return [values[out] if isinstance(out, fx.Node) else out for out in self.outputs]

    def constants_of(self, state: Mapping[str, Tensor]) -> dict[fx.Node, Any]:
        """The values of all nodes that do not depend on the inputs."""
        values: dict[fx.Node, Any] = {**self.constants, **{node: state[name] for node, name in self.state.items()}}
        for node in self.calls:
            if all(arg in values for arg in node.all_input_nodes):
                values[node] = self.step(node, values, Edits())
        return values

    def step(self, node: fx.Node, values: dict[fx.Node, Any], edits: Edits) -> Any:
        """What a node gives, from the values of those that it reads."""
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.module)
        args: list[Any] = [fx.node.map_arg(arg, values.__getitem__) for arg in node.args]
        kwargs = {key: fx.node.map_arg(arg, values.__getitem__) for key, arg in node.kwargs.items()}
        return self.apply(node, args, kwargs, edits)

    def apply(self, node: fx.Node, args: list[Any], kwargs: dict[str, Any], edits: Edits) -> Any:
        """What a node makes of the values of its arguments."""
        for position, edit in edits.read.get(node, {}).items():
            _edit_argument(args, position, edit)
        around = edits.around.get(node)
        function = self._functions[node]
        with self._autocast.get(node, contextlib.nullcontext)():
            value = function(*args, **kwargs) if around is None else around(function, args, kwargs)
        made = edits.made.get(node)
        return value if made is None else made(value)


def functional(program: ExportedProgram) -> ExportedProgram:
    """The program without in-place ops where what they write is read later under another name; else itself."""
    if not _needs_decomposition(program.graph):
        return program
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        decomposed: ExportedProgram = program.run_decompositions({})
    return decomposed


def reaching(outputs: Iterable[fx.Node]) -> set[fx.Node]:
    """The nodes that some of `outputs` depend on, themselves among them."""
    found: set[fx.Node] = set()
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def _inline(module: fx.GraphModule) -> dict[fx.Node, Callable[[], Any]]:
    """Put the ops of autocast and gradient regions into the graph itself; for those that were cast, how."""
    contexts: dict[fx.Node, Callable[[], Any]] = {}
    graph = module.graph
    for region in list(graph.nodes):
        name = getattr(region.target, "__name__", "") if region.op == "call_function" else ""
        if name not in ("wrap_with_autocast", "wrap_with_set_grad_enabled"):
            continue
        place = next(i for i, arg in enumerate(region.args) if isinstance(arg, fx.Node) and arg.op == "get_attr")
        body = getattr(module, str(region.args[place].target))
        inner = _inline(body)
        context: Callable[[], Any] | None = None
        if name == "wrap_with_autocast":
            device, dtype, enabled, cache = region.args[:4]
            context = functools.partial(torch.autocast, str(device), dtype=dtype, enabled=enabled, cache_enabled=cache)
        values: dict[fx.Node, Any] = {}
        given = iter(region.args[place + 1 :])
        with graph.inserting_before(region):
            for node in body.graph.nodes:
                if node.op == "placeholder":
                    values[node] = next(given)
                elif node.op == "output":
                    outputs = fx.node.map_arg(node.args[0], values.__getitem__)
                else:
                    values[node] = graph.node_copy(node, values.__getitem__)
                    if node in inner or context is not None:
                        contexts[values[node]] = inner.get(node) or context  # type: ignore[assignment]
        for user in list(region.users):
            user.replace_all_uses_with(outputs[user.args[1]])
            graph.erase_node(user)
        graph.erase_node(region)
    return contexts


def _edit_argument(args: list[Any], position: int, edit: Edit) -> None:
    """Apply `edit` to the argument at `position`, counted with lists taken apart."""
    for place, arg in enumerate(args):
        if isinstance(arg, (list, tuple)):
            if position < len(arg):
                args[place] = [edit(each) if i == position else each for i, each in enumerate(arg)]
                return
            position -= len(arg)
        elif position == 0:
            args[place] = edit(arg)
            return
        else:
            position -= 1


def _pure(node: fx.Node) -> Callable[..., Any]:
    """The function of a node, free of side effects."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return target  # type: ignore[return-value]
    replay = known(target._schema.name.split("::")[1].removesuffix("_")).replay
    if replay == "skip":
        return lambda *args, **kwargs: None
    if replay == "identity":
        return lambda value: value
    if target._schema.is_mutable:
        return _functional(target) or target
    return target


def _functional(target: torch._ops.OpOverload) -> Callable[..., Any] | None:
    """The form of an in-place op that gives a new tensor."""
    namespace, name = target._schema.name.split("::")
    packet = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None)
    return getattr(packet, target._overloadname, None) if packet is not None and name.endswith("_") else None


def _needs_decomposition(graph: fx.Graph) -> bool:
    """Whether an in-place op writes to something that is read later under another name: then only torch's own
    functionalisation gets it right."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    family: dict[fx.Node, fx.Node] = {}
    members: dict[fx.Node, list[fx.Node]] = {}
    for node in graph.nodes:
        root = node
        target = node.target
        if isinstance(target, torch._ops.OpOverload):
            schema = target._schema
            aliases = any(result.alias_info is not None for result in schema.returns)
            mutated = [
                arg
                for arg, spec in zip(node.args, schema.arguments, strict=False)
                if isinstance(arg, fx.Node) and spec.alias_info is not None and spec.alias_info.is_write
            ]
            for arg in mutated:
                if _functional(target) is None:
                    return True
                relatives = members[family[arg]]
                if any(order[user] > order[node] for each in relatives for user in each.users):
                    return True
            name = schema.name.split("::")[1].removesuffix("_")
            if (aliases or known(name).shares) and node.args and isinstance(node.args[0], fx.Node):
                root = family[node.args[0]]
        elif target is operator.getitem and isinstance(node.args[0], fx.Node):
            root = family[node.args[0]]
        family[node] = root
        members.setdefault(root, []).append(node)
    return False
