"""The recursion of 002, appendix A: first derivatives and the diagonal of second ones, backward over the graph."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.calibration import Batch
from deadhead.errors import DataError, LossError
from deadhead.gates import Gates
from deadhead.graph.graph import Edits, Graph
from deadhead.graph.network import Traced
from deadhead.graph.ops.registry import RULES as LABEL_RULES
from deadhead.graph.ops.registry import op_name, where
from deadhead.graph.units import Group
from deadhead.scores.derivatives import derivatives, twice

MOST_PROBES = 4096
"""The most products with the loss's own Hessian that its diagonal may take."""

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
Cotangents = list[Tensor | None]
Both = tuple[list[Tensor], list[Tensor]]


def curvatures(gates: Gates, groups: Sequence[Group], batch: Batch, visit: Visit) -> Tensor:
    """One forward pass and two backward: `visit(group, consumer index, a, g, h)` for each consumer of `groups`.

    `a` is the activation that the consumer reads, `g = d(sum_n L_n)/da` and `h` the diagonal of the second derivatives,
    both through that consumer alone and in the activation's shape. From the outputs backward, with y = f(x):

    - at the outputs, `h = d2L_n/do^2`, the exact diagonal, whatever the loss;
    - at elementwise ops, `h_x = f'(x)^2 h_y + f''(x) g_y`, f' and f'' by autograd on the op itself (002 eq. 73);
    - at ops that are linear in x, `h_x[j] = sum_i W[i, j]^2 h_y[i]` with W their coefficients (eq. 66);
    - where an activation is read several times, the sum.

    A softmax or log-softmax that only the outputs read belongs to the loss. Returns `L_n`, shape (rows,). Raises
    `DataError` at an op that has no such rule. Source: 002 appendix A.
    """
    batch = batch.to(gates.network.device())
    tensors, traced = gates.traced(batch)
    tape = _Tape(gates, traced, [traced.group(group.name) for group in groups])
    tape.forward(tensors)
    losses = tape.start(batch)
    tape.backward(visit)
    return losses


@dataclass
class _Step:
    """One op of the forward pass: `leaves` are the activations that it reads, by position, cut off from what made
    them; `sources` the nodes that made them, `read` what an edit was given and gave on the way; `made` its results."""

    node: fx.Node
    args: list[Any]
    kwargs: dict[str, Any]
    function: Callable[[list[Any], dict[str, Any]], Any]
    leaves: dict[int, Tensor] = field(default_factory=dict)
    sources: dict[int, fx.Node] = field(default_factory=dict)
    read: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    made: list[Any] = field(default_factory=list)

    def again(self, entries: Mapping[int, Any], kwargs: Mapping[str, Any] | None = None) -> Tensor:
        """The op's first result with other arguments at some positions."""
        made = self.function(_placed(self.args, entries), {**self.kwargs, **(kwargs or {})})
        return _listed(made)[0]  # type: ignore[no-any-return]

    def pull(self, cotangents: Cotangents) -> list[Tensor]:
        """The cotangents of the results, pulled back to the leaves."""
        pairs = [
            (made, cotangent)
            for made, cotangent in zip(self.made, cotangents, strict=True)
            if cotangent is not None and isinstance(made, Tensor) and made.requires_grad
        ]
        leaves = list(self.leaves.values())
        made, given = zip(*pairs, strict=True)
        found = torch.autograd.grad(made, leaves, given, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(x) if each is None else each for x, each in zip(leaves, found, strict=True)]


Rule = Callable[[_Step, Cotangents, Cotangents], Both]
"""From g and h of a step's results to those of its leaves."""


def _listed(made: Any) -> list[Any]:
    return list(made) if isinstance(made, (tuple, list)) else [made]


def _places(args: Sequence[Any]) -> list[Any]:
    """Arguments with lists taken apart: the entry at each position."""
    return [each for arg in args for each in (arg if isinstance(arg, (tuple, list)) else (arg,))]


def _placed(args: Sequence[Any], entries: Mapping[int, Any]) -> list[Any]:
    """`args` with other entries at some positions."""
    places = iter(range(len(_places(args))))
    return [
        [entries.get(next(places), each) for each in arg]
        if isinstance(arg, (tuple, list))
        else entries.get(next(places), arg)
        for arg in args
    ]


class _Tape:
    """The ops between the gates and the outputs: run forward with a graph of autograd for each, then backward."""

    def __init__(self, gates: Gates, traced: Traced, groups: Sequence[Group]) -> None:
        self.gates, self.traced, self.graph = gates, traced, traced.graph
        self.edits = gates.edits(traced, {})
        self.bare = Edits(made=self.edits.made, around=self.edits.around)
        self.sites: dict[tuple[fx.Node, int], list[tuple[Group, int]]] = {}
        for group in groups:
            for site in group.norms:
                raise _refusal(site.node, "takes statistics over the units")
            for index, site in enumerate(group.consumers):
                self.sites.setdefault((site.node, site.position), []).append((group, index))
        self.gated = {node for node, _ in self.sites}
        self.ends, self.tail = _ends(self.graph, self.gated)
        self.values: dict[fx.Node, Any] = {}
        self.carries: set[fx.Node] = set()
        self.origin: dict[fx.Node, tuple[fx.Node, int]] = {}
        self.steps: list[_Step] = []
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
        step = _Step(node, args, kwargs, lambda args, kwargs: self.graph.apply(node, args, kwargs, self.bare))
        edits, entries = self.edits.read.get(node, {}), {}
        for position, (source, value) in enumerate(zip(_places(node.args), _places(args), strict=True)):
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
            raise _refusal(node, "reads an activation by name")
        step.args = _placed(args, entries)
        made = step.function(step.args, kwargs)
        step.made = _listed(made)
        if any(isinstance(each, Tensor) and each.requires_grad for each in step.made):
            _check(step)
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
                f"{batch.rows}; choose taylor1 or taylor2_exact."
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
                firsts, seconds = _rule(step.node)(
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
            if RULES.get(name) is not _copied:
                break
            node = source
        ends[end] = None
    return list(ends), tail


def _copied(step: _Step, first: Cotangents, second: Cotangents) -> Both:
    """Ops that copy entries, drop them or sum them up: every coefficient is 0 or 1, its own square."""
    return step.pull(first), step.pull(second)


def _gathered(step: _Step, first: Cotangents, second: Cotangents) -> Both:
    """Ops that are affine in each entry and put it into one place: `h_x = c^2 h_y`, c the pullback of ones."""
    ones: Cotangents = [
        None if cotangent is None else torch.ones_like(made) for made, cotangent in zip(step.made, second, strict=True)
    ]
    scales, (leaf,) = step.pull(ones), step.leaves.values()
    g, h = first[0], second[0]
    if g is not None and h is not None and leaf.shape == g.shape:
        return [scales[0] * g], [scales[0].square() * h]
    return step.pull(first), [c * each for c, each in zip(scales, step.pull(second), strict=True)]


def _pointwise(step: _Step, first: Cotangents, second: Cotangents) -> Both:
    """Elementwise ops of one activation, `h_x = f'(x)^2 h_y + f''(x) g_y`, or sums and choices of several."""
    g, h, shape = first[0], second[0], step.made[0].shape
    assert g is not None
    assert h is not None
    firsts, seconds = [], []
    for position, leaf in step.leaves.items():
        x, made = leaf, step.made[0]
        if leaf.shape != shape:
            x = leaf.detach().expand(shape).requires_grad_()
            made = step.again({position: x})
        slope = torch.autograd.grad(made, x, torch.ones_like(made), create_graph=True, allow_unused=True)[0]
        if slope is None:
            firsts.append(torch.zeros_like(leaf))
            seconds.append(torch.zeros_like(leaf))
            continue
        held = slope.detach()
        curved = held.square() * h
        if slope.requires_grad:
            bend = torch.autograd.grad(slope, x, torch.ones_like(slope), retain_graph=True, allow_unused=True)[0]
            if bend is not None:
                curved = torch.addcmul(curved, bend, g)
        firsts.append((held * g).sum_to_size(leaf.shape).to(leaf.dtype))
        seconds.append(curved.sum_to_size(leaf.shape).to(leaf.dtype))
    return firsts, seconds


def _contracted(step: _Step, first: Cotangents, second: Cotangents) -> Both:
    """Products with parameters: the op's own pullback with every coefficient squared."""
    entries = {
        position: entry.square()
        for position, entry in enumerate(_places(step.args))
        if isinstance(entry, Tensor) and entry.is_floating_point() and position not in step.leaves
    }
    scalars = {key: value**2 for key, value in step.kwargs.items() if key in ("alpha", "beta")}
    squared = step.again(entries, scalars)
    leaves = list(step.leaves.values())
    found = torch.autograd.grad(squared, leaves, second[0], allow_unused=True)
    return step.pull(first), [
        torch.zeros_like(x) if each is None else each for x, each in zip(leaves, found, strict=True)
    ]


def _linear(step: _Step, first: Cotangents, second: Cotangents) -> Both:
    """`h_x = h_y W^2`, without another forward pass."""
    weight, h = step.args[1], second[0]
    assert h is not None
    if list(step.leaves) != [0] or weight.dim() != 2:
        return _contracted(step, first, second)
    return step.pull(first), [h @ weight.square()]


def _convolved(step: _Step, first: Cotangents, second: Cotangents) -> Both:
    """The input's gradient with the squared kernel, without another forward pass."""
    schema = step.node.target._schema.arguments  # type: ignore[union-attr]
    given: dict[str, Any] = {spec.name: spec.default_value if spec.has_default_value() else None for spec in schema}
    given.update(zip(given, step.args, strict=False))
    given.update(step.kwargs)
    x, kernel = step.leaves.get(0), given["weight"]
    if x is None or len(step.leaves) > 1 or x.dim() != kernel.dim() or isinstance(given["padding"], str):
        return _contracted(step, first, second)
    rank = kernel.dim() - 2
    stride, padding, dilation = (_wide(given[name], rank) for name in ("stride", "padding", "dilation"))
    pulled = torch.ops.aten.convolution_backward(
        second[0], x.detach(), kernel.square(), None, stride, padding, dilation, False, [0] * rank, given["groups"],
        [True, False, False],
    )  # fmt: skip
    return step.pull(first), [pulled[0]]


def _wide(sizes: int | Sequence[int], rank: int) -> list[int]:
    sizes = [sizes] if isinstance(sizes, int) else list(sizes)
    return sizes * rank if len(sizes) == 1 else sizes


def _slid(step: _Step, first: Cotangents, second: Cotangents) -> Both:
    """Averages over windows and interpolations: linear along each axis in space, so `h_x = (A_1^2 x A_2^2 ..)^T h_y`
    with the coefficients A along each axis found by sending unit vectors through the op."""
    (position, leaf), h = next(iter(step.leaves.items())), second[0]
    assert h is not None
    rank = next(int(char) for char in op_name(step.node) if char.isdigit())
    sizes, results = leaf.shape[-rank:], step.made[0].shape[-rank:]
    middle = [size // 2 for size in results]
    with torch.no_grad():
        whole = step.again({position: leaf.new_ones((1, 1, *sizes))})[(0, 0, *middle)]
        for axis, size in enumerate(sizes):
            shape = [size, 1, *(size if each == axis else 1 for each in range(rank))]
            units = torch.eye(size, dtype=leaf.dtype, device=leaf.device).reshape(shape)
            sent = step.again({position: units.expand(size, 1, *sizes).contiguous()})
            for other in reversed(range(rank)):
                if other != axis:
                    sent = sent.select(2 + other, middle[other])
            matrix = sent[:, 0] if axis == 0 else sent[:, 0] / whole
            place = h.dim() - rank + axis
            h = (h.movedim(place, -1) @ matrix.square().T).movedim(-1, place)
    return step.pull(first), [h]


SOFTMAX = frozenset({"softmax", "_softmax", "log_softmax", "_log_softmax"})

SUMS = frozenset({"add", "sub", "rsub", "where", "maximum", "minimum", "fmax", "fmin", "copy"})
"""Elementwise ops that are linear, piece by piece, in several activations together."""

_COPYING = """
    view reshape _unsafe_view flatten unflatten squeeze unsqueeze view_as reshape_as ravel atleast_2d atleast_3d permute
    transpose t numpy_T movedim swapaxes swapdims mT expand expand_as broadcast_to repeat tile repeat_interleave slice
    narrow select unbind split split_with_sizes chunk tensor_split unsafe_split unsafe_chunk unsafe_split_with_sizes
    slice_scatter select_scatter cat concat concatenate stack constant_pad_nd pad pixel_shuffle pixel_unshuffle
    channel_shuffle index _unsafe_index index_select gather tril triu flip roll unfold im2col clone contiguous detach
    alias lift_fresh_copy to _to_copy type_as identity float double sum cumsum
    reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
    max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    upsample_nearest1d upsample_nearest2d upsample_nearest3d
"""

_GATHERING = """
    mean amax amin max min batch_norm _native_batch_norm_legit_no_training dropout feature_dropout alpha_dropout
    feature_alpha_dropout native_dropout
"""

_SLIDING = """
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d
    _adaptive_avg_pool3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d
"""

_CONTRACTING = """
    matmul mm bmm mv dot vdot linalg_matmul addmm baddbmm addmv einsum convolution conv_transpose1d conv_transpose2d
    conv_transpose3d
"""

RULES: dict[str, Rule] = {
    **dict.fromkeys(_COPYING.split(), _copied),
    **dict.fromkeys(_GATHERING.split(), _gathered),
    **dict.fromkeys(_SLIDING.split(), _slid),
    **dict.fromkeys(_CONTRACTING.split(), _contracted),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolved),
    **dict.fromkeys(("prelu", "_prelu_kernel"), _pointwise),
    "linear": _linear,
}
"""How g and h go back through each op; elementwise ops that are not listed go by `_pointwise`."""

_ADDED = {"addmm": 0, "baddbmm": 0, "addmv": 0, "linear": 2}
"""The positions of what is added to a product."""


def _name(node: fx.Node) -> str:
    """The name of an op, `max.other` and `min.other` by their elementwise names."""
    name = op_name(node)
    return f"{name}imum" if name in ("max", "min") and str(node.target).endswith(".other") else name


def _rule(node: fx.Node) -> Rule:
    name = _name(node)
    if name in RULES:
        return RULES[name]
    tagged = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
    if tagged or name in SUMS or LABEL_RULES.get(name) is LABEL_RULES["pointwise"]:
        return _pointwise
    raise _refusal(node, "is not elementwise, nor linear in its input")


def _check(step: _Step) -> None:
    """Refuse what a rule would get wrong."""
    node, name, rule = step.node, _name(step.node), _rule(step.node)
    multiplied = [position for position in step.leaves if _ADDED.get(name) != position]
    if rule in (_contracted, _convolved, _linear) and len(multiplied) > 1:
        raise _refusal(node, "multiplies activations by each other")
    if rule is _pointwise and name not in SUMS and len(step.leaves) > 1:
        raise _refusal(node, "combines several activations")
    if rule in (_gathered, _slid) and list(step.leaves) != [0]:
        raise _refusal(node, "combines several activations")
    if name == "einsum" and not _is_plain(str(step.args[0]), multiplied[0] - 1):
        raise _refusal(node, "sums its weights before it multiplies")
    if name == "batch_norm" and (step.args[5] or step.args[3] is None):
        raise _refusal(node, "takes statistics of the batch")
    if name == "to" and any(isinstance(each, Tensor) and each.is_complex() for each in step.made):
        raise _refusal(node, "makes complex numbers")


def _is_plain(equation: str, operand: int) -> bool:
    """Whether every coefficient of an einsum is one entry of the other of two operands."""
    terms, arrow, result = equation.replace(" ", "").partition("->")
    operands = terms.split(",")
    if not arrow or len(operands) != 2:
        return False
    other = operands[1 - operand]
    return len(set(other)) == len(other) and set(other) <= set(operands[operand]) | set(result)


def _refusal(node: fx.Node, why: str) -> DataError:
    return DataError(
        f"The recursion of taylor2 does not go through {where(node)}, which {why}; choose "
        "taylor2_gauss_newton, taylor1 or mrs."
    )
