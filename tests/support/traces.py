"""An architecture is exported once in a process: another instance of it gets the same graph and units.

Neither depends on the values of weights. What a graph computes is compared with the module in every trace all the same,
by the library itself, at one, two and three rows. `DEADHEAD_TRACE_ANEW=1` exports each time.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from deadhead.graph import network as networks
from deadhead.graph.graph import Graph
from deadhead.graph.pytree import as_call, take
from deadhead.graph.trace import double, trace_program
from deadhead.graph.units.groups import Units, find_units
from support.snapshot import bits

ANEW = bool(os.environ.get("DEADHEAD_TRACE_ANEW"))
MOST_HELD = 300
"""Exports that are kept; the oldest goes first."""
PLAIN = (str, bytes, int, float, complex, bool, type(None), type, torch.dtype, torch.device, torch.Size)


class UnknownError(Exception):
    """A module holds something of which nothing can be said."""


def fact(value: Any, depth: int = 0) -> Any:
    """What a value of an attribute is, equal for equal ones."""
    if depth > 8:
        raise UnknownError
    if isinstance(value, Tensor):
        return bits(value)
    if isinstance(value, PLAIN):
        return (type(value), repr(value) if isinstance(value, float) else value)
    if isinstance(value, nn.Module):
        return architecture(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return (type(value), tuple(fact(each, depth + 1) for each in value))
    if isinstance(value, dict):
        return (type(value), tuple((fact(key, depth + 1), fact(each, depth + 1)) for key, each in value.items()))
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value), tuple(fact(getattr(value, each.name), depth + 1) for each in fields(value)))
    if isinstance(value, functools.partial):
        return ("partial", fact(value.func), fact(value.args, depth + 1), fact(value.keywords, depth + 1))
    if callable(value) and not isinstance(value, MethodType):
        return ("function", value)
    if hasattr(value, "to_dict") and hasattr(value, "model_type"):  # a configuration of transformers
        return (type(value), fact(dict(vars(value)), depth + 1))
    raise UnknownError


def architecture(module: nn.Module) -> tuple[Any, ...]:
    """All of a module that a trace can see but the values of its parameters and registered buffers."""
    if isinstance(module, (fx.GraphModule, torch.jit.ScriptModule)):
        raise UnknownError
    facts: list[Any] = []
    seen: dict[int, int] = {}
    for path, each in module.named_modules(remove_duplicate=False):
        facts.append((path, type(each), seen.setdefault(id(each), len(seen))))
        if "forward" in vars(each):
            raise UnknownError
        for name, value in vars(each).items():
            if name in ("_parameters", "_buffers", "_modules", "training"):
                continue
            facts.append((name, fact(value)))
        for table in (each._parameters, each._buffers):
            for name, tensor in table.items():
                if tensor is not None:
                    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_meta:
                        raise UnknownError
                    place = seen.setdefault(id(tensor), len(seen))
                    shape = (tensor.dtype, tensor.device, tuple(tensor.shape), tensor.stride(), tensor.requires_grad)
                    facts.append((name, place, *shape))
                else:
                    facts.append((name, None))
    return tuple(facts)


def _key(module: nn.Module, inputs: Any, batch_axis: int, free: Any) -> Any:
    tensors, structure = take(as_call(inputs))
    places: dict[int, int] = {}
    shapes = [
        (t.dtype, t.device, tuple(t.shape), t.stride(), t.requires_grad, places.setdefault(id(t), len(places)))
        for t in tensors
    ]
    free = None if free is None else tuple(tuple(axes) for axes in free)
    rest = structure.fill([places[id(t)] for t in tensors])
    around = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_autocast_enabled())
    key = (architecture(module), tuple(shapes), fact(rest), batch_axis, free, around)
    hash(key)
    return key


@dataclass
class Export:
    """What one architecture was exported to, and what was made of it."""

    program: ExportedProgram
    output: Any
    graph: Graph | None = None
    units: dict[bool, Units] = field(default_factory=dict)


class Exports:
    """What was exported so far by architecture, inputs and free axes."""

    def __init__(self) -> None:
        self.held: dict[Any, Export] = {}
        self.made = 0
        self.found = 0

    def trace_program(self, module: nn.Module, inputs: Any, batch_axis: int, free: Any) -> Any:
        try:
            key = _key(module, inputs, batch_axis, free)
        except Exception:  # what cannot be told apart, or has no hash, is exported
            self.made += 1
            return trace_program(module, inputs, batch_axis, free)
        if key not in self.held:
            self.made += 1
            program, output, tensors = trace_program(module, inputs, batch_axis, free)
            self.held[key] = Export(program, output)
            if len(self.held) > MOST_HELD:
                del self.held[next(iter(self.held))]
            return program, output, tensors
        self.found += 1
        export = self.held[key]
        return export.program, export.output, double(take(as_call(inputs))[0], batch_axis)

    def graph(self, program: ExportedProgram, prefix: str = "") -> Graph:
        export = next((each for each in self.held.values() if each.program is program), None)
        if export is None:
            return Graph(program, prefix)
        if export.graph is None:
            export.graph = Graph(program, prefix)
        return export.graph

    def find_units(self, graph: Graph, state: Any, unregistered: Any = None, width: bool = False) -> Units:
        export = next((each for each in self.held.values() if each.graph is graph), None)
        if unregistered or export is None:
            return find_units(graph, state, unregistered, width)
        if width not in export.units:
            export.units[width] = find_units(graph, state, unregistered, width)
        return export.units[width]


EXPORTS = Exports()


@contextmanager
def exported_once() -> Iterator[Exports]:
    """While it lasts, an architecture that was exported in this process is not exported again."""
    before = (networks.trace_program, networks.Graph, networks.find_units)
    networks.trace_program = EXPORTS.trace_program
    networks.Graph = EXPORTS.graph  # type: ignore[misc]
    networks.find_units = EXPORTS.find_units
    try:
        yield EXPORTS
    finally:
        networks.trace_program, networks.Graph, networks.find_units = before  # type: ignore[misc]
