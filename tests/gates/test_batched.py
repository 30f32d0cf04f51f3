"""Many alphas at once: as the network at each of them alone, on every kind of consumer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import as_batch, choose
from deadhead.data.losses import as_loss
from deadhead.gates.batched import Parts, Stacked
from deadhead.gates.gates import Gates
from deadhead.gates.slopes import slopes_by_sample
from deadhead.gates.state import PrunedState
from deadhead.graph.samples import SampleLayout
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


class SamplesLast(nn.Module):
    """The samples lie along the last axis inside, as where vectors are columns."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.enter.weight @ x.T + self.enter.bias[:, None])
        return (self.leave.weight @ y + self.leave.bias[:, None]).T


class PositionsFirst(nn.Module):
    """Positions times samples along the first axis inside."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.enter(x.transpose(0, 1).reshape(-1, 3)))
        return self.leave(y).reshape(x.shape[1], x.shape[0], 4).mean(0)


class ThirdAxis(nn.Module):
    """Samples along the third axis inside, then times positions along the second."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.middle, self.leave = nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.enter(x.permute(1, 2, 0, 3)))
        y = torch.tanh(self.middle(y))
        return self.leave(y.transpose(1, 2).flatten(1, 2)).reshape(x.shape[1], x.shape[0], x.shape[2], 4).sum((0, 2))


class TimeFirst(nn.Module):
    """The samples lie along the second axis of what is given."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(torch.tanh(self.enter(x))).mean(0)


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
    "samples last": (lambda: unit_gain(SamplesLast()), (3,), 4),
    "samples inside positions": (lambda: unit_gain(PositionsFirst()), (5, 3), 4),
    "samples along the third axis": (lambda: unit_gain(ThirdAxis()), (5, 2, 3), 4),
    "batch along the second axis": (lambda: unit_gain(TimeFirst()), (5, 3), 4),
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
    axis = 1 if "batch along" in name else 0
    x = x.double().movedim(0, axis)
    batch = as_batch((x, targets), batch_axis=axis)
    network = dh.trace(model, x, batch_axis=axis)
    network.traced([x])
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
    assert all(part.stacks and part.delta_site is not None for part in found.values())
    lengths = [len(part.suffix.calls) for part in found.values()]
    assert lengths == sorted(lengths, reverse=True), "what lies before a group is not computed again"
    assert lengths[-1] < len(traced.graph.calls) / 3


LAYOUTS = {
    "mlp": [SampleLayout(0), SampleLayout(0)],
    "sequence first": [SampleLayout(1), SampleLayout(0, inner=True)],
    "samples last": [SampleLayout(1)],
    "samples inside positions": [SampleLayout(0, inner=True)],
    "samples along the third axis": [SampleLayout(2), SampleLayout(1)],
    "batch along the second axis": [SampleLayout(1)],
}
"""Where the samples lie in what the first consumer of each group reads."""


@pytest.mark.parametrize("name", LAYOUTS)
def test_samples_are_told_apart_and_alphas_stack_wherever_they_lie(name: str) -> None:
    make, shape, count = CASES[name]
    axis = 1 if "batch along" in name else 0
    ((x, targets),) = classes(6, *shape, count=count)
    batch = as_batch((x.double().movedim(0, axis), targets), batch_axis=axis)
    network = dh.trace(make().double(), batch.inputs, batch_axis=axis)
    traced, parts, gates = network.traced([batch.inputs]), Parts(network), Gates(network, as_loss("cross_entropy"))
    assert [gates.layout(batch, group.name, 0) for group in network.groups] == LAYOUTS[name]
    assert all(parts.of(traced, group.name, [batch.inputs]).stacks for group in network.groups)
    assert [sample for _, sample in gates.passes_per_sample(batch, network.groups)] == [None], "one pass for all"
    slopes = slopes_by_sample(gates, network.groups, batch, None)
    for sample in range(batch.rows):
        alone = slopes_by_sample(gates, network.groups, choose(batch, torch.tensor([sample])), None)
        for group, slope in slopes.items():
            torch.testing.assert_close(slope[sample], alone[group][0], rtol=1e-10, atol=1e-12)
