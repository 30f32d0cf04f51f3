"""Data: any iterable of batches, read once and no further than needed, a part of it held out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import deadhead as dh
from deadhead.data.calibration import Batch, as_batch, calibrate, choose, count, read

X, Y = torch.arange(20.0).reshape(10, 2), torch.arange(10)


def ids(batches: list[Batch]) -> list[int]:
    return [int(value) for batch in batches for value in batch.targets]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 5))
def test_a_fifth_is_held_out_by_row_whatever_batches_rows_come_in(sizes: list[int], seed: int) -> None:
    total = sum(sizes)
    if total < 2:
        return
    numbers = torch.arange(total)
    batches = read([(part[:, None].float(), part) for part in numbers.split(sizes)])
    calibration = calibrate(batches, seed=seed)
    fit, held = ids(calibration.fit), ids(calibration.held_out)
    assert sorted(fit + held) == list(range(total)), "each row is in one part"
    assert len(held) == max(1, round(0.2 * total))
    assert calibration.rows == total == count(calibration.fit) + count(calibration.held_out)
    whole = calibrate(read([(numbers[:, None].float(), numbers)]), seed=seed)
    assert ids(whole.held_out) == held, "batches do not decide which rows are held out"
    for batch in (*calibration.fit, *calibration.held_out):
        assert batch.inputs[:, 0].tolist() == batch.targets.tolist(), "inputs stay with their targets"


def test_the_seed_decides_which_rows_are_held_out() -> None:
    batches = read([(X, Y)])
    drawn = {tuple(ids(calibrate(batches, seed=seed).held_out)) for seed in range(8)}
    assert len(drawn) > 2
    state = torch.get_rng_state()
    calibrate(batches, seed=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_data_is_read_once_and_no_further_than_needed() -> None:
    asked = []

    def endless() -> Iterator[Any]:
        for number in itertools.count():
            asked.append(number)
            yield X, Y

    batches = read(endless(), samples=25)
    assert [batch.rows for batch in batches] == [10, 10, 5]
    assert asked == [0, 1, 2]


def test_exactly_as_many_rows_as_asked_end_the_reading() -> None:
    asked = []

    def batches() -> Iterator[Any]:
        for number in range(5):
            asked.append(number)
            yield X, Y

    assert count(read(batches(), samples=20)) == 20
    assert asked == [0, 1]


def test_rows_are_kept_when_the_loader_reuses_its_buffers() -> None:
    def reusing() -> Iterator[Any]:
        buffer = torch.zeros(2, 1)
        for number in range(3):
            buffer.fill_(number)
            yield buffer, torch.full((2,), number)

    assert [batch.inputs[0].item() for batch in read(reusing())] == [0, 1, 2]


def test_a_shuffling_loader_is_fine() -> None:
    batches = read(DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True))
    assert sorted(ids(batches)) == list(range(10))
    for batch in batches:
        assert torch.equal(batch.inputs[:, 0] / 2, batch.targets.float())


def test_what_a_batch_may_be() -> None:
    assert as_batch((X, Y)).targets is Y
    assert as_batch([X, Y]).inputs is X
    assert as_batch((X,)).targets is None
    assert as_batch(X).inputs is X
    assert as_batch(((X, X), Y)).rows == 10
    named = as_batch({"x": X, "labels": Y})
    assert set(named.inputs) == {"x"}
    assert named.targets is Y
    assert set(as_batch({"x": X, "labels": Y}, labels_to_model=True).inputs) == {"x", "labels"}
    assert as_batch((X.T, Y), batch_axis=1).rows == 10


def test_rows_are_chosen_in_every_part_of_a_batch() -> None:
    raw = ({"a": X, "b": [X + 1, torch.ones(3)]}, {"t": Y})
    batch = choose(as_batch(raw), torch.tensor([4, 1]))
    assert batch.rows == 2
    assert torch.equal(batch.inputs["a"], X[[4, 1]])
    assert torch.equal(batch.inputs["b"][0], X[[4, 1]] + 1)
    assert torch.equal(batch.inputs["b"][1], torch.ones(3)), "a tensor without rows stays"
    assert batch.targets["t"].tolist() == [4, 1]
    assert batch.raw[0]["a"].shape == (2, 2)


def bad(value: float) -> Tensor:
    inputs = X.clone()
    inputs[3, 1] = value
    return inputs


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "no samples"),
        (iter([]), "no samples"),
        ([(X[:0], Y[:0])], "no samples"),
        (X, r"list: \[\(inputs, targets\)\]"),
        ({"x": X}, "iterable of batches"),
        ("digits", "iterable of batches"),
        (7, "iterable of batches.*int"),
        ([(X, Y, Y)], "tuple of 3"),
        ([("a", Y)], "no tensor"),
        ([(torch.tensor(1.0), Y)], "batch axis"),
        ([(X, Y[:4])], "10 samples.*4"),
        ([(bad(float("nan")), Y)], "not finite"),
        ([(bad(float("inf")), Y)], "not finite"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_used_gets_a_sentence(data: Any, words: str) -> None:
    with pytest.raises(dh.DataError, match=words) as caught:
        read(data)
    assert "\n" not in str(caught.value)


def test_a_single_sample_gets_a_sentence() -> None:
    with pytest.raises(dh.DataError, match=r"single sample.*two"):
        calibrate(read([(X[:1], Y[:1])]))


@pytest.mark.parametrize("samples", [0, -3])
def test_asking_for_no_samples_gets_a_sentence(samples: int) -> None:
    with pytest.raises(dh.DataError, match="samples"):
        read([(X, Y)], samples=samples)
