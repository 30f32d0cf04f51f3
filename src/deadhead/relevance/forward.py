"""A replay of a plan that keeps, for each step, what its rule will need."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from deadhead.relevance.plan import Plan
from deadhead.relevance.steps import INDICES, Key, Step, is_key, keys_in, mapped


@dataclass(frozen=True)
class Record:
    """One step as it ran: `edges` its floating-point operands, cut off from where they come from, `made` what depends
    on them, `constants` what was added, `value` the result; `fused` says that `made` has the constants in it."""

    step: Step
    edges: Mapping[Key, Tensor]
    arguments: Mapping[Key, Any]
    made: Tensor
    constants: tuple[Tensor, ...]
    value: Tensor
    differentiable: bool
    fused: bool = False

    @functools.cached_property
    def product(self) -> Tensor:
        """What the step's function gives, before constants are added."""
        if not self.fused:
            return self.made
        product = self.value
        for each in self.constants:
            product = product - each
        return product

    def again(self, operands: Mapping[Key, Tensor]) -> Tensor:
        """The step's function at other operands."""
        values = {**self.arguments, **operands}
        with torch.enable_grad():
            return self.step.function(  # type: ignore[no-any-return]
                *mapped(self.step.args, values.__getitem__), **mapped(self.step.kwargs, values.__getitem__)
            )

    def edge(self, value: Tensor) -> Tensor:
        """A value cut off from where it comes from: derivatives can be taken with respect to it alone."""
        return edge(value, self.differentiable)

    def transposed(self, signal: Tensor, keys: Sequence[Key]) -> list[Tensor]:
        """The derivative of the function at its operands, transposed, times `signal`."""
        return transposed(self.made, signal, [self.edges[key] for key in keys], self.differentiable)


def edge(value: Tensor, differentiable: bool) -> Tensor:
    if differentiable and value.requires_grad:
        return value.view_as(value)
    return value.detach().requires_grad_()


def transposed(made: Tensor, signal: Tensor, edges: Sequence[Tensor], differentiable: bool) -> list[Tensor]:
    """`J^T signal` for each of `edges`, zero for those that `made` does not depend on."""
    if not made.requires_grad or not edges:
        return [torch.zeros_like(each) for each in edges]
    found = torch.autograd.grad(
        made, list(edges), signal.to(made.dtype), retain_graph=True, create_graph=differentiable, allow_unused=True
    )
    return [torch.zeros_like(at) if each is None else each for at, each in zip(edges, found, strict=True)]


@dataclass
class Tape:
    """The values of a plan for some inputs, and the records of the steps that relevance can reach."""

    plan: Plan
    values: dict[Any, Any]
    records: dict[Key, Record]

    def forget(self, key: Key) -> None:
        """Free what nobody asks for any more, once relevance has passed a step."""
        del self.values[key], self.records[key]


def run(
    plan: Plan,
    inputs: Sequence[Tensor],
    state: Mapping[str, Tensor],
    differentiable: bool,
    apart: Collection[Step] = (),
    moved: Mapping[Key, Tensor] = MappingProxyType({}),
) -> Tape:
    """Replay the plan on `inputs`; the steps `apart` add their constants by themselves, and what follows those in
    `moved` sees these values."""
    graph = plan.graph
    values: dict[Any, Any] = {**graph.constants, **{node: state[name] for node, name in graph.state.items()}}
    values.update(zip(graph.inputs, inputs, strict=True))
    records: dict[Key, Record] = {}
    with torch.set_grad_enabled(differentiable):
        for step in plan.steps:
            if not step.kind or step.key not in plan.reached:
                values[step.key] = _computed(step, values)
            else:
                records[step.key] = record = _recorded(step, values, plan, differentiable, step in apart)
                value = moved.get(step.key, record.value)
                values[step.key] = value if differentiable else value.detach()
    return Tape(plan, values, records)


def _computed(step: Step, values: Mapping[Any, Any]) -> Any:
    value = step.function(*mapped(step.args, values.__getitem__), **mapped(step.kwargs, values.__getitem__))
    for each in step.additive:
        value = value + each.place(_constant(each.source, values, value))
    return value


def _constant(source: Any, values: Mapping[Any, Any], like: Tensor) -> Tensor:
    value = values[source] if is_key(source) else source
    if isinstance(value, Tensor):
        return value
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def _recorded(step: Step, values: Mapping[Any, Any], plan: Plan, differentiable: bool, apart: bool) -> Record:
    edges = {}
    for key in (*step.live, *step.loose, *step.still):
        value = values[key]
        if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
            edges[key] = edge(value, differentiable)
        elif plan.status_of(key) == INDICES and step.kind == "movement":
            edges[key] = torch.zeros(value.shape, dtype=torch.float64, device=value.device).requires_grad_()
    with torch.enable_grad():
        arguments = {key: values[key] for key in _keys(step)}
        found = {**arguments, **edges}
        args, kwargs = mapped(step.args, found.__getitem__), mapped(step.kwargs, found.__getitem__)
        fused = step.fused is not None and not apart
        if step.fused is not None and not apart:
            made = step.fused([values[each.source] for each in step.additive], *args, **kwargs)
        else:
            made = step.function(*args, **kwargs)
    value, constants = made, []
    if step.key is not None and plan.status_of(step.key) == INDICES:
        value = step.function(*mapped(step.args, values.__getitem__), **mapped(step.kwargs, values.__getitem__))
    with torch.set_grad_enabled(differentiable):
        for each in step.additive:
            constants.append(each.place(_constant(each.source, values, made)))
            value = value if fused else value + constants[-1]
    return Record(step, edges, arguments, made, tuple(constants), value, differentiable, fused)


def _keys(step: Step) -> set[Key]:
    return set(keys_in([list(step.args), step.kwargs]))
