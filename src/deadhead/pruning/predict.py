"""How much the loss should rise by the prune, by the loss's first derivative and its Gauss-Newton curvature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.data.calibration import Batch, count
from deadhead.data.losses import Loss
from deadhead.gates.state import PrunedState
from deadhead.graph.graph import Edits, Graph
from deadhead.graph.network import Network, Traced
from deadhead.graph.samples import SampleLayout, layouts_of
from deadhead.graph.units.groups import Group, Site
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
    closed = PrunedState.of(network, plan).gates(loss)
    changed = _under_every_name(network, compensation.tensors)
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
        gates, new = closed.edits(traced, {}), _made_of(traced, {**state, **changed}, changed)
        sites = {site.node: site for group in traced.units.groups for site in (*group.norms, *group.consumers)}
        layouts = _layouts(network, traced, sites, _readers(traced, new, gates), tensors)
        if layouts is None:
            return None
        edits = Edits()
        for node, layout in layouts.items():
            constant = _added(sites.get(node), state, compensation)
            edits.around[node] = _toward(traced.graph, node, new, gates, step, layout, constant)
        with torch.enable_grad():
            outputs = traced.output.fill(traced.graph.run(tensors, state, edits))
            losses = loss.per_sample(outputs, batch)
            if not losses.requires_grad:
                return None
            first = torch.autograd.grad(losses.sum(), step, retain_graph=True)[0]
            second = torch.autograd.grad(loss.sampled(outputs, batch, generator).sum(), step)[0]
        total += (first.double() + 0.5 * second.double().square()).sum().item()
    return total / count(batches)


def _made_of(traced: Traced, state: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> dict[fx.Node, Any]:
    """The changed tensors, and what the graph makes of them without the inputs."""
    graph = traced.graph
    new: dict[fx.Node, Any] = {node: changed[name] for node, name in graph.state.items() if name in changed}
    constant_values = graph.constants_of(state) if new else {}
    for node in graph.calls:
        made = node in constant_values and node not in traced.units.labels.live
        if made and any(arg in new for arg in node.all_input_nodes):
            new[node] = constant_values[node]
    return new


def _readers(traced: Traced, new: Mapping[fx.Node, Any], closed: Edits) -> list[fx.Node]:
    """The nodes that depend on the inputs and read something changed or a closed unit."""
    return [
        node
        for node in traced.graph.calls
        if node in traced.units.labels.live
        and (any(arg in new for arg in node.all_input_nodes) or node in closed.read or node in closed.around)
    ]


def _layouts(
    network: Network,
    traced: Traced,
    sites: Mapping[fx.Node, Site],
    nodes: Sequence[fx.Node],
    tensors: list[Tensor],
) -> dict[fx.Node, SampleLayout] | None:
    """Where the samples lie in what each node gives; None where they cannot be told apart in one of them."""
    others = [node for node in nodes if node not in sites]
    known = layouts_of(traced.graph, others, tensors, network.batch_axis, network.frozen_state()) if others else {}
    for node in nodes:
        if node in sites:
            gives_one = isinstance(node.meta.get("val"), Tensor)
            known[node] = traced.samples.at(node, -1 if gives_one else sites[node].position)
    found = {node: known[node] for node in nodes}
    whole = {node: layout for node, layout in found.items() if layout is not None}
    return whole if len(whole) == len(found) else None


def _added(site: Site | None, state: Mapping[str, Tensor], compensation: Compensation) -> Tensor | None:
    """The constant that the compensation adds to what a node gives, in its layout."""
    constant = compensation.constants.get(site.weight or "") if site else None
    if site is None or constant is None:
        return None
    layout = layout_of(site, state[site.weight or ""].shape)
    return layout.spread(constant) if isinstance(layout, Layout) else constant


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
