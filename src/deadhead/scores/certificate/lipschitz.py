"""Lipschitz constants of the layers behind a node, in the Euclidean norm of whole tensors: a function for each op."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from deadhead.errors import DataError
from deadhead.graph.catalogue import names_of, op_of
from deadhead.graph.graph import Graph, reaching
from deadhead.graph.nodes import argument, is_tensor, op_name, where
from deadhead.graph.units.groups import Site
from deadhead.graph.units.windows import CONVOLUTIONS, window_of
from deadhead.scores.certificate.norms import convolution_norm, fine_enough, norms_by_unit, spectral_norm, transforms

LipschitzConstant = Callable[["Downstream", fx.Node, int], float]
"""The Lipschitz constant of a node in its argument number `place`, the others held."""

LIPSCHITZ: dict[str, LipschitzConstant] = {}


@dataclass
class Downstream:
    """Lipschitz constants within one graph, in the Euclidean norm of whole tensors.

    Attributes:
        graph: the ops.
        values: what does not depend on the inputs, by node.
        sizes: the shape of what other nodes give.
    """

    graph: Graph
    values: Mapping[fx.Node, Any]
    sizes: dict[fx.Node, Any] = field(default_factory=dict)
    _cache: dict[tuple[Any, ...], float] = field(default_factory=dict)

    def constants(self, output: Any, wanted: set[fx.Node]) -> dict[fx.Node, float]:
        """For each node of `wanted` the Lipschitz constant from what it gives to `output`.

        It is a sum over its users of products of constants, so that a residual block has 1 + K.

        Args:
            output: the node of the logits.
            wanted: the nodes whose constants are returned.

        Source: Szegedy et al. (2014), products of operator norms.
        """
        alive = reaching([output]) if isinstance(output, fx.Node) else set()
        moved = set(wanted)
        for node in self.graph.calls:
            if any(arg in moved for arg in node.all_input_nodes):
                moved.add(node)
        found = dict.fromkeys(wanted, 0.0)
        for node in reversed([each for each in self.graph.calls if each in moved and each in alive]):
            found[node] = float(node is output) + sum(
                self.constant(user, place) * found[user]
                for user in node.users
                if found.get(user)
                for place in _places(user, node)
            )
        return found

    def constant(self, node: fx.Node, place: int) -> float:
        """The constant of one node in its argument number `place`."""
        made = node.meta.get("val")
        rule = rule_of(node)
        if rule is None or place < 0 or (isinstance(made, Tensor) and not made.is_floating_point()):
            refuse(node)
        return rule(self, node, place)

    def fixed(self, node: fx.Node, arg: Any) -> Tensor:
        """An argument that must not depend on the inputs, as float64 on the CPU; numbers too."""
        if isinstance(arg, (int, float)):
            return torch.tensor(float(arg), dtype=torch.float64)
        if not is_tensor(arg) or not isinstance(self.values.get(arg), Tensor):
            refuse(node, "multiplies activations")
        value: Tensor = self.values[arg]
        return value.detach().to("cpu", torch.float64)

    def shape(self, arg: Any) -> torch.Size:
        """The shape of a node's tensor on this data."""
        value = self.values.get(arg)
        return value.shape if isinstance(value, Tensor) else self.sizes[arg]

    def numel(self, arg: Any) -> int:
        return math.prod(self.shape(arg))

    def copies(self, node: fx.Node, place: int) -> float:
        """The norm of copying: sqrt of how often each entry of an argument is broadcast or repeated, at least 1."""
        return max(1.0, math.sqrt(self.numel(node) / max(1, self.numel(node.args[place]))))

    def cached(self, key: tuple[Any, ...], make: Callable[[], float]) -> float:
        """A norm, computed once and kept by its key."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def unit_norms(self, site: Site, size: int) -> Tensor:
        """The operator norm of that part of a consumer which reads unit k, shape (K,); the whole consumer's where it is
        neither linear nor a convolution over the site's axis."""
        node, name, units = site.node, op_name(site.node), site.units
        place = _place(node, site.position)
        dim = len(self.shape(node.args[place]))
        matrices: Iterator[Tensor] | None = None
        if name in CONVOLUTIONS and (place, site.axis) == (0, 1) and dim == len(self.shape(node.args[1])):
            kernel, grid, dilation, groups, more = _convolution(self, node)
            matrices = (more * each for each in transforms(kernel, grid, dilation, groups))
        elif site.axis % dim == dim - 1:
            matrix = _right_hand(self, node, place)
            matrices = None if matrix is None else iter([matrix[None, None]])
        if matrices is None:
            return torch.full((size,), self.constant(node, place), dtype=torch.float64)
        found = torch.zeros(size, dtype=torch.float64)
        for part in matrices:
            for columns, read in zip(part.unbind(1), units.reshape(part.shape[1], -1), strict=True):
                found = torch.maximum(found, norms_by_unit(columns, read, size))
        return found


def refuse(node: fx.Node, why: str = "has no known Lipschitz constant") -> NoReturn:
    raise DataError(
        f"The certificate has no bound behind {where(node)}, which {why}; use the criterion mrp, or score the groups "
        "behind it alone."
    )


def _places(user: fx.Node, node: fx.Node) -> list[int]:
    """The arguments of `user` that are `node`, once for each time; -1 for arguments by name."""
    found = []
    for place, arg in enumerate(user.args):
        found += [place] * (list(arg).count(node) if isinstance(arg, (list, tuple)) else int(arg is node))
    return found + [-1 for arg in user.kwargs.values() if arg is node]


def _place(node: fx.Node, position: int) -> int:
    """The argument that a position, which counts the entries of lists, belongs to."""
    for place, arg in enumerate(node.args):
        position -= len(arg) if isinstance(arg, (list, tuple)) else 1
        if position < 0:
            return place
    return -1


def _convolution(rest: Downstream, node: fx.Node) -> tuple[Tensor, list[int], list[int], int, float]:
    """A convolution's kernel (o, i, taps ...), the grid for its maps, dilation, groups and factor."""
    kernel = rest.fixed(node, node.args[1])
    window = window_of(node, kernel.shape)
    sizes = rest.shape(node.args[0])[-len(window.kernel) :]
    grid, dilation, factor = fine_enough(sizes, window.kernel, window.dilation)
    return kernel, grid, dilation, window.groups, factor


def _right_hand(rest: Downstream, node: fx.Node, place: int) -> Tensor | None:
    """The matrix (outputs, inputs) by which a node multiplies the last axis of an argument; None where it does not."""
    op = op_of(node)
    if not op.matrix or place != op.operands[0]:
        return None
    other = rest.fixed(node, node.args[op.operands[1]])
    if op.turned:
        return other
    scale = abs(float(node.kwargs.get("alpha", 1)))  # type: ignore[arg-type]
    return scale * (other[None] if other.dim() == 1 else other.T) if other.dim() <= 2 else None


def lipschitz(*names: str) -> Callable[[LipschitzConstant], LipschitzConstant]:
    """Register the constant of ops by name, as in `aten::NAME`; in-place forms are included."""

    def register(function: LipschitzConstant) -> LipschitzConstant:
        LIPSCHITZ.update(dict.fromkeys(names, function))
        return function

    return register


ELEMENTWISE = ("nonlinearity", "elementwise linear", "choice")
"""Families of functions without parameters, of which the catalogue has the largest slope."""


def rule_of(node: fx.Node) -> LipschitzConstant | None:
    """The function that gives the constant of a node; None where its op has none."""
    op = op_of(node)
    if op.lipschitz is not None and op.family in ELEMENTWISE:
        return _elementwise
    return LIPSCHITZ.get(op.name)


def _elementwise(rest: Downstream, node: fx.Node, place: int) -> float:
    slope = op_of(node).lipschitz
    assert slope is not None
    return slope * rest.copies(node, place)


@lipschitz(*names_of("movement", "copy", "maximum", lipschitz=1.0))
def _moved(rest: Downstream, node: fx.Node, place: int) -> float:
    """1, or sqrt of the number of copies; the largest of several entries moves no further than one of them."""
    several = isinstance(node.meta.get("val"), (tuple, list)) or op_name(node) == "getitem"
    return 1.0 if several else rest.copies(node, place) if place == 0 else refuse(node)


@lipschitz(*names_of("joining", "padding", lipschitz=1.0))
def _joined(rest: Downstream, node: fx.Node, place: int) -> float:
    return 1.0


@lipschitz("pad")
def _padded(rest: Downstream, node: fx.Node, place: int) -> float:
    """sqrt of the product over axes of the maximum number of copies of one entry."""
    mode, most = argument(node, 2, "mode", "constant"), 1
    if mode == "constant":
        return 1.0
    shape, amounts = rest.shape(node.args[0]), argument(node, 1, "pad")
    for axis, (before, after) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        line = torch.arange(shape[-1 - axis], dtype=torch.float64)
        most *= int(F.pad(line[None], (before, after), mode)[0].long().bincount().max())
    return math.sqrt(most)


@lipschitz("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def _dropout(rest: Downstream, node: fx.Node, place: int) -> float:
    return refuse(node, "is random") if argument(node, 2, "train") else 1.0


@lipschitz("add", "sub", "rsub")
def _add(rest: Downstream, node: fx.Node, place: int) -> float:
    """1 for each operand, or its factor alpha."""
    scaled = place == (0 if op_name(node) == "rsub" else 1)
    alpha = argument(node, 2, "alpha", 1) if scaled else 1
    return abs(float(alpha)) * rest.copies(node, place)


@lipschitz("mul")
def _mul(rest: Downstream, node: fx.Node, place: int) -> float:
    return rest.fixed(node, node.args[1 - place]).abs().max().item() * rest.copies(node, place)


@lipschitz("div", "true_divide")
def _div(rest: Downstream, node: fx.Node, place: int) -> float:
    if place or node.kwargs.get("rounding_mode"):
        refuse(node)
    return rest.fixed(node, node.args[1]).abs().reciprocal().max().item() * rest.copies(node, place)


@lipschitz("where", "masked_fill")
def _chosen(rest: Downstream, node: fx.Node, place: int) -> float:
    """1 for each of the values that are chosen from; the condition must not depend on activations."""
    condition = 0 if op_name(node) == "where" else 1
    return refuse(node) if place == condition else rest.copies(node, place)


@lipschitz("leaky_relu")
def _leaky(rest: Downstream, node: fx.Node, place: int) -> float:
    return max(1.0, abs(float(argument(node, 1, "negative_slope", 0.01))))


@lipschitz("prelu", "_prelu_kernel")
def _prelu(rest: Downstream, node: fx.Node, place: int) -> float:
    return max(1.0, rest.fixed(node, node.args[1]).abs().max().item()) if place == 0 else refuse(node)


@lipschitz("elu")
def _elu(rest: Downstream, node: fx.Node, place: int) -> float:
    """`scale x` above 0, `scale alpha (exp(input_scale x) - 1)` below."""
    alpha, scale, inner = (float(argument(node, i, n, 1)) for i, n in ((1, "alpha"), (2, "scale"), (3, "input_scale")))
    return max(abs(scale), abs(scale * alpha * inner)) if inner > 0 else refuse(node)


@lipschitz("celu")
def _celu(rest: Downstream, node: fx.Node, place: int) -> float:
    return 1.0 if float(argument(node, 1, "alpha", 1)) > 0 else refuse(node)


@lipschitz("softplus")
def _softplus(rest: Downstream, node: fx.Node, place: int) -> float:
    """1, but for the step to the identity at the threshold, 2e-9 / beta at 20."""
    return 1.0 if float(argument(node, 2, "threshold", 20)) >= 20 else refuse(node, "steps at its threshold")


@lipschitz(*names_of(matrix=True), "bmm")
def _linear(rest: Downstream, node: fx.Node, place: int) -> float:
    """The largest singular value of the matrix on the other side, the largest of several; 1 for what is added."""
    op = op_of(node)
    if place == op.bias:
        return abs(float(argument(node, 3, "beta", 1))) * rest.copies(node, place)
    left, right = op.operands
    own, other = node.args[place], node.args[right if place == left else left]

    def norm() -> float:
        value = rest.fixed(node, other)
        return spectral_norm(value[None] if value.dim() == 1 else value).amax().item()

    copies = math.sqrt(max(1.0, math.prod(rest.shape(node)[:-2]) / max(1, math.prod(rest.shape(own)[:-2]))))
    alpha = abs(float(argument(node, 4, "alpha", 1)))
    return (
        alpha
        * rest.cached((node, place), norm)
        * (copies if isinstance(other, fx.Node) and len(rest.shape(other)) > 2 else 1.0)
    )


@lipschitz(*CONVOLUTIONS)
def _conv(rest: Downstream, node: fx.Node, place: int) -> float:
    """The largest singular value of the kernel's Fourier transform."""
    if place:
        refuse(node, "multiplies activations")
    kernel, grid, dilation, groups, factor = _convolution(rest, node)
    key = (node, *grid, *dilation)
    return factor * rest.cached(key, lambda: convolution_norm(kernel, grid, dilation, groups))


@lipschitz("batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
def _batch_norm(rest: Downstream, node: fx.Node, place: int) -> float:
    """max abs(gamma) / sqrt(var + eps), statistics fixed."""
    native = "no_training" in op_name(node)
    if place or node.args[4] is None or (not native and argument(node, 5, "training")):
        refuse(node, "takes the statistics of the batch")
    variance = rest.fixed(node, node.args[4])
    gamma = torch.ones_like(variance) if node.args[1] is None else rest.fixed(node, node.args[1])
    eps = float(argument(node, 6 if native else 7, "eps", 1e-5))
    return (gamma.abs() / (variance + eps).sqrt()).max().item()


@lipschitz("mean", "sum")
def _reduced(rest: Downstream, node: fx.Node, place: int) -> float:
    """sqrt(T) for a sum over T entries, 1 / sqrt(T) for a mean."""
    together = math.sqrt(rest.numel(node.args[0]) / max(1, rest.numel(node)))
    return together if op_name(node) == "sum" else 1 / together


def _axes(node: fx.Node, rank: int, *given: tuple[int, str, Any]) -> list[list[Any]]:
    """Arguments of a pool, one for each axis."""
    found = []
    for place, name, default in given:
        value = argument(node, place, name, default)
        value = default if value == [] else value
        found.append(list(value) * (rank if len(value) == 1 else 1) if isinstance(value, list) else [value] * rank)
    return found


def _rank(node: fx.Node) -> int:
    return int(op_name(node).partition("_pool")[2][0])


@lipschitz(*(f"max_pool{rank}d{end}" for rank in (1, 2, 3) for end in ("", "_with_indices")))
def _max_pool(rest: Downstream, node: fx.Node, place: int) -> float:
    """sqrt of the maximum number of windows that read one entry: over axes the product of ceil(k / s) if undilated."""
    (kernel,) = _axes(node, _rank(node), (1, "kernel_size", 1))
    stride, dilation = _axes(node, _rank(node), (2, "stride", kernel), (4, "dilation", 1))
    most = 1
    for k, s, d in zip(kernel, stride, dilation, strict=True):
        most *= math.ceil(k / (s // math.gcd(s, d)))
    return math.sqrt(most)


@lipschitz(*(f"avg_pool{rank}d" for rank in (1, 2, 3)))
def _avg_pool(rest: Downstream, node: fx.Node, place: int) -> float:
    """The product over axes of the norm of the pool along that axis: at most sqrt(ceil(k / s) / k)."""
    rank = _rank(node)
    if argument(node, 6, "divisor_override") is not None:
        refuse(node, "has a divisor of its own")
    kernel, padding = _axes(node, rank, (1, "kernel_size", 1), (3, "padding", 0))
    (stride,) = _axes(node, rank, (2, "stride", kernel))
    rest_of = bool(argument(node, 4, "ceil_mode", False)), bool(argument(node, 5, "count_include_pad", True))
    sizes = rest.shape(node.args[0])[-rank:]
    found = 1.0
    for size, k, s, p in zip(sizes, kernel, stride, padding, strict=True):
        line = torch.eye(size, dtype=torch.float64)[:, None]
        found *= spectral_norm(F.avg_pool1d(line, k, s, p, *rest_of)[:, 0]).item()
    return found


@lipschitz(*(f"{name}_avg_pool{rank}d" for rank in (1, 2, 3) for name in ("adaptive", "_adaptive")))
def _adaptive_avg_pool(rest: Downstream, node: fx.Node, place: int) -> float:
    """The same with windows that follow the sizes: 1 / sqrt(T) to one position."""
    found, rank = 1.0, _rank(node)
    for size, out in zip(rest.shape(node.args[0])[-rank:], rest.shape(node)[-rank:], strict=True):
        line = torch.eye(size, dtype=torch.float64)[:, None]
        found *= spectral_norm(F.adaptive_avg_pool1d(line, out)[:, 0]).item()
    return found
