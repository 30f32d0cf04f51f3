"""How much the loss should rise by the prune, by the loss's first derivative and its Gauss-Newton curvature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.data.calibration import Batch, count
from deadhead.data.losses import Loss
from deadhead.gates.gates import Gates
from deadhead.graph.graph import Edits, Graph
from deadhead.graph.network import Network, Traced
from deadhead.graph.samples import BATCH_FIRST, SampleLayout
from deadhead.graph.units.groups import Group
from deadhead.graph.units.matrices import Layout, layout_of
from deadhead.progress import Progress, track
from deadhead.reconstruction.compensation import Compensation
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
    closed = Gates(network, loss, closed=plan.alpha(groups))
    changed = _under_every_name(network, compensation.state)
    generator = torch.Generator().manual_seed(seed)
    state = network.frozen_state()
    total = 0.0
    for batch in track(progress, "prediction", batches):
        batch = batch.to(network.device())
        tensors = network.flatten(batch.inputs)
        traced = network.traced(tensors)
        if traced.samples.mixed:
            return None
        step = torch.zeros(batch.rows, device=network.device(), requires_grad=True)
        edits = _edits(traced, state, changed, closed.edits(traced, {}), compensation, step)
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
    traced: Traced,
    state: Mapping[str, Tensor],
    changed: Mapping[str, Tensor],
    closed: Edits,
    compensation: Compensation,
    step: Tensor,
) -> Edits | None:
    """What moves every node that reads a changed tensor or a closed unit by `step` towards its changed result; None
    where the samples of such a result cannot be told apart."""
    graph, live = traced.graph, traced.units.labels.live
    new: dict[fx.Node, Any] = {node: changed[name] for node, name in graph.state.items() if name in changed}
    constant_values = graph.constants_of({**state, **changed}) if new else {}
    for node in graph.calls:
        if node in constant_values and node not in live and any(arg in new for arg in node.all_input_nodes):
            new[node] = constant_values[node]
    sites = {site.node: site for group in traced.units.groups for site in (*group.norms, *group.consumers)}
    edits = Edits()
    for node in graph.calls:
        reads = any(arg in new for arg in node.all_input_nodes) or node in closed.read or node in closed.around
        if node in live and reads:
            site = sites.get(node)
            constant = compensation.added.get(site.weight or "") if site else None
            place = -1 if isinstance(node.meta.get("val"), Tensor) or site is None else site.position
            samples = traced.samples.at(node, place) if site else BATCH_FIRST
            if samples is None:
                return None
            layout = layout_of(site, state[site.weight or ""].shape) if site and constant is not None else None
            if constant is not None and isinstance(layout, Layout):
                constant = layout.spread(constant)
            edits.around[node] = _toward(graph, node, new, closed, step, samples, constant)
    return edits


def _under_every_name(network: Network, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name, those that are shared under each of theirs."""
    held = network.state()
    return {other: tensor for name, tensor in state.items() for other, value in held.items() if value is held[name]}


def _toward(
    graph: Graph,
    node: fx.Node,
    new: Mapping[fx.Node, Any],
    closed: Edits,
    step: Tensor,
    samples: SampleLayout,
    constant: Tensor | None,
) -> Callable[[Callable[..., Any], list[Any], dict[str, Any]], Any]:
    """What the node gives, moved by `step` (samples,) towards what it gives with its changed arguments and closed
    units."""

    def around(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        value = function(*args, **kwargs)
        if not isinstance(value, Tensor):
            return value
        with torch.no_grad():
            other = [_renewed(source, arg, new) for source, arg in zip(node.args, args, strict=True)]
            moved = graph.apply(node, other, kwargs, closed)
            if constant is not None:
                moved = moved + constant
            change = moved - value
        if not samples.fits(change, len(step)):
            return value
        return value + samples.spread(step.to(change.dtype), change) * change

    return around


def _renewed(source: Any, arg: Any, new: Mapping[fx.Node, Any]) -> Any:
    """An argument, or a list of them, with what is changed in it."""
    if isinstance(source, (list, tuple)):
        return [_renewed(each, part, new) for each, part in zip(source, arg, strict=True)]
    return new.get(source, arg) if isinstance(source, fx.Node) else arg
