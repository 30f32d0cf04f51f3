"""How much the loss should rise by the prune, by the loss's first derivative and its Gauss-Newton curvature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from deadhead.calibration import Batch, count
from deadhead.graph.graph import Edits
from deadhead.graph.network import Network
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
        step = torch.zeros(batch.rows, device=network.device(), requires_grad=True)
        edits = Edits()
        touched: set[str] = set()
        for node in traced.graph.calls:
            names = {
                traced.graph.state[arg] for arg in node.all_input_nodes if arg in traced.graph.state
            } & changed.keys()
            if names:
                touched |= names
                edits.around[node] = _toward(node, traced.graph.state, changed, step)
        for site in (site for group in traced.units.groups for site in group.consumers):
            if site.weight in compensation.added and site.node in edits.around:
                edits.around[site.node] = _toward(
                    site.node, traced.graph.state, changed, step, compensation.added[site.weight]
                )
        with torch.enable_grad():
            outputs = traced.output.fill(traced.graph.run(tensors, state, edits))
            losses = loss.per_sample(outputs, batch)
            first = torch.autograd.grad(losses.sum(), step, retain_graph=True)[0]
            second = torch.autograd.grad(loss.sampled(outputs, batch, generator).sum(), step)[0]
        total += (first.double() + 0.5 * second.double().square()).sum().item()
    return total / count(batches)


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
    node: fx.Node, names: dict[fx.Node, str], changed: dict[str, Tensor], step: Tensor, constant: Tensor | None = None
) -> Callable[[Callable[..., Any], list[Any], dict[str, Any]], Any]:
    """What the node gives, moved by `step` (rows) towards what it gives with its changed tensors."""

    def around(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        value = function(*args, **kwargs)
        with torch.no_grad():
            new = [
                changed[names[source]] if isinstance(source, fx.Node) and names.get(source) in changed else arg
                for source, arg in zip(node.args, args, strict=True)
            ]
            moved = function(*new, **kwargs)
            if constant is not None:
                shape = [1] * moved.dim()
                shape[1 if "conv" in str(node.target) else -1] = -1
                moved = moved + constant.reshape(shape)
            change = moved - value
        rows = step.repeat_interleave(change.shape[0] // len(step)) if change.shape[0] % len(step) == 0 else step
        return value + rows.reshape(-1, *[1] * (change.dim() - 1)).to(change.dtype) * change

    return around
