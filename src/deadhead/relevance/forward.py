"""The forward pass: run a program, and record for each operation what its rule will need."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from deadhead.relevance.operations import INDICES, Key, Operation, is_key, keys_in, mapped
from deadhead.relevance.program import Program


@dataclass(frozen=True)
class Record:
    """One operation as it ran.

    `edges` are its floating-point operands, cut off from where they come from, `arguments` all of them, `made` what its
    function gave, `constants` the biases added to that, `value` the result; `fused` says that `made` has them in it.
    """

    operation: Operation
    edges: Mapping[Key, Tensor]
    arguments: Mapping[Key, Any]
    made: Tensor
    constants: tuple[Tensor, ...]
    value: Tensor
    differentiable: bool
    fused: bool = False

    @functools.cached_property
    def product(self) -> Tensor:
        """What the operation's function gives, before constants are added."""
        if not self.fused:
            return self.made
        product = self.value
        for each in self.constants:
            product = product - each
        return product

    def again(self, operands: Mapping[Key, Tensor]) -> Tensor:
        """The operation's function at other operands."""
        values = {**self.arguments, **operands}
        with torch.enable_grad():
            return self.operation.function(  # type: ignore[no-any-return]
                *mapped(self.operation.args, values.__getitem__), **mapped(self.operation.kwargs, values.__getitem__)
            )

    def edge(self, value: Tensor) -> Tensor:
        """A value cut off from where it comes from: derivatives can be taken with respect to it alone."""
        return edge(value, self.differentiable)

    def transposed(self, signal: Tensor, keys: Sequence[Key]) -> list[Tensor]:
        """The derivative of the function at its operands, transposed, times `signal`."""
        return transposed(self.made, signal, [self.edges[key] for key in keys], self.differentiable)


def edge(value: Tensor, differentiable: bool) -> Tensor:
    """A value cut off from where it comes from, or where autograd shall go through it a view of it.

    >>> edge(torch.ones(1), False).is_leaf
    True
    """
    if differentiable and value.requires_grad:
        return value.view_as(value)
    return value.detach().requires_grad_()


def transposed(made: Tensor, signal: Tensor, edges: Sequence[Tensor], differentiable: bool) -> list[Tensor]:
    """The transposed Jacobian of `made` times a signal, for each of `edges`; zero for those it does not depend on.

    >>> a = torch.ones(2, requires_grad=True)
    >>> transposed(3 * a, torch.ones(2), [a], False)
    [tensor([3., 3.])]
    """
    if not made.requires_grad or not edges:
        return [torch.zeros_like(each) for each in edges]
    found = torch.autograd.grad(
        made, list(edges), signal.to(made.dtype), retain_graph=True, create_graph=differentiable, allow_unused=True
    )
    return [torch.zeros_like(at) if each is None else each for at, each in zip(edges, found, strict=True)]


@dataclass
class Tape:
    """The values of a program for some inputs, and the records of the operations that relevance can reach."""

    program: Program
    values: dict[Any, Any]
    records: dict[Key, Record]

    def forget(self, key: Key) -> None:
        """Free what nobody asks for any more, once relevance has passed an operation."""
        del self.values[key], self.records[key]


def run(
    program: Program,
    inputs: Sequence[Tensor],
    state: Mapping[str, Tensor],
    differentiable: bool,
    unfused: Collection[Operation] = (),
    moved: Mapping[Key, Tensor] = MappingProxyType({}),
) -> Tape:
    """Run a program forward.

    Args:
        program: the operations of a graph.
        inputs: the tensors of the inputs.
        state: parameters and buffers by name.
        differentiable: whether autograd shall go through the result.
        unfused: operations that add their biases by themselves, because their rule needs what comes before them.
        moved: values for what operations give, which later ones see in place of their own.

    Returns:
        A tape: the values, and a record of each operation that relevance can reach.
    """
    graph = program.graph
    values: dict[Any, Any] = {**graph.constants, **{node: state[name] for node, name in graph.state.items()}}
    values.update(zip(graph.inputs, inputs, strict=True))
    records: dict[Key, Record] = {}
    with torch.set_grad_enabled(differentiable):
        for operation in program.operations:
            if not operation.kind or operation.key not in program.reached:
                values[operation.key] = _computed(operation, values)
            else:
                records[operation.key] = record = _recorded(
                    operation, values, program, differentiable, operation in unfused
                )
                value = moved.get(operation.key, record.value)
                values[operation.key] = value if differentiable else value.detach()
    return Tape(program, values, records)


def _computed(operation: Operation, values: Mapping[Any, Any]) -> Any:
    value = operation.function(
        *mapped(operation.args, values.__getitem__), **mapped(operation.kwargs, values.__getitem__)
    )
    for each in operation.additive:
        value = value + each.place(_constant(each.source, values, value))
    return value


def _constant(source: Any, values: Mapping[Any, Any], like: Tensor) -> Tensor:
    value = values[source] if is_key(source) else source
    if isinstance(value, Tensor):
        return value
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def _recorded(
    operation: Operation, values: Mapping[Any, Any], program: Program, differentiable: bool, unfused: bool
) -> Record:
    edges = {}
    for key in (*operation.live, *operation.detached, *operation.fixed):
        value = values[key]
        if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
            edges[key] = edge(value, differentiable)
        elif program.status_of(key) == INDICES and operation.kind == "movement":
            edges[key] = torch.zeros(value.shape, dtype=torch.float64, device=value.device).requires_grad_()
    with torch.enable_grad():
        arguments = {key: values[key] for key in _keys(operation)}
        found = {**arguments, **edges}
        args, kwargs = mapped(operation.args, found.__getitem__), mapped(operation.kwargs, found.__getitem__)
        fused = operation.fused is not None and not unfused
        if operation.fused is not None and not unfused:
            made = operation.fused([values[each.source] for each in operation.additive], *args, **kwargs)
        else:
            made = operation.function(*args, **kwargs)
    value, constants = made, []
    if operation.key is not None and program.status_of(operation.key) == INDICES:
        value = operation.function(
            *mapped(operation.args, values.__getitem__), **mapped(operation.kwargs, values.__getitem__)
        )
    with torch.set_grad_enabled(differentiable):
        for each in operation.additive:
            constants.append(each.place(_constant(each.source, values, made)))
            value = value if fused else value + constants[-1]
    return Record(operation, edges, arguments, made, tuple(constants), value, differentiable, fused)


def _keys(operation: Operation) -> set[Key]:
    return set(keys_in([list(operation.args), operation.kwargs]))
