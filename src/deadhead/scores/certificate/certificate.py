"""Certificates: by how much replacing a unit by its mean can change the loss at most, from norms and deviations.

The network behind a consumer is a Lipschitz function of what the consumer gives. Its constant, in the Euclidean norm of
whole tensors, is found by walking the graph backward; ops whose slope has no limit are refused by name. An op gets its
constant by one function in `lipschitz.py`, registered with `@lipschitz(names)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from deadhead.data.calibration import Batch, count
from deadhead.data.losses import NAMED_LOSSES, SAMPLED, Loss, logits_of
from deadhead.errors import DataError, LossError
from deadhead.gates.gates import Gates
from deadhead.gates.sites import along, by_unit
from deadhead.graph.graph import Edit, Graph
from deadhead.graph.network import Network, Traced
from deadhead.graph.nodes import where
from deadhead.graph.units.groups import Group, Site
from deadhead.progress import track
from deadhead.scores.certificate.lipschitz import Downstream
from deadhead.scores.criterion import Question, criterion
from deadhead.scores.score import score


@criterion("certificate", comparable=True, reference="mean", at_consumers=True)
def certificate(question: Question) -> dict[str, Tensor]:
    """Certified upper bound on the mean absolute change of the loss when a unit is replaced by its mean, from the
    Lipschitz constants (operator norms) of the layers behind it.

    Shape (K,), in the unit of the loss, without closing any unit: it bounds `mean_n abs(L_n(alpha_k = 0) - L_n(1))`,
    r the mean over the data, which is `mrp / N` on the same data.

    `c * sum_consumers K_rest * norm(W_k) * dev_k`, with `dev_k = sqrt(mean_n norm(a_nk - r)^2)` over all positions and
    columns of the unit (sqrt(T) times the standard deviation for one column and T positions), `norm(W_k)` the operator
    norm of that part of the consumer which reads the unit, and `K_rest` the Lipschitz constant from what the consumer
    gives to the logits z. `c = sqrt(mean_n sup_z norm(dL_n/dz_n)^2)`: sqrt(2) for `cross_entropy`, and sqrt(2 / T)
    where a sample's loss is the mean over T targets that are not ignored, as their T gradients are each divided by T;
    sqrt(m) for `binary_cross_entropy`, which sums over m outputs (targets that are no classes, but between, lower
    both). The bound holds in exact arithmetic: losses in float32 differ by rounding besides.

    Raises:
        DataError: where an op behind a consumer has no constant (LayerNorm, softmax, products of activations).
        LossError: for a loss whose slope has no limit: squared error has `sqrt(L(0)) <= sqrt(L(1)) + K dev / sqrt(2)`.

    Source: "Train first vs prune first in neural networks", AI Alignment Forum, comment on the bound ("increase the
    loss by at most KX, where K is the product of the operator norm of the weight matrices"), which leaves out sqrt(2),
    positions and the reference.
    """
    _refuse_loss(question.loss)
    _refuse_normalised(question)
    samples = count(question.batches)
    gates = question.gates()
    squares = {
        group.name: [torch.zeros(group.size, dtype=torch.float64) for _ in group.consumers] for group in question.groups
    }
    reach = {
        group.name: [torch.zeros(group.size, dtype=torch.float64) for _ in group.consumers] for group in question.groups
    }
    slopes, downstream = 0.0, _DownstreamNorms(question, gates.state)
    with torch.no_grad():
        for batch in track(question.progress, "certificate", question.batches):
            slopes += _slopes(question.loss, batch).square().sum().item()
            traced, sizes = _observe(gates, question.groups, batch, squares)
            for name, norms in downstream.norms(traced, sizes).items():
                reach[name] = [torch.maximum(have, new) for have, new in zip(reach[name], norms, strict=True)]
    scale = math.sqrt(slopes) / samples
    return {
        group.name: torch.stack(
            [torch.zeros(group.size, dtype=torch.float64)]
            + [scale * each * part.sqrt() for each, part in zip(reach[group.name], squares[group.name], strict=True)]
        ).sum(0)
        for group in question.groups
    }


def certify(
    model_or_network: nn.Module | Network,
    data: Iterable[Any],
    units: Mapping[str, Iterable[int] | Tensor],
    *,
    loss: Any = "cross_entropy",
    samples: int = 4096,
) -> float:
    """Certified upper bound on the mean absolute change of the loss when several units are replaced by their means
    together.

    It is the sum of their certificates: where a consumer reads closed units, these stand at their mean r in the intact
    network whatever happens before, so their deviation is the intact network's, and what else the consumer reads moves
    by what earlier units cause.

    Args:
        model_or_network: a module, traced with the first batch, or a `Network`; it is left as it was.
        data: any iterable of batches, `(inputs, targets)` or the dicts that the model takes.
        units: {group: unit indices}, the units that are closed.
        loss: "cross_entropy", "binary_cross_entropy" or `nn.CrossEntropyLoss()`.
        samples: at most so many samples of the data are read.

    Returns:
        A bound on `mean_n abs(L_n - L_n(1))`, in the unit of the loss.

    Raises:
        DataError: for groups or units that do not exist, or an op without a Lipschitz constant.
        LossError: for a loss whose slope has no limit.

    Source:
        "Train first vs prune first in neural networks", AI Alignment Forum, comment on the bound, applied unit by unit
        from back to front.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> data = [(torch.randn(8, 2), torch.randint(2, (8,)))]
        >>> certify(model, data, {"0": []})
        0.0
        >>> certify(model, data, {"0": [0, 2]}) > 0
        True
    """
    found = score(model_or_network, data, loss=loss, criterion="certificate", samples=samples)
    total = 0.0
    for name, chosen in units.items():
        if name not in found:
            raise DataError(f"There is no group {name!r}; the groups are {', '.join(found)}.")
        indices = sorted({int(unit) for unit in chosen})
        size = len(found[name])
        if indices and not 0 <= indices[0] <= indices[-1] < size:
            raise DataError(f"The group {name} has units 0 to {size - 1}; {indices} has others.")
        total += found[name][indices].sum().item()
    return total


def _refuse_loss(loss: Loss) -> None:
    if loss.sampled is SAMPLED["cross_entropy"] or loss.function is NAMED_LOSSES["binary_cross_entropy"]:
        return
    squared = loss.function in (NAMED_LOSSES["mse"], NAMED_LOSSES["squared_error"])
    why = (
        "its slope has no limit, so that only sqrt(L(0)) <= sqrt(L(1)) + K dev / sqrt(2) holds, L the mean of "
        "1/2 norm(o - t)^2"
        if squared
        else "its slope is not known"
    )
    raise LossError(
        f"The loss {loss.name} has no certificate: {why}; use cross_entropy or binary_cross_entropy, or the criterion "
        "mrp."
    )


def _slopes(loss: Loss, batch: Batch) -> Tensor:
    """The Lipschitz constant of each sample's loss in its logits: `sup_z norm(dL_n/dz_n)`, shape (samples,), float64.

    Cross-entropy with targets q has the gradient s p - q, s = sum q, p on the simplex: its norm is largest at a corner.
    Binary cross-entropy has sigmoid(z) - t for each output.
    """
    targets = batch.targets
    if not isinstance(targets, Tensor):
        raise LossError(f"The loss {loss.name} needs targets: batches of (inputs, targets), or mappings with labels.")
    if loss.function is NAMED_LOSSES["binary_cross_entropy"]:
        wanted = targets.double().reshape(batch.rows, -1)
        return torch.maximum(wanted.abs(), (1 - wanted).abs()).square().sum(1).sqrt()
    if targets.is_floating_point():
        wanted = targets.double()
        total, energy = wanted.sum(1, keepdim=True), wanted.square().sum(1, keepdim=True)
        worst = (total.square() - 2 * total * wanted + energy).amax(1).clamp(min=0).reshape(batch.rows, -1)
        return worst.sum(1).sqrt() / worst.shape[1]
    counted = (targets != -100).reshape(batch.rows, -1).sum(1).double()
    if loss.function is not NAMED_LOSSES["cross_entropy"]:
        counted = torch.ones_like(counted)  # another ignore_index may leave a single target
    return (2 / counted.clamp(min=1)).sqrt() * (counted > 0)


def _refuse_normalised(question: Question) -> None:
    names = {group.name for group in question.groups} | set(question.state.closed)
    for group in question.network.groups:
        if group.name in names and group.norms:
            raise DataError(
                f"The certificate has no bound for {group.name}: {where(group.norms[0].node)} takes statistics over "
                "its units, which change with the units that remain; use the criterion mrp."
            )


def _observe(
    gates: Gates, groups: Sequence[Group], batch: Batch, squares: Mapping[str, list[Tensor]]
) -> tuple[Traced, dict[fx.Node, Any]]:
    """One forward pass: add `sum norm(a_nk - r)^2` at each consumer to `squares`.

    Returns the graph, and the size of what each of its nodes gives. Deviations are taken from r itself, as differences
    of moments cancel.
    """
    batch = batch.to(gates.network.device())
    tensors, traced = gates.traced(batch)
    edits = gates.edits(traced, {})
    sizes: dict[fx.Node, Any] = {node: each.shape for node, each in zip(traced.graph.inputs, tensors, strict=True)}
    for group in [traced.group(each.name) for each in groups]:
        references = gates.references.get(group.name) or [None] * len(group.consumers)
        for index, (site, reference) in enumerate(zip(group.consumers, references, strict=True)):
            edits.on_read(site.node, site.position, _deviations(squares[group.name], index, site, reference))
    for node in traced.graph.calls:
        edits.made[node] = _measured(sizes, node, edits.made.get(node))
    outputs = traced.output.fill(traced.graph.run(tensors, gates.state, edits))
    if not torch.isfinite(gates.loss_function.per_sample(outputs, batch)).all():
        raise LossError(f"The loss {gates.loss_function.name} is not finite on this data; nothing can be certified.")
    return traced, sizes


def _deviations(squares: list[Tensor], index: int, site: Site, reference: Tensor | None) -> Edit:
    def edit(value: Tensor) -> Tensor:
        wide = value.double()
        apart = wide if reference is None else wide - along(reference.to(wide), value.dim(), site.axis)
        columns = apart.square().movedim(site.axis, -1).flatten(0, -2).sum(0).cpu()
        squares[index] = squares[index] + by_unit(columns, site, len(squares[index]))
        return value

    return edit


def _measured(sizes: dict[fx.Node, Any], node: fx.Node, before: Edit | None) -> Edit:
    def edit(value: Tensor) -> Tensor:
        value = value if before is None else before(value)
        sizes[node] = value.shape if isinstance(value, Tensor) else None
        return value

    return edit


class _DownstreamNorms:
    """`K_rest * norm(W_k)` at the consumers of a question's groups, kept for graphs and sizes that were seen."""

    def __init__(self, question: Question, state: Mapping[str, Tensor]) -> None:
        self.groups = question.groups
        self.loss = question.loss
        self.state = state
        self._graphs: dict[Graph, Downstream] = {}
        self._seen: set[tuple[Graph, tuple[Any, ...]]] = set()

    def norms(self, traced: Traced, sizes: dict[fx.Node, Any]) -> dict[str, list[Tensor]]:
        """For each group and consumer a tensor (K,); nothing for sizes that were seen before."""
        graph = traced.graph
        key = graph, tuple(sizes[node] for node in graph.inputs)
        if key in self._seen:
            return {}
        self._seen.add(key)
        if graph not in self._graphs:
            self._graphs[graph] = Downstream(graph, graph.constants_of(self.state))
        downstream = self._graphs[graph]
        downstream.sizes = sizes
        groups = [traced.group(group.name) for group in self.groups]
        sites = [site for group in groups for site in group.consumers]
        rest = downstream.constants(_logits(traced, self.loss), {site.node for site in sites})
        return {
            group.name: [
                rest[site.node] * downstream.unit_norms(site, group.size)
                if rest[site.node]
                else torch.zeros(group.size, dtype=torch.float64)
                for site in group.consumers
            ]
            for group in groups
        }


def _logits(traced: Traced, loss: Loss) -> Any:
    """The output that a loss reads."""
    marks = [torch.empty(0) for _ in traced.graph.outputs]
    found = logits_of(traced.output.fill(marks), loss.name)
    return next(out for out, mark in zip(traced.graph.outputs, marks, strict=True) if mark is found)
