"""Backpropagation of second derivatives: first derivatives and the diagonal of the Hessian, backward over the graph."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.data.calibration import Batch
from deadhead.errors import DataError, LossError
from deadhead.gates.gates import Gates
from deadhead.graph.graph import Edits, Graph
from deadhead.graph.network import Traced
from deadhead.graph.nodes import op_name, where
from deadhead.graph.units.groups import Group
from deadhead.scores.second_order.derivatives import derivatives, twice
from deadhead.scores.second_order.recursion_rules import (
    RULES,
    SOFTMAX,
    Step,
    as_list,
    check,
    copied,
    leaf_places,
    placed,
    refusal,
    rule_of,
)

MOST_PROBES = 4096
"""The maximum number of products with the loss's own Hessian that its diagonal may take."""

SEPARABLE = frozenset(
    {
        "squared_error", "mse", "binary_cross_entropy", "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss",
        "BCEWithLogitsLoss",
    }
)  # fmt: skip
"""The losses whose Hessian in the outputs is diagonal."""

OVER_CLASSES = frozenset({"cross_entropy", "CrossEntropyLoss"})
"""The losses whose Hessian in the outputs couples the classes of one position, and nothing else."""

Visit = Callable[[Group, int, Tensor, Tensor, Tensor], None]


def curvatures(gates: Gates, groups: Sequence[Group], batch: Batch, visit: Visit) -> Tensor:
    """Compute first derivatives and the diagonal of the Hessian by activations: one forward pass and two backward.

    From the outputs backward, with y = f(x), `g = d(sum_n L_n)/da` and `h` the diagonal of the second derivatives:

    - at the outputs, `h = d2L_n/do^2`, the exact diagonal, whatever the loss;
    - at elementwise ops, `h_x = f'(x)^2 h_y + f''(x) g_y`, f' and f'' by autograd on the op itself (eq. 73);
    - at ops that are linear in x, `h_x[j] = sum_i W[i, j]^2 h_y[i]` with W their coefficients (eq. 66);
    - where an activation is read several times, the sum.

    A softmax or log-softmax that only the outputs read belongs to the loss.

    Args:
        gates: the network and its loss.
        groups: whose consumers are visited.
        batch: the data.
        visit: called as `visit(group, consumer index, a, g, h)` for each consumer of `groups`, with the activation `a`
            that it reads, and `g` and `h` through that consumer alone, in the activation's shape.

    Returns:
        `L_n`, shape (samples,).

    Raises:
        DataError: at an op that has no such rule.
        LossError: where the loss is not finite.

    Source: Wolfe et al. (2016), appendix A.
    """
    batch = batch.to(gates.network.device())
    tensors, traced = gates.traced(batch)
    tape = _Tape(gates, traced, [traced.group(group.name) for group in groups])
    tape.forward(tensors)
    losses = tape.start(batch)
    tape.backward(visit)
    return losses


class _Tape:
    """The ops between the gates and the outputs: run forward with a graph of autograd for each, then backward."""

    def __init__(self, gates: Gates, traced: Traced, groups: Sequence[Group]) -> None:
        self.gates, self.traced, self.graph = gates, traced, traced.graph
        self.edits = gates.edits(traced, {})
        self.bare = Edits(made=self.edits.made, around=self.edits.around)
        self.sites: dict[tuple[fx.Node, int], list[tuple[Group, int]]] = {}
        for group in groups:
            for site in group.norms:
                raise refusal(site.node, "takes statistics over the units")
            for index, site in enumerate(group.consumers):
                self.sites.setdefault((site.node, site.position), []).append((group, index))
        self.gated = {node for node, _ in self.sites}
        self.ends, self.tail = _ends(self.graph, self.gated)
        self.values: dict[fx.Node, Any] = {}
        self.carries: set[fx.Node] = set()
        self.origin: dict[fx.Node, tuple[fx.Node, int]] = {}
        self.steps: list[Step] = []
        self.found: dict[tuple[fx.Node, int], tuple[Tensor, Tensor]] = {}

    def forward(self, tensors: Sequence[Tensor]) -> None:
        graph, values = self.graph, self.values
        values.update(zip(graph.inputs, tensors, strict=True))
        values.update(graph.constants)
        values.update((node, self.gates.state[name]) for node, name in graph.state.items())
        for node in graph.calls:
            if node in self.tail:
                continue
            moved = node in self.gated or any(arg in self.carries for arg in node.all_input_nodes)
            if not moved:
                with torch.no_grad():
                    values[node] = graph.step(node, values, self.edits)
            elif node.target is operator.getitem:
                source, index = node.args[0], node.args[1]
                assert isinstance(source, fx.Node)
                assert isinstance(index, int)
                values[node] = values[source][index]
                self.origin[node] = (source, index)
                if values[node].is_floating_point():
                    self.carries.add(node)
            else:
                with torch.enable_grad():
                    self._record(node)

    def _record(self, node: fx.Node) -> None:
        args: list[Any] = [fx.node.map_arg(arg, self.values.__getitem__) for arg in node.args]
        kwargs = {key: fx.node.map_arg(arg, self.values.__getitem__) for key, arg in node.kwargs.items()}
        step = Step(node, args, kwargs, lambda args, kwargs: self.graph.apply(node, args, kwargs, self.bare))
        edits, entries = self.edits.read.get(node, {}), {}
        for position, (source, value) in enumerate(zip(leaf_places(node.args), leaf_places(args), strict=True)):
            if not isinstance(value, Tensor) or not value.is_floating_point():
                if position in edits:
                    entries[position] = edits[position](value)
                continue
            carries, edit = source in self.carries, edits.get(position)
            if edit is not None:
                raw = value.detach().requires_grad_()
                value = edit(raw)
                step.read[position] = (raw, value)
            if carries or (node, position) in self.sites:
                entries[position] = step.leaves[position] = value.detach().requires_grad_()
                if carries:
                    step.sources[position] = source
            elif edit is not None:
                entries[position] = value.detach()
        if any(isinstance(arg, fx.Node) and arg in self.carries for arg in node.kwargs.values()):
            raise refusal(node, "reads an activation by name")
        step.args = placed(args, entries)
        made = step.function(step.args, kwargs)
        step.made = as_list(made)
        if any(isinstance(each, Tensor) and each.requires_grad for each in step.made):
            check(step)
            self.carries.add(node)
            self.steps.append(step)
        plain = [each.detach() if isinstance(each, Tensor) else each for each in step.made]
        self.values[node] = plain if isinstance(made, (tuple, list)) else plain[0]

    def start(self, batch: Batch) -> Tensor:
        """g and h at the outputs; returns the losses."""
        values, loss = dict(self.values), self.gates.loss_function
        ends = {end: values[end].detach().requires_grad_() for end in self.ends if end in self.carries}
        values.update(ends)
        with torch.enable_grad(), twice():
            for node in self.graph.calls:
                if node in self.tail:
                    values[node] = self.graph.step(node, values, self.bare)
            outputs = [values[out] if isinstance(out, fx.Node) else out for out in self.graph.outputs]
            losses = loss.per_sample(self.traced.output.fill(outputs), batch)
            if not torch.isfinite(losses).all():
                raise LossError(f"The loss {loss.name} is not finite on this data; nothing can be decided by it.")
            gradients = derivatives(losses.sum(), list(ends.values()), create_graph=True)
            for (node, value), gradient in zip(ends.items(), gradients, strict=True):
                second = self._diagonal(node, value, gradient, batch)
                self._add(node, gradient.detach(), second)
        return losses.detach()

    def _diagonal(self, node: fx.Node, value: Tensor, gradient: Tensor, batch: Batch) -> Tensor:
        """The diagonal of the loss's Hessian by an output: entries that no loss couples are asked for at once."""
        diagonal, one = torch.zeros_like(value), torch.zeros_like(value)
        if not gradient.requires_grad:
            return diagonal
        for index in self._probes(node, value, batch):
            one.zero_()[index] = 1
            product = torch.autograd.grad(gradient, value, one, retain_graph=True, allow_unused=True)[0]
            if product is not None:
                diagonal[index] = product[index]
        return diagonal

    def _probes(self, node: fx.Node, value: Tensor, batch: Batch) -> list[tuple[Any, ...]]:
        """Sets of entries between which the Hessian of the summed loss is zero, as indices, that cover all."""
        loss, everything, shape = self.gates.loss_function, slice(None), tuple(value.shape)
        known = loss.is_rowwise and not self.tail
        if known and loss.name in SEPARABLE:
            return [(...,)]
        if not shape or shape[0] != batch.rows:
            raise DataError(
                f"taylor2 needs outputs with a row for each sample, and {where(node)} gives shape {shape} for "
                f"{batch.rows} samples; choose taylor1 or taylor2_exact."
            )
        if known and loss.name in OVER_CLASSES:
            axis = _class_axis(shape, batch)
            probes = [(*[everything] * axis, each) for each in range(shape[axis])]
        elif math.prod(shape[1:]) <= MOST_PROBES:
            probes = [(everything, *each) for each in itertools.product(*map(range, shape[1:]))]
        else:
            probes = []
        if not 0 < len(probes) <= MOST_PROBES:
            raise DataError(
                f"taylor2 takes a product with the loss's Hessian for each output of a sample, and {where(node)} gives "
                f"shape {shape}, more than {MOST_PROBES:,}; choose taylor1 or taylor2_gauss_newton."
            )
        return probes

    def _add(self, node: fx.Node, first: Tensor, second: Tensor) -> None:
        place = self.origin.get(node, (node, 0))
        have = self.found.get(place)
        self.found[place] = (first, second) if have is None else (have[0] + first, have[1] + second)

    def backward(self, visit: Visit) -> None:
        while self.steps:
            step = self.steps.pop()
            pairs = [self.found.pop((step.node, index), None) for index in range(len(step.made))]
            if all(pair is None for pair in pairs):
                continue
            with torch.enable_grad(), twice():
                firsts, seconds = rule_of(step.node)(
                    step, [pair and pair[0] for pair in pairs], [pair and pair[1] for pair in pairs]
                )
            for (position, leaf), first, second in zip(step.leaves.items(), firsts, seconds, strict=True):
                for group, index in self.sites.get((step.node, position), ()):
                    visit(group, index, leaf.detach(), first, second)
                if position not in step.sources:
                    continue
                if position in step.read:
                    raw, value = step.read[position]
                    slope = torch.autograd.grad(value, raw, torch.ones_like(value), retain_graph=True)[0]
                    first, second = slope * first, slope.square() * second
                self._add(step.sources[position], first, second)


def _class_axis(shape: tuple[int, ...], batch: Batch) -> int:
    """Where cross-entropy's classes lie in outputs of this shape: last for mappings, else second."""
    targets = tuple(batch.targets.shape)
    last, second = targets == shape[:-1], targets == shape[:1] + shape[2:]
    from_mapping = isinstance(batch.raw, Mapping)
    return len(shape) - 1 if last and len(shape) > 2 and (not second or from_mapping) else 1


def _ends(graph: Graph, gated: set[fx.Node]) -> tuple[list[fx.Node], set[fx.Node]]:
    """The nodes at which the loss begins, and those of the network that belong to it: a softmax that only an output
    reads."""
    alive = set(graph.calls)
    ends: dict[fx.Node, None] = {}
    tail: set[fx.Node] = set()
    for out in (out for out in graph.outputs if isinstance(out, fx.Node)):
        chain: list[fx.Node] = []
        node, end = out, out
        while node in alive and node not in gated:
            readers = [user for user in node.users if user in alive or user.op == "output"]
            name, source = op_name(node), node.args[0] if node.args else None
            if len(readers) != 1 or not isinstance(source, fx.Node) or len(node.all_input_nodes) != 1:
                break
            chain.append(node)
            if name in SOFTMAX:
                end = source
                tail.update(chain)
                break
            if RULES.get(name) is not copied:
                break
            node = source
        ends[end] = None
    return list(ends), tail
