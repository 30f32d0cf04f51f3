"""Compensation: consumers' weights and biases are changed so that the units that stay do the work of those that go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from deadhead.calibration import Calibration
from deadhead.errors import DataError
from deadhead.graph.graph import Graph
from deadhead.graph.network import Network
from deadhead.graph.ops.registry import argument, op_name
from deadhead.graph.units import Group, Site
from deadhead.progress import Progress
from deadhead.select.plan import Plan
from deadhead.statistics import Products, products

METHODS = ("least_squares", "mean", "zero")
DAMPING = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates for lambda; each consumer takes the one with the least error on the held-out rows."""


@dataclass(frozen=True)
class Constant:
    """Where a constant can be added to what a consumer gives: `add` to a bias, `subtract` from a batch norm's running
    mean, or a bias that is `new`."""

    kind: str
    name: str


@dataclass(frozen=True)
class Consumer:
    """One weight that reads units: the nodes it is used at, its layout, and where its constant goes."""

    weight: str
    nodes: tuple[fx.Node, ...]
    dead: Tensor
    transposed: bool
    groups: int
    constant: Constant | None

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as (groups, outputs, columns)."""
        weight = weight.T if self.transposed else weight
        return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)

    def weight_of(self, matrix: Tensor, like: Tensor) -> Tensor:
        """The weight that such a matrix stands for."""
        return matrix.reshape(like.shape[::-1]).T.contiguous() if self.transposed else matrix.reshape(like.shape)


@dataclass
class Compensation:
    """`state` has the new tensors by name, in the intact network's shapes; `biases` those that are new, with their
    values; `added` the same by the consumer's weight. `left` says which consumers were not compensated."""

    state: dict[str, Tensor] = field(default_factory=dict)
    biases: dict[str, Tensor] = field(default_factory=dict)
    added: dict[str, Tensor] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    errors: dict[str, tuple[float, float, float]] = field(default_factory=dict)


def compensate(
    network: Network,
    groups: Sequence[Group],
    plan: Plan,
    calibration: Calibration,
    method: str = "least_squares",
    progress: Progress | None = None,
) -> Compensation:
    """New weights and biases for the consumers of what the plan removes.

    `zero` changes nothing. `mean` adds what the removed units give on average to the bias:
    `b' = b + sum_{i removed} W[:, i] E[a_i]` (003 eq. 1.5-1.6, 000 section 3); for a convolution the mean of each tap
    counts its zero padding. `least_squares` fits the kept columns S and the bias to what the consumer gave:
    `W'[:, S] = W G_l[:, S] (G_l[S, S])^-1`, `G = E[a~ a~^T]`, `a~ = [a; 1]`, `G_l = G + lambda * mean(diag G)` on
    unit columns and G on the bias; lambda is the candidate with the least error on the held-out rows.

    Weights that are used elsewhere too, or by ops other than linear and convolution, are left, and listed in `left`.
    """
    if method not in METHODS:
        raise DataError(f"There is no compensation {method!r}; the methods are {', '.join(METHODS)}.")
    result = Compensation()
    if method == "zero":
        return result
    consumers, result.left = consumers_of(network, groups, plan)
    names = [consumer.weight for consumer in consumers]
    only_sums = method == "mean"
    fit = products(network, names, calibration.fit, only_sums, progress)
    check = {} if only_sums else products(network, names, calibration.held_out, False, progress)
    state = network.frozen_state()
    for consumer in consumers:
        if consumer.weight not in fit:
            result.left[consumer.weight] = "its consumer is neither linear nor a convolution"
            continue
        weight = state[consumer.weight]
        matrix = consumer.matrix(weight).double()
        dead = _dead_columns(consumer, weight)
        if only_sums:
            means = fit[consumer.weight].matrix[:, 0, :-1] / fit[consumer.weight].count
            constant = torch.einsum("goc,gc->go", matrix * dead[:, None], means.to(matrix)).flatten()
            new = matrix
            if consumer.constant is None:
                result.left[consumer.weight] = "it has no bias that could carry the constant"
        else:
            new, constant, errors = _least_squares(
                matrix, dead, fit[consumer.weight], check[consumer.weight], consumer.constant is not None
            )
            result.errors[consumer.weight] = errors
        result.state[consumer.weight] = consumer.weight_of(new, weight).to(weight.dtype)
        if consumer.constant is not None:
            _put_constant(result, consumer, constant, state)
    return result


def _least_squares(
    matrix: Tensor, dead: Tensor, fit: Products, check: Products, has_constant: bool
) -> tuple[Tensor, Tensor, tuple[float, float, float]]:
    """New matrix (zero in dead columns), constant, and (lambda, error on the fit rows, error on the held-out rows).

    Errors are `tr(dW G dW^T) / tr(W G W^T)`, dW over all columns and the constant.
    """
    wide = torch.cat([matrix, matrix.new_zeros((*matrix.shape[:-1], 1))], -1)
    gram = (fit.matrix / fit.count).to(matrix)
    held = (check.matrix / check.count).to(matrix)
    best: tuple[float, float, float, Tensor] | None = None
    for damping in DAMPING:
        solution = torch.zeros_like(wide)
        for index in range(len(wide)):
            kept = torch.cat([~dead[index], torch.tensor([has_constant], device=dead.device)]).nonzero()[:, 0]
            solution[index][:, kept] = solve(wide[index], gram[index], kept, damping)
        change = solution - wide
        scale = _energy(wide, held).clamp(min=1e-300)
        error = (_energy(change, held) / scale).item()
        if best is None or error < best[0]:
            here = (_energy(change, gram) / _energy(wide, gram).clamp(min=1e-300)).item()
            best = (error, damping, here, solution)
    assert best is not None
    error, damping, here, solution = best
    return solution[..., :-1], solution[..., -1].flatten(), (damping, here, error)


def _energy(change: Tensor, gram: Tensor) -> Tensor:
    return torch.einsum("goi,gij,goj->", change, gram, change)


def solve(matrix: Tensor, gram: Tensor, kept: Tensor, damping: float) -> Tensor:
    """`W G_l[:, S] (G_l[S, S])^-1` for W (outputs, n + 1), G (n + 1, n + 1), the last column a one; shape (outputs, S).

    >>> gram = torch.tensor([[2.0, 2.0, 1.0], [2.0, 2.0, 1.0], [1.0, 1.0, 1.0]]).double()
    >>> weight = torch.tensor([[1.0, 3.0, 0.0]]).double()
    >>> solve(weight, gram, torch.tensor([0, 2]), damping=0.0).round(decimals=9).abs()  # two equal columns
    tensor([[4., 0.]], dtype=torch.float64)
    """
    diagonal = gram.diagonal()[:-1]
    damped = gram.clone()
    damped.diagonal()[:-1].add_(damping * diagonal.mean())
    inner = damped[kept][:, kept]
    right = (matrix @ damped[:, kept]).T
    scale = inner.diagonal().clamp(min=1e-300).rsqrt()
    inner = inner * scale[:, None] * scale
    factor, failed = torch.linalg.cholesky_ex(inner)
    if failed.any():
        solution: Tensor = torch.linalg.lstsq(
            inner, scale[:, None] * right, driver="gelsd" if inner.is_cpu else None
        ).solution
    else:
        solution = torch.cholesky_solve(scale[:, None] * right, factor)
    result: Tensor = (scale[:, None] * solution).T
    return result


def _dead_columns(consumer: Consumer, weight: Tensor) -> Tensor:
    """Which columns of the weight's matrix go, shape (groups, columns)."""
    if consumer.transposed or weight.dim() == 2:
        return consumer.dead[None].to(weight.device)
    taps = weight[0, 0].numel()
    return consumer.dead.repeat_interleave(taps)[None].expand(consumer.groups, -1).to(weight.device)


def _put_constant(result: Compensation, consumer: Consumer, constant: Tensor, state: dict[str, Tensor]) -> None:
    place = consumer.constant
    assert place is not None
    if place.kind == "new":
        like = state[consumer.weight]
        result.biases[place.name] = constant.to(like.dtype)
        result.added[consumer.weight] = constant.to(like.dtype)
        return
    have = result.state.get(place.name, state[place.name])
    change = constant if place.kind == "add" else -constant
    result.state[place.name] = (have.double() + change).to(have.dtype)


def consumers_of(network: Network, groups: Sequence[Group], plan: Plan) -> tuple[list[Consumer], dict[str, str]]:
    """The weights that read what the plan removes, and those that cannot be compensated, with the reason."""
    graph = network.static.graph
    sites: dict[str, list[tuple[Group, Site]]] = {}
    for group in groups:
        if group.name in plan.removed:
            for site in group.consumers:
                if site.weight is not None and site.weight_axis is not None:
                    sites.setdefault(site.weight, []).append((group, site))
    tensors = network.state()
    holders = {id(tensors[name]): node for node, name in graph.state.items()}
    found: list[Consumer] = []
    left: dict[str, str] = {}
    for weight, reads in sites.items():
        tensor = tensors[weight]
        nodes = tuple(dict.fromkeys(site.node for _, site in reads))
        users = {user for node, name in graph.state.items() if tensors[name] is tensor for user in node.users}
        if holders.get(id(tensor)) is None or not users <= set(nodes):
            left[weight] = "its weight is used elsewhere too"
            continue
        axis = reads[0][1].weight_axis
        assert axis is not None
        dead = torch.zeros(tensor.shape[axis], dtype=torch.bool)
        for group, site in reads:
            gone = torch.zeros(group.size + 1, dtype=torch.bool).index_fill_(0, plan.removed[group.name], True)
            dead |= gone[site.units[: len(dead)]]
        names = {op_name(node) for node in nodes}
        if not names <= {"linear", "addmm", "mm", "matmul", "conv1d", "conv2d", "conv3d"}:
            left[weight] = f"{', '.join(sorted(names))} cannot be compensated yet"
            continue
        groups_of = {argument(node, 6, "groups", 1) if "conv" in op_name(node) else 1 for node in nodes}
        transposed = tensor.dim() == 2 and axis == 0
        if len(groups_of) > 1 or (axis != 1 and not transposed):
            left[weight] = "its uses differ"
            continue
        constant = _constant_place(network, graph, nodes, weight)
        found.append(Consumer(weight, nodes, dead, transposed, groups_of.pop(), constant))
    return found, left


def _constant_place(network: Network, graph: Graph, nodes: tuple[fx.Node, ...], weight: str) -> Constant | None:
    """Where a constant on the output of these nodes can go: their bias, the batch norm behind, or a new bias."""
    places = {_place_at(graph, node) for node in nodes}
    place = places.pop() if len(places) == 1 else None
    if place is not None:
        uses = {user for node, name in graph.state.items() if name == place.name for user in node.users}
        readers = set(nodes) if place.kind == "add" else {user for node in nodes for user in node.users}
        return place if uses <= readers else None
    path, _, leaf = weight.rpartition(".")
    owner = network.module.get_submodule(path)
    plain = isinstance(owner, (nn.Linear, nn.modules.conv._ConvNd)) and owner.bias is None and leaf == "weight"
    if plain and type(owner).forward in (nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward):
        return Constant("new", f"{path}.bias" if path else "bias")
    return None


def _place_at(graph: Graph, node: fx.Node) -> Constant | None:
    name = op_name(node)
    place = 0 if name == "addmm" else 2
    bias = node.args[place] if len(node.args) > place and name not in ("mm", "matmul") else node.kwargs.get("bias")
    if isinstance(bias, fx.Node):
        return Constant("add", graph.state[bias]) if bias in graph.state else None
    users = list(node.users)
    if len(users) == 1 and op_name(users[0]) in ("batch_norm", "_native_batch_norm_legit_no_training"):
        mean = users[0].args[3]
        if isinstance(mean, fx.Node) and mean in graph.state:
            return Constant("subtract", graph.state[mean])
    return None
