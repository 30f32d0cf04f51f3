"""The curvature of the loss with respect to the outputs of consumers: how much errors of these cost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from deadhead.data.calibration import Batch, count
from deadhead.gates.gates import Gates
from deadhead.graph.units.matrices import Layout, layout_of
from deadhead.progress import Progress, track

MOST_OUTPUTS = 4096
"""Maximum number of outputs with a full curvature matrix; above, only its diagonal is kept."""


def output_curvatures(
    gates: Gates, weights: Collection[str], batches: Sequence[Batch], seed: int = 0, progress: Progress | None = None
) -> dict[str, Tensor]:
    """The curvature of the loss with respect to the outputs of the consumers of each weight.

    `S = mean_n sum_s g_ns g_ns^T`, n the samples, s the positions. With `g_ns` the gradient of sample n's loss against
    targets drawn from the model's own prediction, S is the Gauss-Newton matrix of the loss there, without the products
    of two positions; where the loss has no known predictive distribution, g is the gradient of the loss itself (the
    empirical Fisher matrix). One forward and one backward pass over the data.

    Args:
        gates: the network and the loss.
        weights: the names of the weights.
        batches: the data.
        seed: the seed of the drawn targets.
        progress: what reports the batches done.

    Returns:
        {weight: (groups, o, o)}, float64, or the diagonal, (groups, o), above `MOST_OUTPUTS` outputs; without weights
        that the loss does not depend on, or not differentiably.
    """
    loss = gates.loss_function
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, Tensor] = {}
    for batch in track(progress, "curvature", batches):
        batch = batch.to(gates.network.device())
        tensors, traced = gates.traced(batch)
        edits, leaves = gates.edits(traced, {}), list[Tensor]()
        sites = {site.node: site for group in traced.units.groups for site in group.consumers if site.weight in weights}
        for node, site in sites.items():
            layout = layout_of(site, gates.state[site.weight or ""].shape)
            if isinstance(layout, Layout):
                edits.on_made(node, _tap(layout, site.weight or "", sums, leaves))
        with torch.enable_grad():
            outputs = traced.output.fill(traced.graph.run(tensors, gates.state, edits))
            losses = loss.sampled(outputs, batch, generator) if loss.sampled else loss.per_sample(outputs, batch)
            if leaves and losses.requires_grad:
                torch.autograd.backward(losses.sum(), inputs=leaves)
    return {weight: total / count(batches) for weight, total in sums.items()}


def _tap(layout: Layout, weight: str, sums: dict[str, Tensor], leaves: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """An edit of a node's output that adds the products of its gradient to `sums`; outputs without one are leaves."""

    def add(gradient: Tensor) -> None:
        rows = layout.outputs(gradient)
        rows = rows.float() if rows.dtype in (torch.bfloat16, torch.float16) else rows
        if rows.shape[-1] > MOST_OUTPUTS:
            product = rows.square().sum(1, dtype=torch.float64)
        else:
            product = (rows.transpose(-1, -2) @ rows).double()
        sums[weight] = sums[weight] + product if weight in sums else product

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
    """R with `R^T R` = a symmetric matrix, (o, o), without its negative part; the square root of a diagonal, (o,)."""
    if curvature.dim() == 1:
        return curvature.clamp(min=0).sqrt()
    values, vectors = torch.linalg.eigh((curvature + curvature.T) / 2)
    root: Tensor = values.clamp(min=0).sqrt()[:, None] * vectors.T
    return root
