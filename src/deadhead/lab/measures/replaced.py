"""What the loss of a network is when several units of a layer are replaced by a constant, set by set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deadhead.data.calibration import as_batch
from deadhead.data.losses import as_loss
from deadhead.gates.batched import Parts, Stacked
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network
from deadhead.scores.criterion import Question


class Replaced:
    """The cross-entropy of a network on one batch, with sets of units replaced by a constant of each unit.

    The network is computed once up to the layer, and from there on for every set; it is not touched. Make another one
    after its parameters have changed, with the same `parts`.

    Args:
        network: traced from the model.
        inputs: (samples, ...).
        targets: (samples,) int64.
        reference: the constant: zero, mean, median, min or max of a unit over samples and positions.
        site: "producer": in place of what a layer gives, before pool and nonlinearity; "consumer": of what the next
            layer reads, where each position of a flattened map has a constant of its own.
        layers: the groups whose units are replaced (default: all).
        parts: what is known of the network's graph; share it among questions about one network.

    Attributes:
        question: the same network, data and constants as a criterion sees them.

    Example:
        >>> from deadhead.graph.network import trace
        >>> from deadhead.lab.models import small_cnn
        >>> inputs, targets = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
        >>> network = trace(small_cnn(seed=0), inputs)
        >>> replaced = Replaced(network, inputs, targets, parts=Parts(network))
        >>> replaced.rise("fc1", [torch.arange(32), torch.arange(0)]).shape
        torch.Size([2])
    """

    def __init__(
        self,
        network: Network,
        inputs: Tensor,
        targets: Tensor,
        *,
        parts: Parts,
        reference: str = "mean",
        site: str = "producer",
        layers: Sequence[str] | None = None,
    ) -> None:
        batch = as_batch((inputs, targets))
        groups = [group for group in network.groups if layers is None or group.name in layers]
        if site == "producer":
            groups = [group.at_producers() for group in groups]
        self.question = Question(
            PrunedState.of(network), tuple(groups), [batch], as_loss("cross_entropy"), reference=reference, site=site
        )
        self._sizes = {group.name: group.size for group in groups}
        self._stacked = Stacked(self.question.gates(), batch, groups, parts)
        self.intact = float(self._stacked.intact.double().mean())
        """The mean loss without a replacement."""

    def rise(self, layer: str, sets: Sequence[Tensor]) -> Tensor:
        """The rise of the mean loss when each of these sets of units is replaced: (sets,), float64.

        Args:
            layer: the group.
            sets: indices of units, one tensor for each set.
        """
        alphas = torch.ones(len(sets), self._sizes[layer])
        for row, units in zip(alphas, sets, strict=True):
            row[units] = 0
        return self._stacked.losses(layer, alphas).double().mean(1) - self.intact

    def penalties(self, layer: str) -> Tensor:
        """The penalty of each unit: the sum over samples of the absolute change of the loss when it alone is replaced.

        Returns:
            (K,), float64; with the mean at the producer, Evci's mean replacement penalty.

        Source:
            Evci (2018), definition 3.1.1.
        """
        losses = self._stacked.closing(layer, range(self._sizes[layer])).double()
        return (losses - self._stacked.intact.double()).abs().sum(1)
