"""The curvature of the loss at what consumers give: which errors of theirs matter, and how much."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from deadhead.data.calibration import Batch, count
from deadhead.gates.gates import Gates
from deadhead.graph.units.matrices import Layout, layout_of
from deadhead.progress import Progress, track

MOST_OUTPUTS = 4096
"""Above, only the diagonal of the curvature is kept."""


def output_curvatures(
    gates: Gates, weights: Collection[str], batches: Sequence[Batch], seed: int = 0, progress: Progress | None = None
) -> dict[str, Tensor]:
    """`S = mean_n sum_s g_ns g_ns^T` at what the consumers of each weight give, s the positions, shape (groups, o, o),
    float64. Above 4,096 outputs its diagonal, shape (groups, o).

    With `g_ns` the gradient of sample n's loss against targets drawn from the model's own prediction, S is the
    Gauss-Newton matrix of the loss there, but for what two positions curve together; where the loss has no known
    predictive distribution, g is the gradient of the loss itself (the empirical Fisher matrix). One forward and one
    backward pass over the data. Weights that the loss does not depend on, or not differentiably, are missing.
    """
    loss = gates.loss_function
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for batch in track(progress, "curvature", batches):
        batch = batch.to(gates.network.device())
        tensors, traced = gates.traced(batch)
        edits, leaves = gates.edits(traced, {}), list[Tensor]()
        sites = {site.node: site for group in traced.units.groups for site in group.consumers if site.weight in weights}
        for node, site in sites.items():
            layout = layout_of(site, gates.state[site.weight or ""].shape)
            if isinstance(layout, Layout):
                edits.on_made(node, _tap(layout, site.weight or "", found, leaves))
        with torch.enable_grad():
            outputs = traced.output.fill(traced.graph.run(tensors, gates.state, edits))
            losses = loss.sampled(outputs, batch, generator) if loss.sampled else loss.per_sample(outputs, batch)
            if leaves and losses.requires_grad:
                torch.autograd.backward(losses.sum(), inputs=leaves)
    return {weight: total / count(batches) for weight, total in found.items()}


def _tap(layout: Layout, weight: str, found: dict[str, Tensor], leaves: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """Cut what a node gives off from what made it, or go on from there, and add up the products of its gradient."""

    def add(gradient: Tensor) -> None:
        rows = layout.outputs(gradient)
        rows = rows.float() if rows.dtype in (torch.bfloat16, torch.float16) else rows
        if rows.shape[-1] > MOST_OUTPUTS:
            product = rows.square().sum(1, dtype=torch.float64)
        else:
            product = (rows.transpose(-1, -2) @ rows).double()
        found[weight] = found[weight] + product if weight in found else product

    def tap(value: Tensor) -> Tensor:
        if value.requires_grad:
            edge = value.view_as(value)
        else:
            edge = value.detach().requires_grad_()
            leaves.append(edge)
        edge.register_hook(add)  # type: ignore[no-untyped-call]
        return edge

    return tap


def root_of(curvature: Tensor) -> Tensor:
    """R with `R^T R` = a symmetric matrix without its negative part, shape (o, o); of a diagonal (o,), its root."""
    if curvature.dim() == 1:
        return curvature.clamp(min=0).sqrt()
    values, vectors = torch.linalg.eigh((curvature + curvature.T) / 2)
    root: Tensor = values.clamp(min=0).sqrt()[:, None] * vectors.T
    return root
