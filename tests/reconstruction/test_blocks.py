"""Consumers with too many columns for one matrix: dealt into blocks, each exact within, with the memory of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import calibrate, read
from deadhead.reconstruction import blocks, sums
from deadhead.reconstruction.blocks import blocks_of
from deadhead.select.plan import plan_of
from support.networks import conv_pair, mlp, unit_gain, values

METHODS = ("obs", "least_squares", "least_squares_one_pass")


@pytest.fixture(autouse=True)
def undamped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deadhead.reconstruction.solve.FIT_DAMPINGS", (0.0,))
    monkeypatch.setattr("deadhead.reconstruction.weighing.SCORE_DAMPING", 1e-5)


def dealt(*units: Sequence[int]) -> list[list[int]]:
    found = blocks_of([torch.tensor(each) for each in units])
    return [part.tolist() for part in found]


@pytest.mark.parametrize(
    ("most", "units", "expected"),
    [
        (4, [0, 1, 2, 3], []),
        (4, [0, 1, 2, 3, 4], [[0, 1, 2], [3, 4]]),
        (4, [0, 1, 2, 0, 1, 2], [[0, 3], [1, 4], [2, 5]]),
        (3, [0, 0, 0, 1, 1, 1], [[0, 1, 2], [3, 4, 5]]),
        (3, [-1, 0, -1, 0, 1, 1], [[0, 1, 3], [2, 4, 5]]),
        (2, [0, 0, 0, 0, 1], [[0, 1], [2, 3], [4]]),
    ],
)
def test_units_are_dealt_whole_and_in_order(
    most: int, units: list[int], expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MOST_COLUMNS", most)
    assert dealt(units) == expected


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("n", [33, 64, 100, 1000])
def test_all_blocks_together_take_no_more_than_one_matrix(n: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MOST_COLUMNS", 32)
    found = dealt([column // width for column in range(n)])
    assert sorted(column for part in found for column in part) == list(range(n))
    assert max(map(len, found)) <= 32
    room = n * (width - 1) * 2  # for units that cannot be cut through
    assert sum(len(part) ** 2 for part in found) <= 32**2 + n + room


def test_several_groups_keep_the_units_of_the_first_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MOST_COLUMNS", 4)
    assert dealt([0, 0, 1, 1, -1, -1, -1], [-1, -1, -1, -1, 0, 1, 0]) == [[0, 1], [2, 3], [4, 6], [5]]
    monkeypatch.setattr(blocks, "MOST_COLUMNS", 2)
    assert dealt([0, 0, 1, 1], [0, 1, 0, 1]) == [[0, 1], [2, 3]]


def wide(kind: str) -> tuple[nn.Module, tuple[int, ...], int]:
    """A network, the shape of its inputs, and how many columns a unit has at the consumer."""
    if kind == "linear":
        return mlp(3, 12, 4), (3,), 1
    if kind == "convolution":
        return conv_pair(kernel=2, channels=12, groups=2), (2, 5, 4), 4
    first, second = nn.Conv2d(2, 12, 1), nn.ConvTranspose2d(12, 3, 2, stride=2)
    return unit_gain(nn.Sequential(first, nn.Tanh(), second)), (2, 5, 4), 4


def negated(model: Any, pairs: Sequence[tuple[int, int]]) -> None:
    """Make units the negatives of others."""
    with torch.no_grad():
        for own, other in pairs:
            model[0].weight[own], model[0].bias[own] = -model[0].weight[other], -model[0].bias[other]


def data_of(model: nn.Module, shape: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    return [(x, model(x).detach()) for x, _ in values(90, *shape, out=1, batch=30)]


def prune(model: nn.Module, data: Any, gone: Sequence[int], left: int, method: str) -> dh.Pruned:
    if method == "obs":
        return dh.prune(model, data, loss="squared_error", units=left)
    plan = plan_of([("0", unit) for unit in gone])
    return dh.prune(model, data, loss="squared_error", plan=plan, compensate=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["linear", "convolution", "transposed"])
def test_units_that_others_of_their_block_repeat_are_taken_over_within_its_memory(
    kind: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, shape, width = wide(kind)
    group = 6 if kind == "convolution" else 12  # of which one half reads the first, one the second
    pairs = [(1, 0), (group - 1, group - 2)]
    negated(model, pairs if group == 12 else [*pairs, (7, 6), (11, 10)])
    n = group * width
    monkeypatch.setattr(blocks, "MOST_COLUMNS", n * 3 // 4)
    seen: list[tuple[int, ...]] = []
    original = sums.squares_of
    monkeypatch.setattr(sums, "squares_of", lambda a: (seen.append(tuple(a.shape)), original(a))[1])
    data = data_of(model, shape)
    pruned = prune(model, data, [1, group - 1], group - 2, method)
    gone = pruned.plan.removed["0"].tolist()
    assert len({0, 1} & set(gone)) == len({group - 2, group - 1} & set(gone)) == 1
    new = torch.randn(6, *shape, dtype=torch.float64)
    wanted = model(new)
    torch.testing.assert_close(pruned.model(new), wanted, rtol=0, atol=1e-9 * float(wanted.abs().max()))
    told = [note for note in pruned.report.notes if f"2.weight reads {n} columns" in note]
    assert len(told) == 1
    assert "in 2 blocks" in told[0]
    assert {size[-1] for size in seen} == {n // 2 + 1}


@pytest.mark.parametrize("method", METHODS[1:])
def test_what_stays_of_a_block_is_fitted_to_the_share_of_the_whole_block(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two dense regressions, one for each half of the columns, whose constants add up."""
    monkeypatch.setattr(blocks, "MOST_COLUMNS", 9)
    model = mlp(3, 12, 4)
    data = data_of(model, (3,))
    pruned = prune(model, data, [2, 3, 9], 9, method)
    x = torch.cat([batch.inputs for batch in calibrate(read(data)).fit])  # type: ignore[misc]
    a, weight = torch.tanh(model[0](x)).detach(), model[2].weight.detach()
    expected = model[2].bias.detach().expand(len(x), -1)
    for part in (range(6), range(6, 12)):
        kept = [column for column in part if column not in (2, 3, 9)]
        share = a[:, list(part)] @ weight[:, list(part)].T
        columns = torch.cat([a[:, kept], torch.ones(len(x), 1, dtype=a.dtype)], 1)
        expected = expected + columns @ torch.linalg.lstsq(columns, share, driver="gelsd").solution
    torch.testing.assert_close(pruned.model(x), expected, rtol=0, atol=1e-8)
    # The constant is the best for all: nothing is missing on average.
    torch.testing.assert_close(pruned.model(x).mean(0), model(x).mean(0), rtol=0, atol=1e-10)


def test_without_a_limit_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mlp(3, 12, 4)
    pruned = prune(model, data_of(model, (3,)), [2, 3, 9], 9, "least_squares")
    assert not any("blocks" in note for note in pruned.report.notes)


def test_scores_of_blocks_are_those_of_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit costs what its own block loses; of two that repeat each other across blocks, neither is free."""
    model = mlp(3, 12, 4)
    negated(model, [(1, 0), (8, 2)])
    data = data_of(model, (3,))
    options: Any = {"loss": lambda o, batch: (o**2).sum(1), "criterion": "obs"}
    whole = dh.score(model, data, **options)["0"]
    monkeypatch.setattr(blocks, "MOST_COLUMNS", 9)
    found = dh.score(model, data, **options)["0"]
    assert float(whole[[0, 1]].min()) < 1e-4
    assert float(whole[[2, 8]].min()) < 1e-4
    assert float(found[[0, 1]].min()) < 1e-4
    assert float(found[[2, 8]].min()) > 1e-2
