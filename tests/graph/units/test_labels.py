"""Union-find against a plain implementation, and the moves that ops are made of."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deadhead.graph.units.labels import Block, Labels, Value

COUNT = 12
pairs = st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1)), max_size=20)


class Plain:
    """Classes as sets, merged one pair at a time."""

    def __init__(self, count: int) -> None:
        self.classes = [{i} for i in range(count)]

    def of(self, label: int) -> set[int]:
        return next(each for each in self.classes if label in each)

    def union(self, left: int, right: int) -> None:
        a, b = self.of(left), self.of(right)
        if a is not b:
            self.classes.remove(b)
            a |= b


@given(st.lists(pairs, max_size=4), st.lists(st.integers(0, COUNT - 1), max_size=4))
def test_union_find_equals_a_plain_implementation(rounds: list[list[tuple[int, int]]], fixed: list[int]) -> None:
    labels, plain = Labels(), Plain(COUNT)
    everything = labels.fresh(COUNT)
    labels.fix(everything[fixed], "because")
    for batch in rounds:
        if batch:
            left, right = np.array(batch).T
            labels.union(everything[left], everything[right])
        for left, right in batch:
            plain.union(left, right)
        roots = labels.find(everything)
        for i in range(COUNT):
            assert set(np.flatnonzero(roots == roots[i])) == plain.of(i)
        expected = [bool(plain.of(i) & set(fixed)) for i in range(COUNT)]
        assert labels.fixed(everything).tolist() == expected
    assert all(why == "because" for why in labels.reasons().values())
    assert set(labels.reasons()) == {int(labels.find(everything[[i]])[0]) for i in fixed}


@given(pairs, pairs)
def test_labels_that_came_later_are_merged_as_those_that_came_first(
    early: list[tuple[int, int]], late: list[tuple[int, int]]
) -> None:
    labels, plain = Labels(), Plain(2 * COUNT)
    first = labels.fresh(COUNT)
    for left, right in early:
        labels.union(first[[left]], first[[right]])
        plain.union(left, right)
    everything = np.concatenate([first, labels.fresh(COUNT)])
    for left, right in late:
        labels.union(everything[[left]], everything[[COUNT + right]])
        plain.union(left, COUNT + right)
    roots = labels.find(everything)
    assert all(set(np.flatnonzero(roots == roots[i])) == plain.of(i) for i in range(2 * COUNT))


def test_union_broadcasts() -> None:
    labels = Labels()
    one, many = labels.fresh(1), labels.fresh(4)
    labels.union(one, many)
    assert len(set(labels.find(np.concatenate([one, many])).tolist())) == 1


def entries(labels: Labels, value: Value) -> np.ndarray:
    """The label of every entry of a value with one block, or -1, written out in full."""
    full = np.full(value.shape, -1, dtype=np.int64)
    for block in value.blocks:
        index = tuple(slice(None) if axis in block.axes else None for axis in range(len(value.shape)))
        full[...] = labels.find(np.broadcast_to(block.labels[index], value.shape))
    return full


shapes = st.sampled_from(
    [
        ((2, 12), 1, (2, 3, 4)),
        ((2, 12), 1, (2, 3, 2, 2)),
        ((12, 5), 0, (4, 3, 5)),
        ((2, 3, 4), 1, (2, 12)),
        ((2, 3, 4), 2, (2, 12)),
        ((2, 3, 4), 2, (6, 4)),
        ((2, 1, 6), 2, (2, 6, 1)),
        ((2, 6, 1, 1), 1, (2, 6)),
    ]
)


@given(shapes)
def test_a_reshape_moves_labels_as_numpy_moves_entries(case: tuple[tuple[int, ...], int, tuple[int, ...]]) -> None:
    shape, axis, new = case
    labels = Labels()
    vector = labels.fresh(shape[axis])
    value = Value(shape, (Block((axis,), vector),), ("plain",) * len(shape))
    index = tuple(slice(None) if a == axis else None for a in range(len(shape)))
    expected = np.broadcast_to(vector[index], shape).reshape(new)
    assert np.array_equal(entries(labels, labels.reshape(value, new)), expected)


@given(st.permutations(range(4)), st.integers(0, 3))
def test_a_permutation_moves_labels_as_numpy_moves_entries(order: list[int], axis: int) -> None:
    shape = (2, 3, 4, 5)
    labels = Labels()
    vector = labels.fresh(shape[axis])
    value = Value(shape, (Block((axis,), vector),), ("plain",) * 4)
    index = tuple(slice(None) if a == axis else None for a in range(4))
    expected = np.broadcast_to(vector[index], shape).transpose(order)
    assert np.array_equal(entries(labels, labels.permute(value, order)), expected)


def test_an_axis_inside_a_unit_is_merged_when_it_is_fixed() -> None:
    labels = Labels()
    value = labels.reshape(Value((6,), (Block((0,), labels.fresh(6)),), ("",)), (3, 2))
    value = labels.fix_axis(value, 1, "because")
    assert value.why[1] == "because"
    (block,) = value.blocks
    assert block.axes == (0,)
    assert len(set(labels.find(np.arange(6)).tolist())) == 3
    assert not labels.fixed(np.arange(6)).any()


def test_what_nothing_decided_lies_along_the_longest_axis() -> None:
    labels = Labels()
    labels.reshape(Value((6,), (Block((0,), labels.fresh(6)),), ("",)), (2, 3))
    labels.settle()
    roots = labels.find(np.arange(6)).reshape(2, 3)
    assert (roots[0] == roots[1]).all()
    assert len(set(roots[0].tolist())) == 3
