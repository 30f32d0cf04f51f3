"""Many alphas at once: as the network at each of them alone, on every kind of consumer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import as_batch
from deadhead.data.losses import as_loss
from deadhead.gates.batched import Parts, Stacked
from deadhead.gates.state import PrunedState
from deadhead.scores import Question
from support.networks import Flat, Residual, TwoReaders, classes, mlp, unit_gain


class SequenceFirst(nn.Module):
    """The samples lie along the second axis inside."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 4)
        self.attention = nn.MultiheadAttention(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.enter(x.transpose(0, 1)))
        return self.leave(y + self.attention(y, y, y)[0]).mean(0)


class SeesOthers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.enter(x))
        return self.leave(y - y.mean(0, keepdim=True))


CASES = {
    "mlp": (lambda: mlp(3, 5, 4, 3), (3,), 3),
    "flattened channels": (lambda: unit_gain(Flat()), (2, 6, 6), 4),
    "residual": (lambda: unit_gain(Residual()), (2, 5, 5), 3),
    "several consumers": (lambda: unit_gain(TwoReaders()), (3,), 2),
    "sequence first": (lambda: unit_gain(SequenceFirst()), (5, 3), 4),
    "samples that see each other": (lambda: unit_gain(SeesOthers()), (3,), 4),
    "strided, padded and dilated": (
        lambda: unit_gain(
            nn.Sequential(
                nn.Conv2d(2, 5, 3, padding=1), nn.Tanh(),
                nn.Conv2d(5, 6, 3, stride=2, padding=2, dilation=2), nn.Tanh(),
                nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            )
        ),
        (2, 7, 7),
        4,
    ),
}  # fmt: skip


def own(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(outputs, batch[1], reduction="none")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("loss", ["cross_entropy", own], ids=["named", "own"])
@pytest.mark.parametrize("reference", ["zero", "mean"])
def test_stacked_losses_are_those_at_each_alpha(name: str, loss: object, reference: str) -> None:
    make, shape, count = CASES[name]
    model = make().double()
    ((x, targets),) = classes(6, *shape, count=count)
    batch = as_batch((x.double(), targets))
    network = dh.trace(model, x.double())
    network.traced([x.double()])
    first = network.groups[0]
    closed = {first.name: torch.ones(first.size).index_fill(0, torch.tensor([1]), 0)}
    references = None
    if reference == "mean":
        question = Question(PrunedState.of(network), network.groups, [batch], as_loss(loss), "mean")
        references = question.references()
    gates = PrunedState.of(network).closing(closed).gates(as_loss(loss), references)
    stacked = Stacked(gates, batch, network.groups, Parts(network))
    torch.testing.assert_close(stacked.intact, gates.loss({}, batch), rtol=0, atol=1e-12)
    for group in network.groups:
        sparse = torch.ones(4, group.size)
        sparse[0, 0], sparse[1, -1], sparse[2, 0] = 0, 0, 2.5
        dense = torch.rand(3, group.size, generator=torch.Generator().manual_seed(0))
        for alphas in (sparse, dense):
            expected = torch.stack([gates.loss({group.name: alpha}, batch) for alpha in alphas])
            torch.testing.assert_close(stacked.losses(group.name, alphas), expected, rtol=1e-11, atol=1e-12)
        everything = stacked.closing(group.name, list(range(group.size)))
        assert (everything - stacked.intact).abs().max() > 1e-4


def test_the_means_it_goes_by() -> None:
    model = unit_gain(Flat()).double()
    ((x, _),) = classes(6, 2, 6, 6, count=4)
    network = dh.trace(model, x.double())
    traced = network.traced([x.double()])
    parts = Parts(network)
    found = {group.name: parts.of(traced, group.name, [x.double()]) for group in network.groups}
    assert all(part.stacks and part.moves is not None for part in found.values())
    lengths = [len(part.suffix.calls) for part in found.values()]
    assert lengths == sorted(lengths, reverse=True), "what lies before a group is not computed again"
    assert lengths[-1] < len(traced.graph.calls) / 3
