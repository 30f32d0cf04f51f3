"""A criterion: Wanda (Sun et al. 2024), weight magnitudes times activation norms, summed over a unit's columns."""

import torch
from torch import Tensor

from deadhead.gates.moments import flat_columns
from deadhead.gates.sites import by_unit
from deadhead.graph.units.groups import Group, Site
from deadhead.graph.units.matrices import Layout, layout_of
from deadhead.scores import Question, criterion


@criterion("wanda")
def wanda(question: Question, *, power: float = 1.0) -> dict[str, Tensor]:
    """Wanda: `sum_j sum_o |W_oj| (mean a_j^2)^(power / 2)` over the columns j that a unit has at its consumers."""
    gates, weights = question.gates_without_references(), question.state.remaining()
    squares: dict[tuple[str, int], tuple[Tensor, int]] = {}

    def add(group: Group, index: int, value: Tensor) -> None:
        columns = _columns(group.consumers[index], weights, value)
        total, count = squares.get((group.name, index), (torch.zeros(()), 0))
        squares[group.name, index] = total + columns.square().sum(1, dtype=torch.float64), count + columns.shape[1]

    for batch in question.batches:
        gates.observe(batch, add)
    scores = {group.name: torch.zeros(group.size, dtype=torch.float64) for group in question.groups}
    for group in question.groups:
        for index, site in enumerate(group.consumers):
            total, count = squares[group.name, index]
            scores[group.name] += _summed(site, weights, (total / count) ** (power / 2), group.size)
    return scores


def _layout(site: Site, weights: dict[str, Tensor]) -> Layout | None:
    """How a consumer lays out its weight, where it has one: grouped and transposed convolutions, einsum, and so on."""
    layout = None if site.weight is None else layout_of(site, weights[site.weight].shape)
    return layout if isinstance(layout, Layout) else None


def _columns(site: Site, weights: dict[str, Tensor], value: Tensor) -> Tensor:
    """What a consumer reads: (groups, samples and positions, columns)."""
    layout = _layout(site, weights)
    return flat_columns(value, site.axis)[None] if layout is None else layout.columns(value)


def _summed(site: Site, weights: dict[str, Tensor], norms: Tensor, size: int) -> Tensor:
    """The norms (groups, columns) times the magnitudes of the weights on them, summed over each unit's columns."""
    layout = _layout(site, weights)
    if layout is None:  # a sum, a product of activations, ...: the unit is read as it is
        return by_unit(norms[0], site, size)
    weight, axis = weights[site.weight or ""], site.weight_axis or 0
    units = layout.arrangement.along(site.units[: weight.shape[axis]], axis, weight.shape)
    scores = (layout.arrangement.matrix(weight).abs().sum(1).double() * norms).sum(0)
    return torch.zeros(size, dtype=torch.float64).index_add_(0, units[units >= 0], scores[units >= 0])
