"""Second-order estimates of the loss without a unit: by recursion over the layers, exactly, and by Gauss-Newton."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from deadhead.data.calibration import Batch, count
from deadhead.data.losses import Loss
from deadhead.errors import LossError
from deadhead.gates.gates import Gates
from deadhead.gates.sites import by_unit, columns_sum
from deadhead.gates.slopes import slopes_by_sample
from deadhead.graph.pytree import take
from deadhead.graph.units.groups import Group
from deadhead.progress import track
from deadhead.scores.criterion import Question, criterion
from deadhead.scores.second_order.derivatives import derivatives, twice
from deadhead.scores.second_order.recursion import curvatures

DRAWS = 4
"""How many targets `taylor2_gauss_newton` draws for each sample that has many outputs."""

FEW_OUTPUTS = 16
"""Up to so many outputs to a sample, `taylor2_gauss_newton` is exact."""


@criterion("taylor2", comparable=True, increase=True, needs_sample_losses=True, at_consumers=True)
def taylor2(question: Question) -> dict[str, Tensor]:
    """Second-order Taylor expansion: `-dL/dalpha_k + 1/2 d2L/dalpha_k^2`, the quadratic estimate of the change of the
    mean loss when a unit is removed, with second derivatives by backpropagation of the Hessian diagonal.

    Signed, shape (K,), in the unit of the loss, at alpha = 1. With `h = d2L/da^2` entry by entry (see `curvatures`),
    `d2L/dalpha_k^2` is taken as `sum (a - r)^2 h` over samples, positions, columns and consumers. Second derivatives
    by two different entries are left out everywhere: between positions of a convolution, columns of a unit, consumers,
    and, below the last hidden layer or under a softmax, between the units of a layer. Exact for the last hidden layer
    where it is linear, its units have a column each and the loss and what follows are elementwise.

    Raises:
        DataError: at ops that the recursion does not go through: products of activations, normalisations by statistics
            of the activations, softmax and attention.

    Source: Wolfe et al. (2016), equation 4 and appendix A, (73) instead of the misprinted (71).
    """
    gates = question.gates()
    total = _zeros(question)
    samples = count(question.batches)
    for batch in track(question.progress, "taylor2", question.batches):

        def visit(group: Group, index: int, value: Tensor, first: Tensor, second: Tensor) -> None:
            site, moved = group.consumers[index], gates.deviation(group, index, value)
            change = moved * (0.5 * moved * second - first)
            total[group.name] += by_unit(columns_sum(change, site), site, group.size).cpu()

        curvatures(gates, question.groups, batch, visit)
    return {name: value / samples for name, value in total.items()}


@criterion("taylor2_exact", comparable=True, increase=True)
def taylor2_exact(question: Question) -> dict[str, Tensor]:
    """Second-order Taylor expansion with exact second derivatives: `-dL/dalpha_k + 1/2 d2L/dalpha_k^2` by double
    backpropagation, a slow reference for the other second-order criteria.

    Signed, shape (K,), in the unit of the loss, at alpha = 1. A forward and a backward pass, and for each unit k a
    backward pass through both, which gives row k of the Hessian by the gates: more work than the oracle's one forward
    pass for each unit. Second derivatives at kinks (ReLU, max-pool) count as zero.

    Raises:
        DataError: at an op that torch cannot differentiate twice.

    Source: Wolfe et al. (2016), equation 4, with nothing left out.
    """
    gates = question.gates()
    total = _zeros(question)
    samples = count(question.batches)
    for batch in track(question.progress, "taylor2_exact", question.batches):
        alphas = {g.name: torch.ones(g.size, dtype=torch.float64, requires_grad=True) for g in question.groups}
        with torch.enable_grad(), twice():
            losses = gates.loss(alphas, batch)
            if not losses.requires_grad:
                continue
            gradients = torch.autograd.grad(losses.sum(), list(alphas.values()), create_graph=True, allow_unused=True)
            for (name, alpha), gradient in zip(alphas.items(), gradients, strict=True):
                if gradient is None:
                    continue
                total[name] -= gradient.detach()
                for unit in range(len(alpha) if gradient.requires_grad else 0):
                    row = torch.autograd.grad(gradient[unit], alpha, retain_graph=True, allow_unused=True)[0]
                    total[name][unit] += 0.0 if row is None else 0.5 * row[unit].item()
    return {name: value / samples for name, value in total.items()}


@criterion("taylor2_gauss_newton", comparable=True, increase=True, needs_sample_losses=True)
def taylor2_gauss_newton(question: Question) -> dict[str, Tensor]:
    """Second-order Taylor expansion with the generalized Gauss-Newton (GGN) approximation of the Hessian:
    `-dL/dalpha_k + 1/2 G_kk`.

    Signed, shape (K,), in the unit of the loss, at alpha = 1. `G = mean_n J_n^T H_n J_n`, where `J_n` are the
    derivatives of sample n's outputs by the gates and `H_n` the Hessian of its loss by its outputs, so that the
    curvature of the network itself is left out, and no pair of positions, columns or consumers is.

    Up to 16 outputs to a sample, exact: `G_kk = mean_n sum_i l_i (v_i^T J_nk)^2` over eigenvalues and eigenvectors of
    `H_n`, a forward and backward pass for each output. Above, an estimate: the mean of `(ds_n/dalpha_k)^2` over 4
    draws, by the question's seed, of a loss `s` against targets drawn from the model's own prediction (as for the
    Fisher matrix), a pass for each draw.

    Raises:
        LossError: where targets have to be drawn and the loss has no predictive distribution.

    Source: Schraudolph (2002), Gauss-Newton, for Wolfe et al. (2016), equation 4.
    """
    gates = question.gates()
    total = _zeros(question)
    samples = count(question.batches)
    generator = torch.Generator().manual_seed(question.seed)
    parts = [part for batch in question.batches for part in gates.passes_per_sample(batch, question.groups)]
    for batch, sample in track(question.progress, "taylor2_gauss_newton", parts):
        for name, first in slopes_by_sample(gates, question.groups, batch, sample).items():
            total[name] -= first.sum(0)
        for loss, weight in _roots(gates, batch, generator):
            for name, slope in slopes_by_sample(gates.judged_by(loss), question.groups, batch, sample).items():
                weights = weight() if sample is None else weight()[sample : sample + 1]
                total[name] += 0.5 * (slope.square() * weights[:, None]).sum(0)
    return {name: value / samples for name, value in total.items()}


def _zeros(question: Question) -> dict[str, Tensor]:
    return {group.name: torch.zeros(group.size, dtype=torch.float64) for group in question.groups}


def _roots(gates: Gates, batch: Batch, generator: torch.Generator) -> Iterator[tuple[Loss, Callable[[], Tensor]]]:
    """Losses s and a weight for each sample, shape (samples,), such that the weighted sum of `ds ds^T` is `J^T H J`."""
    loss = gates.loss_function
    with torch.no_grad():
        tensors = [each for each in take(gates.outputs({}, batch))[0] if each.is_floating_point()]
    by_samples = all(each.dim() and each.shape[0] == batch.rows for each in tensors)
    outputs = sum(each.numel() for each in tensors) // batch.rows
    if by_samples and outputs <= FEW_OUTPUTS:
        roots = _Roots(loss)
        for output in range(outputs):
            yield Loss(loss.name, roots.along(output), is_rowwise=True), functools.partial(roots.sign, output)
        return
    sampled = loss.sampled
    if sampled is None:
        raise LossError(
            f"The loss {loss.name} has no known predictive distribution to draw targets from, which "
            f"taylor2_gauss_newton needs for more than {FEW_OUTPUTS} outputs; choose taylor2 or taylor1."
        )
    for _ in range(DRAWS):
        drawn = Loss(loss.name, lambda outputs, batch: sampled(outputs, batch, generator), is_rowwise=True)
        yield drawn, lambda: torch.full((batch.rows,), 1 / DRAWS, dtype=torch.float64)


class _Roots:
    """The linear losses `sqrt(abs(l_i)) v_i^T o`, l and v the eigenvalues and eigenvectors of each sample's Hessian of
    the loss by its outputs o; `signs` of the eigenvalues, shape (samples, outputs)."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.vectors: Tensor | None = None
        self.signs = torch.zeros(0)

    def along(self, output: int) -> Callable[[Any, Batch], Tensor]:
        def function(outputs: Any, batch: Batch) -> Tensor:
            if self.vectors is None:
                self._factor(outputs, batch)
            assert self.vectors is not None
            flat = [each.reshape(batch.rows, -1) for each in take(outputs)[0] if each.is_floating_point()]
            return (torch.cat(flat, 1) * self.vectors[..., output].to(flat[0])).sum(1)

        return function

    def sign(self, output: int) -> Tensor:
        return self.signs[:, output]

    def _factor(self, outputs: Any, batch: Batch) -> None:
        tensors, structure = take(outputs)
        ends = [each.detach().requires_grad_(each.is_floating_point()) for each in tensors]
        smooth = [each for each in ends if each.requires_grad]
        with twice():
            losses = self.loss.per_sample(structure.fill(ends), batch)
            gradients = derivatives(losses.sum(), smooth, create_graph=True)
            flat = torch.cat([each.reshape(batch.rows, -1) for each in gradients], 1)
            columns = []
            for place in range(flat.shape[1]):
                column = derivatives(flat[:, place].sum(), smooth)
                columns.append(torch.cat([each.reshape(batch.rows, -1) for each in column], 1))
        hessians = torch.stack(columns, 2).double().cpu()
        values, vectors = torch.linalg.eigh((hessians + hessians.mT) / 2)
        self.vectors, self.signs = vectors * values.abs().sqrt()[:, None], values.sign()
