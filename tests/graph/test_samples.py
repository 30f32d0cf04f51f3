"""Where samples lie in a tensor: sums, spreads, copies and choices as plain loops have them, and what is measured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.graph.samples import BATCH_FIRST, SampleLayout, layout_of_change, layouts_of
from support.networks import unit_gain

Arrange = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Arranged:
    """How a batch of the shape (samples, *inner) comes to lie in a tensor, and the layout that it then has."""

    inner: tuple[int, ...]
    arrange: Arrange
    layout: SampleLayout | None

    def batch(self, samples: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(samples, *self.inner, generator=generator, dtype=torch.float64)

    def owners(self, samples: int) -> Tensor:
        """Which sample each entry of the tensor belongs to."""
        number = torch.arange(samples).reshape(-1, *[1] * len(self.inner))
        return self.arrange(number.expand(samples, *self.inner))


CASES = {
    "first axis": Arranged((4, 5), lambda x: x, SampleLayout(0)),
    "first axis, alone": Arranged((), lambda x: x, SampleLayout(0)),
    "first axis, times positions": Arranged((4, 5), lambda x: x.flatten(0, 1), SampleLayout(0)),
    "first axis, inside positions": Arranged((4, 5), lambda x: x.transpose(0, 1).flatten(0, 1), SampleLayout(0, True)),
    "second axis": Arranged((4, 5), lambda x: x.transpose(0, 1), SampleLayout(1)),
    "second axis, times heads": Arranged((4, 2, 5), lambda x: x.transpose(0, 1).flatten(1, 2), SampleLayout(1)),
    "second axis, inside heads": Arranged((4, 2, 5), lambda x: x.movedim(0, 2).flatten(1, 2), SampleLayout(1, True)),
    "last axis": Arranged((4, 5), lambda x: x.movedim(0, 2), SampleLayout(2)),
    "last axis, times positions": Arranged((4, 5), lambda x: x.movedim(1, 0).flatten(1), SampleLayout(1)),
    "last axis, inside positions": Arranged((4, 5), lambda x: x.movedim(0, 2).flatten(1), SampleLayout(1, True)),
    "between positions": Arranged((4, 5), lambda x: x.transpose(0, 1).flatten(), None),
}


def drawn(seed: int) -> Arranged:
    """Samples at an axis at random, some neighbouring axes merged."""
    generator = torch.Generator().manual_seed(seed)

    def below(limit: int) -> int:
        return int(torch.randint(limit, (1,), generator=generator))

    inner = tuple((1, 2, 3, 4, 6)[below(5)] for _ in range(below(4)))
    order = torch.randperm(len(inner) + 1, generator=generator).tolist()
    start = below(len(order))
    end = start + below(len(order) - start)  # the last of the merged axes
    place = order.index(0)
    before = math.prod(inner[axis - 1] for axis in order[start:place])
    after = math.prod(inner[axis - 1] for axis in order[place + 1 : end + 1])
    if not start <= place <= end:
        layout: SampleLayout | None = SampleLayout(place if place < start else place - (end - start))
    elif before > 1 and after > 1:
        layout = None
    else:
        layout = SampleLayout(start, inner=before > 1)
    return Arranged(inner, lambda x: x.permute(order).flatten(start, end), layout)


ARRANGED = {**CASES, **{f"drawn {seed}": drawn(seed) for seed in range(60)}}


def cells(value: Tensor) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(size) for size in value.shape)))


def measured(case: Arranged) -> SampleLayout | None:
    before = case.batch(3)
    after = before.clone()
    after[1] += 1
    return layout_of_change(case.arrange(before), case.arrange(after))


@pytest.mark.parametrize("name", ARRANGED)
def test_layout_is_measured_by_changing_one_sample(name: str) -> None:
    assert measured(ARRANGED[name]) == ARRANGED[name].layout


TOLD_APART = [name for name in ARRANGED if ARRANGED[name].layout is not None]


@pytest.mark.parametrize("name", TOLD_APART)
def test_sum_is_the_plain_loop(name: str) -> None:
    case, samples = ARRANGED[name], 4
    layout, value, owners = measured(case), case.arrange(case.batch(samples)), case.owners(samples)
    assert layout is not None
    expected = torch.zeros(samples, dtype=torch.float64)
    for cell in cells(value):
        expected[owners[cell]] += value[cell]
    torch.testing.assert_close(layout.sum(value, samples), expected, rtol=1e-12, atol=1e-12)
    for keep in (axis for axis in range(value.dim()) if axis != layout.axis):
        columns = torch.zeros(samples, value.shape[keep], dtype=torch.float64)
        for cell in cells(value):
            columns[owners[cell], cell[keep]] += value[cell]
        torch.testing.assert_close(layout.sum(value, samples, keep), columns, rtol=1e-12, atol=1e-12)
        assert torch.equal(layout.sum(value, samples, keep - value.dim()), layout.sum(value, samples, keep))


@pytest.mark.parametrize("name", TOLD_APART)
def test_spread_is_the_plain_loop(name: str) -> None:
    case, samples = ARRANGED[name], 4
    layout, value, owners = measured(case), case.arrange(case.batch(samples)), case.owners(samples)
    assert layout is not None
    numbers = torch.arange(1.0, samples + 1, dtype=torch.float64)
    spread = layout.spread(numbers, value)
    assert spread.dim() == value.dim()
    assert torch.equal(spread.expand_as(value), numbers[owners])
    for keep in (axis for axis in range(value.dim()) if axis != layout.axis):
        vectors = torch.arange(1.0, samples * value.shape[keep] + 1, dtype=torch.float64).reshape(samples, -1)
        wide = layout.spread(vectors, value, keep).expand_as(value)
        assert all(wide[cell] == vectors[owners[cell], cell[keep]] for cell in cells(value))


@pytest.mark.parametrize("name", TOLD_APART)
def test_copies_and_choices_are_those_of_the_batch(name: str) -> None:
    case, samples = ARRANGED[name], 4
    layout, arrange = measured(case), case.arrange
    assert layout is not None
    batches = [case.batch(samples, seed) for seed in range(3)]
    value = arrange(batches[0])
    assert torch.equal(layout.repeat(value, 3, samples), arrange(torch.cat([batches[0]] * 3)))
    joined = layout.join(torch.stack([arrange(batch) for batch in batches]), samples)
    assert torch.equal(joined, arrange(torch.cat(batches)))
    index = torch.tensor([2, 0, 2])
    assert torch.equal(layout.choose(value, index, samples), arrange(batches[0][index]))
    inside = value.shape[layout.axis] // samples
    assert layout.size(value, inside) == samples
    assert layout.fits(value, samples)
    assert inside != 1 or not layout.fits(value, samples + 1)


def test_lists_and_what_is_no_tensor() -> None:
    two = torch.arange(2.0)
    found = BATCH_FIRST.repeat((two, [two[:, None], 5, torch.tensor(3.0), None]), 2, 2)
    assert isinstance(found, tuple)
    assert torch.equal(found[0], torch.tensor([0.0, 1, 0, 1]))
    assert found[1][0].shape == (4, 1)
    assert found[1][1:] == [5, torch.tensor(3.0), None]
    assert BATCH_FIRST.choose([two, "a"], torch.tensor([1]), 2) == [torch.tensor([1.0]), "a"]
    assert not SampleLayout(1).fits(two, 2), "it has no such axis"


class Places(nn.Module):
    """Hidden units (length, samples, 6), in which nothing ever moves, and then as matmuls and flattenings have them."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        first = self.enter(x.transpose(0, 1))
        never = torch.relu(-first.abs() - 1)
        inside = first.flatten(0, 1)
        last = first.permute(0, 2, 1) + never.permute(0, 2, 1)
        mixed = first - first.mean(1, keepdim=True)
        shuffled = first.transpose(0, 1)[:, :, :, None].expand(-1, -1, -1, 2).permute(1, 0, 3, 2).flatten(0, 2)
        return self.leave(first).mean(0), never, inside, last, mixed, shuffled


def test_layouts_of_a_graph() -> None:
    x = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    network = dh.trace(unit_gain(Places()), x)
    traced = network.traced([x])
    found = layouts_of(traced.graph, traced.graph.outputs, [x], 0, network.frozen_state())
    expected = [SampleLayout(0), SampleLayout(1), SampleLayout(0, True), SampleLayout(2), None, None]
    assert [found[node] for node in traced.graph.outputs] == expected
    assert traced.samples.mixed


def test_a_norm_over_the_batch_is_no_layout() -> None:
    value = torch.randn(3, 4, dtype=torch.float64)
    other = value.clone()
    other[1] *= 2
    assert layout_of_change(value - value.mean(0), other - other.mean(0)) is None
    assert layout_of_change(value, other[:, :3]) is None
    assert layout_of_change(value, other, axes=[1]) is None
    assert layout_of_change(value, other, axes=[0]) == BATCH_FIRST
