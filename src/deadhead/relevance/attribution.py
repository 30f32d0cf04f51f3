"""One attribution: forward pass, backward pass, and what comes out; for each sample by itself where need be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.errors import RelevanceError
from deadhead.graph.network import Network, Traced
from deadhead.graph.pytree import Structure, take
from deadhead.graph.trace import batch_size, rows_of
from deadhead.relevance.backward import BackwardPass
from deadhead.relevance.composite import Composite
from deadhead.relevance.forward import Tape, edge, run
from deadhead.relevance.operations import Key
from deadhead.relevance.program import Program
from deadhead.relevance.result import Cut, Relevance
from deadhead.relevance.samples import Layouts, TogetherError, by_sample, layouts
from deadhead.relevance.signals import Signal
from deadhead.relevance.target import Target, explained


@dataclass(frozen=True)
class AttributionBatch:
    """Samples that are explained at once: their tensors and those of the baseline, the target of each, where the
    samples lie in the values of the graph, and how many there are."""

    tensors: list[Tensor]
    base: list[Tensor] | None
    target: Target
    layouts: Layouts
    rows: int


@dataclass(frozen=True)
class Attribution:
    """One call of `attribute`: the network, its program, and what was asked for."""

    network: Network
    traced: Traced
    program: Program
    method: str
    unknown: str | None
    cuts: bool
    layers: Mapping[str, Key]
    structure: Structure

    def explain(
        self, tensors: list[Tensor], base: list[Tensor] | None, target: Target, composite: Composite
    ) -> Relevance:
        """Relevance by a composite."""
        return self.together(lambda batch: self.once(batch, composite), tensors, base, target)

    def together(
        self,
        explain: Callable[[AttributionBatch], Relevance],
        tensors: list[Tensor],
        base: list[Tensor] | None,
        target: Target,
    ) -> Relevance:
        """`explain` for the whole batch, or for each sample where their entries cannot be told apart."""
        axis = self.network.batch_axis
        rows = batch_size(tensors, axis)
        where_samples_lie = layouts(self.network, self.traced, tensors) if rows > 1 else {}
        try:
            return explain(AttributionBatch(tensors, base, target, where_samples_lie, rows))
        except TogetherError:
            if rows == 1:
                raise
        found = []
        for row in range(rows):
            index = torch.tensor([row])
            own, its = rows_of(tensors, axis, index), None if base is None else rows_of(base, axis, index)
            one = target[row] if isinstance(target, Tensor) and target.dim() else target
            found.append(explain(AttributionBatch(own, its, one, {}, 1)))
        return joined(found, axis)

    def once(
        self,
        batch: AttributionBatch,
        composite: Composite,
        moved: Mapping[Key, Tensor] = MappingProxyType({}),
        factors: Mapping[Key, Tensor] = MappingProxyType({}),
    ) -> Relevance:
        """One forward and one backward pass.

        Args:
            batch: the samples.
            composite: which rule stands where.
            moved: values to go on with in place of what embeddings give.
            factors: what the relevance at an embedding is multiplied by before it is summed to that of its id.
        """
        state, differentiable = self.state(batch.tensors)
        with torch.set_grad_enabled(differentiable):
            rules = composite.choose(self.program)
            unfused = {operation for operation, rule in rules.items() if rule.unfused}
            tape = run(self.program, batch.tensors, state, differentiable, unfused, moved)
            base_tape = None if batch.base is None else run(self.program, batch.base, state, differentiable, unfused)
            back = BackwardPass(tape, base_tape, rules, batch.layouts, batch.rows, self.unknown, factors)
            output, starts, chosen = self._start(batch, composite, back, differentiable)
            back.run(starts, set(self.layers.values()), self.cuts, output)
            if composite.constants == "all" and back.biases:
                back.biases = {"one": torch.stack([by_sample(each) for each in back.biases.values()]).sum(0)}
            return self._result(batch.tensors, back, output, chosen)

    def state(self, tensors: Sequence[Tensor]) -> tuple[Mapping[str, Tensor], bool]:
        """Parameters and buffers by name, and whether autograd shall go through the result to them."""
        state = self.network.state()
        wanted = any(each.requires_grad for each in (*tensors, *state.values()))
        if torch.is_grad_enabled() and wanted:
            return state, True
        return self.network.frozen_state(), False

    def _start(
        self, batch: AttributionBatch, composite: Composite, back: BackwardPass, differentiable: bool
    ) -> tuple[Tensor, dict[Key, Signal], Tensor | None]:
        """The explained value, what stands at the outputs (the derivative of that value by them), and its index."""
        fill = self.traced.output.fill
        filled, edges = self._outputs(back.tape, differentiable)
        with torch.enable_grad():
            choose, chosen = explained(batch.target, fill(filled), batch.rows)
            value = choose(fill(filled))
            if not edges or not value.requires_grad:
                raise RelevanceError(
                    "The target does not depend on the inputs, so that there is nothing to explain; choose another."
                )
            found = torch.autograd.grad(
                value.sum(), list(edges.values()), create_graph=differentiable, retain_graph=True, allow_unused=True
            )
        pairs = {key: each for key, each in zip(edges, found, strict=True) if each is not None}
        output = value if differentiable else value.detach()
        if back.base_tape is not None:
            with torch.enable_grad():
                reference, others = self._outputs(back.base_tape, differentiable)
                less = choose(fill(reference))
                its = torch.autograd.grad(
                    less.sum(), [others[key] for key in pairs], create_graph=differentiable, allow_unused=True
                )
            pairs = {
                key: each if other is None else (each + other) / 2
                for (key, each), other in zip(pairs.items(), its, strict=True)
            }
            output = output - (less if differentiable else less.detach())
        starts: dict[Key, Signal] = {key: Signal(each, composite.start) for key, each in pairs.items()}
        if composite.start == "Q" and callable(batch.target):
            back.remain(output, starts)
        return output, starts, chosen

    def _outputs(self, tape: Tape, differentiable: bool) -> tuple[list[Any], dict[Key, Tensor]]:
        """The outputs of the graph, and those among them that carry relevance, cut off from where they come from."""
        outputs = self.traced.graph.outputs
        values = {each: tape.values[each] for each in outputs if isinstance(each, fx.Node)}
        edges: dict[Key, Tensor] = {
            key: edge(value, differentiable)
            for key, value in values.items()
            if self.program.is_live(key) and value.is_floating_point()
        }
        filled = [edges.get(each, values.get(each)) if isinstance(each, fx.Node) else each for each in outputs]
        return filled, edges

    def _result(
        self, tensors: Sequence[Tensor], back: BackwardPass, output: Tensor, chosen: Tensor | None
    ) -> Relevance:
        nothing = torch.zeros_like(output)
        absorbed = nothing if back.absorbed is None else back.absorbed
        found, residual = [], output - absorbed
        for node, tensor in zip(self.traced.graph.inputs, tensors, strict=True):
            dtype = tensor.dtype if tensor.is_floating_point() else output.dtype
            none = torch.zeros(tensor.shape, dtype=dtype, device=tensor.device)
            found.append(back.relevance(node) if node in back.signals else none)
            if node in back.signals:
                residual = residual - back.total(found[-1], node)
        for each in back.biases.values():
            residual = residual - by_sample(each)
        layers = {
            name: back.layers[key] if key in back.layers else torch.zeros_like(back.tape.values[key])
            for name, key in self.layers.items()
        }
        return Relevance(
            self.structure.fill(found), back.biases, layers, absorbed, residual, output, back.cuts, tuple(back.unknown),
            self.structure.fill([each.detach() for each in tensors]), chosen, self.network.batch_axis, self.method,
        )  # fmt: skip


def joined(found: Sequence[Relevance], axis: int) -> Relevance:
    """The results of single samples as one."""
    parts = [take(each.inputs) for each in found]
    givens = [take(each.given)[0] for each in found]
    inputs = [
        torch.cat(tensors, axis) if tensors[0].dim() > axis else tensors[0]
        for tensors in zip(*(tensors for tensors, _ in parts), strict=True)
    ]
    names = list(dict.fromkeys(name for each in found for name in each.biases))
    biases = {}
    for name in names:
        like = next(each.biases[name] for each in found if name in each.biases)
        biases[name] = torch.cat([each.biases.get(name, torch.zeros_like(like)) for each in found])
    cuts = {
        name: Cut(*(torch.cat([getattr(each.cuts[name], part) for each in found]) for part in ("residual", "size")))
        for name in found[0].cuts
        if all(name in each.cuts for each in found)
    }
    absorbed, residual, output = (
        torch.cat([getattr(each, name) for each in found]) for name in ("absorbed", "residual", "output")
    )
    layers = {name: torch.cat([each.layers[name] for each in found], axis) for name in found[0].layers}
    unknown = tuple(dict.fromkeys(name for each in found for name in each.unknown))
    given = [torch.cat(each, axis) if each[0].dim() > axis else each[0] for each in zip(*givens, strict=True)]
    targets = [each.target for each in found if each.target is not None]
    target = torch.cat(targets) if len(targets) == len(found) else None
    fill = parts[0][1].fill
    return Relevance(
        fill(inputs), biases, layers, absorbed, residual, output, cuts, unknown, fill(given), target, axis,
        found[0].method,
    )  # fmt: skip
