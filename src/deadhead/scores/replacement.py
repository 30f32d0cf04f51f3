"""Mean replacement: by how much the loss changes, exactly or to first order, when a unit is replaced by its mean."""

from __future__ import annotations

import torch
from torch import Tensor

from deadhead.data.calibration import Batch
from deadhead.gates.sites import by_sample, by_unit, columns_sum
from deadhead.graph.samples import SampleLayout
from deadhead.graph.units.groups import Group
from deadhead.progress import track
from deadhead.scores.criterion import Question, criterion
from deadhead.scores.exact import changes


@criterion("mrp", comparable=True, needs_sample_losses=True, reference="mean")
def mrp(question: Question) -> dict[str, Tensor]:
    """Mean replacement penalty (MRP): the sum over samples of the absolute change of the loss when a unit is replaced
    by its mean, `sum_n abs(L_n(alpha_k = 0) - L_n(1))`.

    Shape (K,), in the unit of the loss; the mean r is taken over samples and positions. A unit is dead, in the sense of
    the source, where every term is about 0.

    Source: Evci (2018), definition 3.1.1.
    """
    return changes(question, "mrp", torch.abs)


@criterion("mrs", comparable=True, needs_sample_losses=True, reference="mean")
def mrs(question: Question) -> dict[str, Tensor]:
    """Mean replacement saliency (MRS): the sum over samples of the absolute first-order change of the loss when a unit
    is replaced by its mean, `sum_n abs(dL_n/dalpha_k)`.

    Shape (K,), in the unit of the loss. With s the positions and j the columns of the unit, r the mean over samples and
    positions, `dL_n/dalpha_k = sum_s,j (a - r_j) dL_n/da` at alpha = 1. One forward and one backward pass:
    `P = sum_s,j a dL/da` and `Q_j = sum_s dL/da` are kept for each sample, and `abs(P - sum_j r_j Q_j)` is taken once
    the mean is known. Samples that an op moves about inside the network (to experts, say) or that depend on each other
    take a pass each.

    Source: Evci (2018), definition 3.1.2, eq. 3.3.
    """
    gates = question.gates_without_references()
    store = {group.name: _Store(group) for group in question.groups}
    parts = [part for batch in question.batches for part in gates.passes_per_sample(batch, question.groups)]
    for batch, sample in track(question.progress, "mrs", parts):
        samples, first = (batch.rows, True) if sample is None else (1, sample == 0)

        def visit(
            group: Group,
            index: int,
            value: Tensor,
            gradient: Tensor,
            batch: Batch = batch,
            samples: int = samples,
            first: bool = first,
        ) -> None:
            layout = gates.layout(batch, group.name, index)
            store[group.name].add(index, value, gradient, samples, layout, first)

        for each in store.values():
            each.open(samples)
        gates.sensitivities(batch, visit, sample, store)
    return {name: each.result() for name, each in store.items()}


@criterion("mrs_positions", comparable=True, reference="mean")
def mrs_positions(question: Question) -> dict[str, Tensor]:
    """Mean replacement saliency (MRS) with absolute values taken at every position instead of every sample:
    `sum_n,s,j abs((a - r_j) dL_n/da)`.

    Shape (K,), over samples n, positions s and columns j, r the mean. At least `mrs`, and above 0 where a unit's
    effects cancel within a sample.

    Source: Evci (2018), the author's package; eq. 3.3 sums over positions before it takes the absolute value.
    """
    gates = question.gates()
    total = {group.name: torch.zeros(group.size, dtype=torch.float64) for group in question.groups}
    for batch in track(question.progress, "mrs_positions", question.batches):

        def visit(group: Group, index: int, value: Tensor, gradient: Tensor) -> None:
            site, change = group.consumers[index], (gates.deviation(group, index, value) * gradient).abs()
            total[group.name] += by_unit(columns_sum(change, site), site, group.size).cpu()

        gates.sensitivities(batch, visit, groups=total)
    return total


class _Store:
    """P, Q and the sums of activations of one group, for the samples seen so far."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.products: list[Tensor] = []
        self.gradients: list[list[Tensor | None]] = []
        self.sums: list[Tensor | None] = [None] * len(group.consumers)
        self.counts = [0] * len(group.consumers)

    def open(self, samples: int) -> None:
        self.products.append(torch.zeros(samples, self.group.size))
        self.gradients.append([None] * len(self.group.consumers))

    def add(
        self, index: int, value: Tensor, gradient: Tensor, samples: int, layout: SampleLayout | None, first: bool
    ) -> None:
        site = self.group.consumers[index]
        product = by_unit(by_sample(value * gradient, site, samples, layout), site, self.group.size)
        self.products[-1] = self.products[-1].to(product) + product
        self.gradients[-1][index] = by_sample(gradient, site, samples, layout)
        if not first:
            return  # the same activations again, for another sample's loss
        total = columns_sum(value, site)
        have = self.sums[index]
        self.sums[index] = total if have is None else have + total
        self.counts[index] += value.numel() // value.shape[site.axis]

    def result(self) -> Tensor:
        total = torch.zeros(self.group.size, dtype=torch.float64)
        means = [None if s is None else s / n for s, n in zip(self.sums, self.counts, strict=True)]
        for product, gradients in zip(self.products, self.gradients, strict=True):
            change = product.double()
            for site, gradient, mean in zip(self.group.consumers, gradients, means, strict=True):
                if gradient is not None and mean is not None and not site.among:
                    change = change - by_unit(gradient.double() * mean, site, self.group.size)
            total += change.abs().sum(0).cpu()
        return total
