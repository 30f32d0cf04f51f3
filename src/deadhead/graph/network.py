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
from deadhead.graph.agreement import check_free_axes, difference_from_module
from deadhead.graph.describe import describe
from deadhead.graph.graph import Edits, Graph, functional
from deadhead.graph.pytree import Call, Structure, as_call, take
from deadhead.graph.samples import SampleLayouts, measure_samples
from deadhead.graph.sizes import InputSizes, fits_pattern, sizes_of, varying_axes, with_free_axes
from deadhead.graph.trace import PREFIX, export_as_is, trace_program, untouched
from deadhead.graph.units.groups import Group, Units, find_units
from deadhead.graph.unregistered import unregistered
from deadhead.text import counted


@dataclass(frozen=True)
class Traced:
    """One graph of the network, with its units.

    Attributes:
        graph: the graph.
        units: the groups of units, why other axes are fixed, and the labels.
        output: the structure of what the module returns.
        samples: where the samples lie in each tensor.
        read: the same with the groups at their consumers, where the groups here are at their producers.
        cache: results that other modules have computed from the graph once.
    """

    graph: Graph
    units: Units
    output: Structure
    samples: SampleLayouts = field(default_factory=lambda: SampleLayouts({}, False))
    read: Traced | None = None
    cache: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @functools.cached_property
    def at_producers(self) -> Traced:
        """The same graph with every group at its producers: their raw outputs stand for what consumers read."""
        groups = tuple(group.at_producers() for group in self.units.groups)
        return replace(self, units=replace(self.units, groups=groups), read=self)

    def group(self, name: str) -> Group:
        """The group of that name; raises `DataError` where there is none."""
        for group in self.units.groups:
            if group.name == name:
                return group
        names = ", ".join(group.name for group in self.units.groups) or "none"
        raise DataError(f"There is no group {name!r}; the groups are {names}.")


class Network:
    """A module with its traced graph and its groups of units; made by `trace`. Printed, it is a table of the groups.

    Attributes:
        module: the user's module, which is not touched.
        batch_axis: the axis of the inputs along which the samples lie.
        width: whether axes that a normalisation goes over, such as the width of a residual stream, may be pruned.
        groups: the groups of units, in forward order.
        fixed: {module whose outputs cannot be pruned: the reason}.
        difference: the largest relative difference seen between the outputs of module and graph.

    Example:
        >>> network = trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(1, 4))
        >>> [(group.name, group.size, group.kind) for group in network.groups]
        [('0', 8, 'unit')]
        >>> network.replay(torch.zeros(3, 4)).shape
        torch.Size([3, 2])
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
        self._replayable: dict[InputSizes, Traced] = {}
        self._flexible: list[tuple[InputSizes, Traced]] = []
        self._left_alone: dict[str, str] = {}
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
        """Parameters and buffers by name, detached: a replay with them leaves no gradients behind."""
        return {name: tensor.detach() for name, tensor in self.state().items()}

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of units that can be pruned, in forward order."""
        return tuple(group for group in self._static.units.groups if group.name not in self._left_alone)

    def freed_by_width(self) -> tuple[Group, ...]:
        """The groups that `trace(..., width=True)` would free: those over which a normalisation goes."""
        if self.width:
            return ()
        units = find_units(self._static.graph, self.state(), unregistered(self.module), width=True)
        return tuple(group for group in units.groups if group.norms)

    @property
    def fixed(self) -> dict[str, str]:
        """{module or group that cannot be pruned: the reason}."""
        return {**self._static.units.fixed, **self._left_alone}

    @property
    def static(self) -> Traced:
        """The graph whose sizes are all fixed, with the groups that it was traced with."""
        return self._static

    def device(self) -> torch.device:
        """The device of the module's first tensor; the CPU where it has none."""
        return device_of(self.module)

    def select(self, only: Sequence[str] = (), exclude: Sequence[str] = ()) -> tuple[Group, ...]:
        """The groups whose name, or a module that makes them, matches a pattern of `only` and none of `exclude`.

        Args:
            only: shell patterns such as `layer1.*`; without any, all groups match.
            exclude: shell patterns.

        Raises:
            DataError: where a pattern matches no group.
        """

        def matches(group: Group, patterns: Sequence[str]) -> bool:
            names = {group.name, *(site.module for site in group.producers)}
            return any(fnmatch.fnmatch(name, pattern) for name in names for pattern in patterns)

        for pattern in (*only, *exclude):
            if not any(matches(group, [pattern]) for group in self.groups):
                names = ", ".join(group.name for group in self.groups) or "none"
                raise DataError(f"The pattern {pattern!r} matches no group of units; the groups are: {names}.")
        return tuple(g for g in self.groups if (not only or matches(g, only)) and not matches(g, exclude))

    def prepare(self, inputs: Any) -> Network:
        """Make the graph that replays inputs like these, and return the network.

        Groups that are not the same in that graph as in the first one cannot be gated there. They are left alone from
        then on: `groups` no longer has them, and `fixed` says why.

        Args:
            inputs: what the module is called with; the number of samples does not matter.

        Raises:
            TraceError: where the module cannot be traced with a free batch axis, or computes something else than its
                graph.
        """
        self.traced(self.flatten(inputs))
        return self

    def traced(self, tensors: Sequence[Tensor]) -> Traced:
        """The graph that can be replayed with any number of samples of inputs shaped like `tensors`; made where there
        is none yet, as `prepare` does.

        Axes whose sizes were seen to vary (a sequence, say) are free in one graph where the model can be traced so;
        else there is a graph for each set of sizes.
        """
        self._refuse_stale()
        sizes = sizes_of(tensors, self.batch_axis)
        if sizes in self._replayable:
            return self._replayable[sizes]
        for pattern, traced in self._flexible:
            if fits_pattern(sizes, pattern):
                return traced
        varied = [varying_axes(sizes, other) for other in self._replayable]
        for free in (each for each in varied if each is not None):
            try:
                traced = self._replay_graph(tensors, free)
            except TraceError:
                continue
            self._flexible.append((with_free_axes(sizes, free), traced))
            return traced
        self._replayable[sizes] = self._replay_graph(tensors, [()] * len(tensors))
        return self._replayable[sizes]

    def _replay_graph(self, tensors: Sequence[Tensor], free: Sequence[Collection[int]]) -> Traced:
        inputs = self._call.fill(list(tensors))
        program, output, used = trace_program(self.module, Call(*inputs), self.batch_axis, free)
        traced, state = self._traced(program, output), self.frozen_state()
        check_free_axes(traced.graph, used, free, self.batch_axis, type(self.module).__name__)
        difference = difference_from_module(traced.graph, state, self.module, self._call, used, self.batch_axis)
        self.difference = max(self.difference, difference)
        self._leave_alone_but(traced)
        samples = measure_samples(traced.graph, traced.units, used, self.batch_axis, state)
        return replace(traced, samples=samples)

    def flatten(self, inputs: Any) -> list[Tensor]:
        """The tensors of one call's inputs, on the module's device; raises `DataError` where they are more or fewer
        than the network was traced with."""
        tensors, structure = take(as_call(inputs))
        if structure.count != self._call.count:
            raise DataError(
                f"The network was traced with {counted(self._call.count, 'input tensor')}, and this batch has "
                f"{structure.count}: give batches like the example inputs."
            )
        device = self.device()
        return [tensor.to(device) for tensor in tensors]

    @property
    def is_stale(self) -> bool:
        """Whether the module has other parameters than when it was traced, as after a cut in place."""
        return {name: tuple(tensor.shape) for name, tensor in self.state().items()} != self._shapes

    def _refuse_stale(self) -> None:
        if self.is_stale:
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
        """Export the network as a module that runs without its class.

        Its sizes are written down in its graph, so that some groups can be cut there that the class's own forward
        cannot follow.

        Raises:
            TraceError: where the module cannot be exported under its own signature.
        """
        return functional(export_as_is(self.module, self.example_call(), self.batch_axis)).module()

    def replay(self, inputs: Any, state: Mapping[str, Tensor] | None = None, edits: Edits | None = None) -> Any:
        """Run the graph: its outputs, in the container that the module returns.

        Args:
            inputs: what the module is called with, any number of samples.
            state: parameters and buffers by name; by default the module's own.
            edits: what the replay does differently at some nodes.
        """
        tensors = self.flatten(inputs)
        traced = self.traced(tensors)
        return traced.output.fill(traced.graph.run(tensors, self.frozen_state() if state is None else state, edits))

    def run_module(self, inputs: Any, module: nn.Module | None = None) -> Any:
        """Run the module itself, or another with the same call, in evaluation mode; it is left as it was."""
        module = self.module if module is None else module
        args, kwargs = self.call(inputs)
        with untouched(module):
            return module(*args, **kwargs)

    def _leave_alone_but(self, traced: Traced) -> None:
        """Leave alone the groups that are not the same in another trace of the module: they cannot be gated there."""
        there = {group.name: group for group in traced.units.groups}
        for group in self._static.units.groups:
            other = there.get(group.name)
            if other is None or _counts(other) != _counts(group):
                self._left_alone[group.name] = "it is another group when the number of samples varies"

    def __str__(self) -> str:
        return describe(type(self.module).__name__, self.groups, self.fixed)

    __repr__ = __str__


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's first tensor; the CPU where it has none."""
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))


def _counts(group: Group) -> tuple[int, int, int]:
    return group.size, len(group.consumers), len(group.norms)


def trace(model: nn.Module, example_inputs: Any, *, batch_axis: int = 0, width: bool = False) -> Network:
    """Trace a model into a `Network`: its graph and its groups of units that can be pruned.

    The model is left as it was: modes, buffers, hooks and gradients.

    Args:
        model: any module that torch.export can trace.
        example_inputs: what the model is called with: a tensor, a tuple of positional arguments or a mapping of
            keyword arguments; one sample is enough.
        batch_axis: the axis of the inputs along which the samples lie.
        width: whether units may be pruned over which LayerNorm, RMSNorm or another statistic goes: the width of a
            residual stream. That is approximate, as what remains is normalised by its own statistics.

    Returns:
        `Network`, which `deadhead.prune`, `deadhead.score` and others take in place of a model.

    Raises:
        TraceError: where the model cannot be traced, with the line that prevents it.

    Example:
        >>> network = trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(1, 4))
        >>> [(group.name, group.size) for group in network.groups]
        [('0', 8)]
    """
    if not isinstance(model, nn.Module):
        raise TraceError(
            f"deadhead traces torch.nn.Module objects, and this is a {type(model).__name__}: give the model itself."
        )
    return Network(model, example_inputs, batch_axis, width)
