"""How much the loss should rise by the prune, by the loss's first derivative and its Gauss-Newton curvature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.calibration import Batch, count
from deadhead.columns import channel_axis
from deadhead.gates import along
from deadhead.graph.graph import Edits
from deadhead.graph.network import Network, Traced
from deadhead.graph.units import Group
from deadhead.losses import Loss
from deadhead.progress import Progress, track
from deadhead.remove.compensate import Compensation
from deadhead.select.plan import Plan


def predict(
    network: Network,
    groups: Sequence[Group],
    plan: Plan,
    compensation: Compensation,
    loss: Loss,
    batches: Sequence[Batch],
    seed: int = 0,
    progress: Progress | None = None,
) -> float | None:
    """`mean_n( g_n . d_n + 1/2 (s_n . d_n)^2 )`: by how much the loss should rise, or None where the loss has no known
    predictive distribution.

    `d_n` is by how much the outputs of all changed consumers move when each reads the intact network's activations,
    `g_n` the gradient of L_n there, `s_n` that of the loss against a target drawn from the model's own prediction, so
    that the mean of `(s . d)^2` is `d^T H d` with H the Gauss-Newton matrix of the loss. Approximate: to second order,
    with one draw for each sample.
    """
    if loss.sampled is None:
        return None
    changed = _changed_state(network, groups, plan, compensation)
    generator = torch.Generator().manual_seed(seed)
    state = network.frozen_state()
    total = 0.0
    for batch in track(progress, "prediction", batches):
        batch = batch.to(network.device())
        tensors = network.flatten(batch.inputs)
        traced = network.traced(tensors)
        if traced.rows.mixed:
            return None
        step = torch.zeros(batch.rows, device=network.device(), requires_grad=True)
        edits = _edits(traced, state, changed, compensation, step)
        if edits is None:
            return None
        with torch.enable_grad():
            outputs = traced.output.fill(traced.graph.run(tensors, state, edits))
            losses = loss.per_sample(outputs, batch)
            if not losses.requires_grad:
                return None
            first = torch.autograd.grad(losses.sum(), step, retain_graph=True)[0]
            second = torch.autograd.grad(loss.sampled(outputs, batch, generator).sum(), step)[0]
        total += (first.double() + 0.5 * second.double().square()).sum().item()
    return total / count(batches)


def _edits(
    traced: Traced, state: Mapping[str, Tensor], changed: Mapping[str, Tensor], compensation: Compensation, step: Tensor
) -> Edits | None:
    """What moves every node that reads a changed tensor by `step` towards its changed result; None where the rows of
    such a result cannot be told apart."""
    graph, live = traced.graph, traced.units.labels.live
    new: dict[fx.Node, Any] = {node: changed[name] for node, name in graph.state.items() if name in changed}
    new.update(graph.constants_of({**state, **changed}, live, new))
    sites = {site.node: site for group in traced.units.groups for site in group.consumers}
    edits = Edits()
    for node in graph.calls:
        if node in live and any(arg in new for arg in node.all_input_nodes):
            site = sites.get(node)
            constant = compensation.added.get(site.weight or "") if site else None
            owner = traced.rows.owners.get((node, site.position), "") if site else "outer"
            if owner not in ("outer", "inner", "second"):
                return None
            edits.around[node] = _toward(node, new, step, owner, constant)
    return edits


def _changed_state(
    network: Network, groups: Sequence[Group], plan: Plan, compensation: Compensation
) -> dict[str, Tensor]:
    """The tensors of the gated network that differ from the intact one's: with the removed columns at zero."""
    state = network.frozen_state()
    changed: dict[str, Tensor] = dict(compensation.state)
    for group in groups:
        gone = plan.removed.get(group.name)
        if gone is None:
            continue
        for site in group.consumers:
            if site.weight is not None and site.weight_axis is not None:
                tensor = changed.get(site.weight, state[site.weight]).clone()
                dead = torch.zeros(group.size + 1, dtype=torch.bool).index_fill_(0, gone, True)
                columns = dead[site.units[: tensor.shape[site.weight_axis]]].nonzero()[:, 0].to(tensor.device)
                changed[site.weight] = tensor.index_fill_(site.weight_axis, columns, 0.0)
    held = network.state()
    for name, tensor in list(changed.items()):
        changed.update({other: tensor for other, value in held.items() if value is held[name]})
    return changed


def _toward(
    node: fx.Node, new: Mapping[fx.Node, Any], step: Tensor, owner: str, constant: Tensor | None
) -> Callable[[Callable[..., Any], list[Any], dict[str, Any]], Any]:
    """What the node gives, moved by `step` (rows) towards what it gives with its changed arguments."""

    def around(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        value = function(*args, **kwargs)
        with torch.no_grad():
            other = [
                new.get(source, arg) if isinstance(source, fx.Node) else arg
                for source, arg in zip(node.args, args, strict=True)
            ]
            moved = function(*other, **kwargs)
            if constant is not None:
                moved = moved + along(constant, moved.dim(), channel_axis(node, moved))
            change = moved - value
        axis = 1 if owner == "second" else 0
        rows = step.to(change.dtype)
        if change.shape[axis] % len(step):
            return value
        times = change.shape[axis] // len(step)
        rows = rows.repeat(times) if owner == "inner" else rows.repeat_interleave(times)
        shape = [1] * change.dim()
        shape[axis] = len(rows)
        return value + rows.reshape(shape) * change

    return around
