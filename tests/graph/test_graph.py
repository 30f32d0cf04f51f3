"""Replay: no side effects, in-place ops and views as torch has them, edits in between."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.graph.graph import Edits
from support.networks import classes, unit_gain
from support.snapshot import Unharmed, bits

pytestmark = pytest.mark.traced_anew


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)


class AddToSlice(Base):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        hidden[:, 1:3] += 1.0
        hidden[:, 0].mul_(3)
        return self.last(torch.tanh(hidden))


class WriteBehindAView(Base):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        view = hidden.view(-1, 2, 3)
        hidden.mul_(2.0)
        return self.last(torch.tanh(view).flatten(1))


class WriteThroughSplit(Base):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        left, right = hidden.split(3, 1)
        left.copy_(right.sin())
        return self.last(hidden)


class Assign(Base):
    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.zeros(x.shape[0], 6, dtype=x.dtype)
        hidden[:, :4] = x
        hidden[:, 4:] = self.first(x)[:, :2]
        return self.last(hidden)


class InPlaceActivations(Base):
    def forward(self, x: Tensor) -> Tensor:
        hidden = nn.functional.relu(self.first(x), inplace=True)
        return self.last(nn.functional.leaky_relu_(hidden.sub_(0.5), 0.1).clamp_(max=2.0))


class InPlaceResidual(Base):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        kept = hidden.detach()
        hidden += x.sum(1, keepdim=True)
        return self.last(hidden * kept.sigmoid())


class MaskedFill(Base):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        hidden.masked_fill_(hidden < 0, 0.25)
        return self.last(hidden.transpose(0, 1).contiguous().t())


KINDS = [AddToSlice, WriteBehindAView, WriteThroughSplit, Assign, InPlaceActivations, InPlaceResidual, MaskedFill]


@pytest.mark.parametrize("kind", KINDS)
def test_in_place_ops_replay_as_the_module_runs(kind: type[nn.Module], unharmed: Unharmed) -> None:
    model = unit_gain(kind())
    inputs = torch.randn(5, 4).double()
    with unharmed(model, inputs):
        network = dh.trace(model, inputs)
        found = [network.replay(inputs) for _ in range(2)]
    with torch.no_grad():
        expected = model(inputs)
    assert bits(found[0]) == bits(found[1])
    torch.testing.assert_close(found[0], expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prune_through_in_place_ops_is_verified(kind: type[nn.Module], unharmed: Unharmed) -> None:
    model = unit_gain(kind())
    data = classes(40, 4)
    with unharmed(model, data[0][0]):
        try:
            pruned = dh.prune(model, data, loss="cross_entropy", units=0.5)
        except dh.CutError as error:
            assert "Nothing in" in str(error)  # noqa: PT017
        else:
            assert pruned.report.difference <= 1e-10


class Counting(nn.Module):
    """Updates buffers in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("var", torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.mean.mul_(0.9).add_(0.1 * x.shape[1])
        self.var.copy_(0.5 * self.var + 1)
        hidden = nn.functional.batch_norm(self.first(x), self.mean, self.var)
        return self.last(hidden) + self.count


def test_replay_never_writes_to_the_users_buffers(unharmed: Unharmed) -> None:
    model = unit_gain(Counting())
    inputs = torch.randn(5, 4).double()
    with unharmed(model, inputs):
        network = dh.trace(model, inputs)
        found = [network.replay(inputs) for _ in range(3)]
    assert bits(found[0]) == bits(found[2])
    torch.testing.assert_close(found[0], model(inputs), rtol=1e-13, atol=1e-13)


class Ticking(Base):
    """Counts its calls in a buffer that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ticks", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.ticks += 1
        x.clamp_(-1, 1)
        return self.last(torch.tanh(self.first(x)))


def test_no_pass_over_the_module_or_its_graph_counts_as_a_call_of_the_users(unharmed: Unharmed) -> None:
    model = unit_gain(Ticking())
    data = classes(20, 4)
    with unharmed(model, data[0][0]):
        network = dh.trace(model, data[0][0])
        (tensors,) = (network.flatten(data[0][0].clone()),)
        before = bits(tensors[0])
        network.static.graph.run(tensors, network.frozen_state())
        assert bits(tensors[0]) == before, "a replay writes to nothing that it is given"
        network.replay(data[0][0])
        dh.score(network, data, loss="cross_entropy")
        dh.prune(network, data, loss="cross_entropy", units=0.5)


def test_an_edit_of_what_a_node_reads_or_makes_is_seen_downstream_only() -> None:
    model = unit_gain(InPlaceActivations())
    inputs = torch.randn(5, 4).double()
    network = dh.trace(model, inputs)
    tensors = network.flatten(inputs)
    traced = network.traced(tensors)
    site = traced.units.groups[0].consumers[0]
    read: list[Tensor] = []
    edits = Edits(
        read={site.node: {site.position: lambda value: (read.append(value), 2 * value)[1]}},
        made={site.node: lambda value: value + 1},
    )
    (found,) = traced.graph.run(tensors, network.frozen_state(), edits)
    hidden = nn.functional.leaky_relu(torch.relu(model.first(inputs)) - 0.5, 0.1).clamp(max=2.0)
    torch.testing.assert_close(read[0], hidden, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(found, model.last(2 * hidden) + 1, rtol=1e-13, atol=1e-13)
    assert bits(network.replay(inputs)) == bits(model(inputs))
