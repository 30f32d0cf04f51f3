"""A traced network: the module, its graph, its units, and replays of it."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.errors import DataError, TraceError
from deadhead.graph.describe import describe
from deadhead.graph.graph import Edits, Graph, functional
from deadhead.graph.nodes import where
from deadhead.graph.pytree import Call, Structure, as_call, take
from deadhead.graph.samples import SampleLayouts, measure_samples
from deadhead.graph.trace import PREFIX, batch_size, export_as_is, has_rows, rows_of, trace_program, untouched
from deadhead.graph.units.groups import Group, Units, find_units
from deadhead.graph.units.registry import has_rule
from deadhead.graph.unregistered import unregistered
from deadhead.text import counted

REFUSED_ABOVE = 1e-4
"""Relative difference between graph and module above which a trace is refused."""


@dataclass(frozen=True)
class Traced:
    """One graph of the network with its units and the structure of its output; `read` is the same with the groups as
    their consumers read them, where the groups here are as their producers make them, `kept` what other rooms have
    worked out of the graph once."""

    graph: Graph
    units: Units
    output: Structure
    samples: SampleLayouts = field(default_factory=lambda: SampleLayouts({}, False))
    read: Traced | None = None
    kept: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @functools.cached_property
    def at_producers(self) -> Traced:
        """The same graph with every group as it is made."""
        groups = tuple(group.at_producers() for group in self.units.groups)
        return replace(self, units=replace(self.units, groups=groups), read=self)

    def group(self, name: str) -> Group:
        """The group of that name."""
        for group in self.units.groups:
            if group.name == name:
                return group
        raise DataError(f"There is no group {name!r}; the groups are {', '.join(g.name for g in self.units.groups)}.")


class Network:
    """A module with its traced graph; made by `trace`.

    `groups` are the groups of units, in forward order; `fixed` says for each module whose outputs cannot be pruned
    what fixed them. `difference` is the largest relative difference seen between module and graph. `width` says
    whether axes that a normalisation goes over may be pruned.
    """

    def __init__(self, module: nn.Module, inputs: Any, batch_axis: int = 0, width: bool = False) -> None:
        self.module = module
        self.batch_axis = batch_axis
        self.width = width
        self.difference = 0.0
        program, output, tensors = trace_program(module, inputs, batch_axis, free=None)
        self.example = [tensor.detach().clone() for tensor in tensors]
        self._call = take(as_call(inputs))[1]
        self._static = self._traced(program, output)
        self._replayable: dict[tuple[Any, ...], Traced] = {}
        self._flexible: list[tuple[tuple[Any, ...], Traced]] = []
        self._vanished: dict[str, str] = {}
        self._shapes = {name: tuple(tensor.shape) for name, tensor in self.state().items()}

    def _traced(self, program: Any, output: Structure) -> Traced:
        graph = Graph(program, PREFIX)
        return Traced(graph, find_units(graph, self.state(), unregistered(self.module), self.width), output)

    def state(self) -> dict[str, Tensor]:
        """The module's own parameters and buffers by name, tied ones under each of their names."""
        tensors: dict[str, Tensor] = dict(self.module.named_parameters(remove_duplicate=False))
        tensors.update(self.module.named_buffers(remove_duplicate=False))
        return tensors

    def frozen_state(self) -> dict[str, Tensor]:
        """The same, detached: a replay with it leaves no gradients behind."""
        return {name: tensor.detach() for name, tensor in self.state().items()}

    @property
    def groups(self) -> tuple[Group, ...]:
        return tuple(group for group in self._static.units.groups if group.name not in self._vanished)

    def freed_by_width(self) -> tuple[Group, ...]:
        """The groups that `width` would free: those over which a normalisation goes."""
        if self.width:
            return ()
        units = find_units(self._static.graph, self.state(), unregistered(self.module), width=True)
        return tuple(group for group in units.groups if group.norms)

    @property
    def fixed(self) -> dict[str, str]:
        return {**self._static.units.fixed, **self._vanished}

    @property
    def static(self) -> Traced:
        return self._static

    def device(self) -> torch.device:
        return next((tensor.device for tensor in self.state().values()), torch.device("cpu"))

    def select(self, only: Sequence[str] = (), exclude: Sequence[str] = ()) -> tuple[Group, ...]:
        """The groups whose name, or a module that makes them, matches a pattern of `only` and none of `exclude`."""

        def matches(group: Group, patterns: Sequence[str]) -> bool:
            names = {group.name, *(site.module for site in group.producers)}
            return any(fnmatch.fnmatch(name, pattern) for name in names for pattern in patterns)

        for pattern in (*only, *exclude):
            if not any(matches(group, [pattern]) for group in self.groups):
                names = ", ".join(group.name for group in self.groups) or "none"
                raise DataError(f"The pattern {pattern!r} matches no group of units; the groups are: {names}.")
        return tuple(g for g in self.groups if (not only or matches(g, only)) and not matches(g, exclude))

    def traced(self, tensors: Sequence[Tensor]) -> Traced:
        """The graph that can be replayed with any number of rows of inputs shaped like `tensors`.

        Axes whose sizes were seen to vary (a sequence, say) stay free in one graph where the model can be traced so;
        else there is a graph for each set of sizes.
        """
        self._refuse_stale()
        key = self._key(tensors)
        if key in self._replayable:
            return self._replayable[key]
        for pattern, traced in self._flexible:
            if _fits(key, pattern):
                return traced
        varied = [_varied(key, other) for other in self._replayable]
        for free in (each for each in varied if each is not None):
            try:
                traced = self._replay_graph(tensors, free)
            except TraceError:
                continue
            self._flexible.append((_pattern(key, free), traced))
            return traced
        self._replayable[key] = self._replay_graph(tensors, [()] * len(tensors))
        return self._replayable[key]

    def _replay_graph(self, tensors: Sequence[Tensor], free: Sequence[Collection[int]]) -> Traced:
        inputs = self._call.fill(list(tensors))
        program, output, used = trace_program(self.module, Call(*inputs), self.batch_axis, free)
        traced = self._traced(program, output)
        self._check(traced, used, free)
        self._compare_units(traced)
        samples = measure_samples(traced.graph, traced.units, used, self.batch_axis, self.frozen_state())
        return replace(traced, samples=samples)

    def _key(self, tensors: Sequence[Tensor]) -> tuple[Any, ...]:
        rows = batch_size(list(tensors), self.batch_axis)
        return tuple(
            (t.dtype, tuple(-1 if a == self.batch_axis and s == rows else s for a, s in enumerate(t.shape)))
            for t in tensors
        )

    def flatten(self, inputs: Any) -> list[Tensor]:
        """The tensors of one call's inputs, on the module's device."""
        tensors, structure = take(as_call(inputs))
        if structure.count != self._call.count:
            raise DataError(
                f"The network was traced with {counted(self._call.count, 'input tensor')}, "
                f"this batch has {structure.count}."
            )
        device = self.device()
        return [tensor.to(device) for tensor in tensors]

    def _refuse_stale(self) -> None:
        shapes = {name: tuple(tensor.shape) for name, tensor in self.state().items()}
        if shapes != self._shapes:
            raise TraceError(
                f"{type(self.module).__name__} has changed since it was traced (cut in place?): trace it again."
            )

    def call(self, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of one call of the module, on its device; copies, as forward may write to them."""
        args, kwargs = self._call.fill([tensor.clone() for tensor in self.flatten(inputs)])
        return args, kwargs

    def example_call(self, tensors: Sequence[Tensor] | None = None) -> Any:
        """The inputs that the network was traced with, or a call like it with other tensors."""
        return Call(*self._call.fill(list(self.example if tensors is None else tensors)))

    def program(self) -> nn.Module:
        """The network as a program of torch.export, which runs without its class: a module whose sizes are written down
        in its graph, so that some groups can be cut there that the class's own forward cannot follow.

        Raises `TraceError` where the module cannot be exported under its own signature.
        """
        return functional(export_as_is(self.module, self.example_call(), self.batch_axis)).module()

    def replay(self, inputs: Any, state: Mapping[str, Tensor] | None = None, edits: Edits | None = None) -> Any:
        """The outputs of the graph, in the container that the module returns."""
        tensors = self.flatten(inputs)
        traced = self.traced(tensors)
        return traced.output.fill(traced.graph.run(tensors, self.frozen_state() if state is None else state, edits))

    def run_module(self, inputs: Any, module: nn.Module | None = None) -> Any:
        """The outputs of the module itself, or another with the same call, in evaluation mode; it is left as it was."""
        module = self.module if module is None else module
        args, kwargs = self.call(inputs)
        with untouched(module):
            return module(*args, **kwargs)

    def _check(self, traced: Traced, tensors: list[Tensor], free: Sequence[Collection[int]]) -> None:
        """The batch axis must be free, and graph and module must agree at 1, 2 and 3 rows."""
        name = type(self.module).__name__
        rows = batch_size(tensors, self.batch_axis)
        for node, example, axes in zip(traced.graph.inputs, tensors, free, strict=True):
            value = node.meta["val"]
            if has_rows(example, self.batch_axis, rows) and not _is_free(value.shape[self.batch_axis]):
                raise TraceError(
                    f"{name} has its batch size baked in: axis {self.batch_axis} of its inputs cannot vary"
                    f"{_suspect(traced.graph, rows)}; look for int(x.size(0)), len(x), a literal batch size or an if "
                    "on it in forward, or set batch_axis."
                )
            for axis in axes:
                if not _is_free(value.shape[axis]):
                    raise TraceError(f"{name} has the size of axis {axis} of its inputs baked in.")
        state = self.frozen_state()
        for rows in (1, 2, 3):
            index = torch.arange(rows) % batch_size(tensors, self.batch_axis)
            chosen = rows_of(tensors, self.batch_axis, index)
            args, kwargs = self._call.fill([tensor.clone() for tensor in chosen])
            try:
                with untouched(self.module):
                    expected, _ = take(self.module(*args, **kwargs), opaque=True)
                with torch.no_grad(), torch.random.fork_rng(devices=[]):
                    torch.rand(1)  # random numbers other than the module's, so that a random forward shows
                    found = traced.graph.run(chosen, state)
            except Exception as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise TraceError(
                    f"{name} fails on {counted(rows, 'row')}: {type(error).__name__}: {reason}."
                ) from error
            for ours, theirs in zip(found, expected, strict=True):
                self._compare(ours, theirs, rows)

    def _compare_units(self, traced: Traced) -> None:
        """Groups that another trace of the same module does not have cannot be gated there: they are left alone."""
        there = {group.name: group for group in traced.units.groups}
        for group in self._static.units.groups:
            other = there.get(group.name)
            if other is None or _counts(other) != _counts(group):
                self._vanished[group.name] = "it is another group when the number of rows is free"

    def _compare(self, found: Tensor, expected: Tensor, rows: int) -> None:
        name = type(self.module).__name__
        if found.shape != expected.shape:
            raise TraceError(
                f"The graph of {name} gives {tuple(found.shape)} at {counted(rows, 'row')}, the module "
                f"{tuple(expected.shape)}: its forward depends on the number of rows in a way that tracing cannot "
                "follow."
            )
        if not expected.is_floating_point():
            return
        difference = relative_difference(found, expected)
        self.difference = max(self.difference, difference)
        if not difference <= REFUSED_ABOVE:
            raise TraceError(
                f"The graph of {name} differs from the module by {difference:.1e} relative at {counted(rows, 'row')}: "
                "its forward is random in evaluation mode, or depends on the number of rows or on something else that "
                "tracing cannot see."
            )

    def __str__(self) -> str:
        return describe(type(self.module).__name__, self.groups, self.fixed)

    __repr__ = __str__


def _counts(group: Group) -> tuple[int, int, int]:
    return group.size, len(group.consumers), len(group.norms)


def _varied(key: tuple[Any, ...], other: tuple[Any, ...]) -> list[tuple[int, ...]] | None:
    """For each input, the axes along which two sets of sizes differ; None where more than sizes does."""
    if len(key) != len(other):
        return None
    free = []
    for (dtype, shape), (other_dtype, other_shape) in zip(key, other, strict=True):
        if dtype != other_dtype or len(shape) != len(other_shape):
            return None
        free.append(tuple(axis for axis in range(len(shape)) if shape[axis] != other_shape[axis]))
    return free


def _pattern(key: tuple[Any, ...], free: Sequence[Collection[int]]) -> tuple[Any, ...]:
    """A key with its free axes left open."""
    return tuple(
        (dtype, tuple(None if axis in axes else size for axis, size in enumerate(shape)))
        for (dtype, shape), axes in zip(key, free, strict=True)
    )


def _fits(key: tuple[Any, ...], pattern: tuple[Any, ...]) -> bool:
    varied = _varied(key, pattern)
    return varied is not None and all(
        pattern[place][1][axis] is None and key[place][1][axis] > 1
        for place, axes in enumerate(varied)
        for axis in axes
    )


def _suspect(graph: Graph, rows: int) -> str:
    """The first op that was given the number of rows as a number, with its line, for people."""
    for node in graph.calls:
        for arg in node.args[1:]:
            if isinstance(arg, (list, tuple)) and rows in arg:
                lines = (node.meta.get("stack_trace") or "").strip().splitlines()
                place = f", {' '.join(line.strip() for line in lines[-2:])}" if len(lines) > 1 else ""
                return f" ({where(node)}{place})"
    return "".join(f" (perhaps by {where(node)})" for node in graph.calls if not has_rule(node))[:120]


def _is_free(size: Any) -> bool:
    """Whether a traced size can be anything from 2 on."""
    if not isinstance(size, torch.SymInt):
        return False
    bounds = size.node.shape_env.bound_sympy(size.node.expr)
    return bool(bounds.lower <= 2 and bounds.upper > 2**31)


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """max |found - expected| / max |expected|; 0 for two zeros or two empty tensors.

    >>> relative_difference(torch.tensor([1.0, 2.2]), torch.tensor([1.0, 2.0]))  # doctest: +ELLIPSIS
    0.1000...
    """
    if not expected.numel():
        return 0.0
    found, expected = found.detach().double(), expected.detach().double()
    largest = expected.abs().max().item()
    if torch.equal(found.isnan(), expected.isnan()) and expected.isnan().any():
        found, expected = found.nan_to_num(), expected.nan_to_num()
        largest = expected.abs().max().item()
    difference = (found - expected).abs().max().item()
    if difference == 0:
        return 0.0
    return difference / largest if largest else float("inf")


def trace(model: nn.Module, example_inputs: Any, *, batch_axis: int = 0, width: bool = False) -> Network:
    """Trace a model into a `Network`: its graph and its groups of units.

    `example_inputs` is what the model is called with: a tensor, a tuple of positional arguments or a mapping of
    keyword arguments; one row is enough. `batch_axis` is the axis of the inputs that counts the rows. With `width`,
    LayerNorm, RMSNorm and other statistics over an axis leave its units free: the width of a residual stream. Taking
    such units off is approximate, as what is left is normalised by its own statistics. The model is left as it was:
    modes, buffers, hooks and gradients.

    Raises `TraceError` where the model cannot be traced, with the line that prevents it.

    Source: the design's "one idea", units as classes of labels on one traced graph.

    >>> from torch import nn
    >>> network = trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(1, 4))
    >>> [(group.name, group.size) for group in network.groups]
    [('0', 8)]
    """
    if not isinstance(model, nn.Module):
        raise TraceError(f"deadhead traces torch.nn.Module objects, this is a {type(model).__name__}.")
    return Network(model, example_inputs, batch_axis, width)
