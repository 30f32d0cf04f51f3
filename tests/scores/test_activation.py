"""Criteria and references that are read off activations, against hooks and plain statistics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import read
from deadhead.data.losses import as_loss
from deadhead.gates.moments import medians
from deadhead.gates.state import PrunedState
from deadhead.scores import Question
from support.networks import Flat, classes, mlp, unit_gain


def columns_at(model: nn.Module, reader: str, data: list[Any]) -> Tensor:
    """What a module reads, one row for each sample and position."""
    seen: list[Tensor] = []
    handle = model.get_submodule(reader).register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    for x, _ in data:
        model(x)
    handle.remove()
    value = torch.cat(seen)
    return value.movedim(1, -1).flatten(0, -2)


def relu_net() -> tuple[nn.Module, list[Any]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    return model, [(torch.randn(rows, 3, dtype=torch.float64), torch.randint(2, (rows,))) for rows in (9, 4)]


def test_zeros_and_means_are_those_of_what_the_consumer_reads() -> None:
    model, data = relu_net()
    seen = columns_at(model, "2", data)
    found = dh.score(model, data, loss="cross_entropy", criterion="zeros")["0"]
    torch.testing.assert_close(found, 1 - (seen == 0).double().mean(0))
    assert 0 <= found.min() < found.max() <= 1
    mean = dh.score(model, data, loss="cross_entropy", criterion="activation_mean")["0"]
    torch.testing.assert_close(mean, seen.mean(0))


def test_a_flattened_channel_sums_over_its_columns() -> None:
    model = unit_gain(Flat()).double()
    data = [(x.double(), t) for x, t in classes(7, 2, 6, 6, count=4)]
    network = dh.trace(model, data[0][0])
    for criterion in ("zeros", "activation_mean"):
        found = dh.score(network, data, loss="cross_entropy", criterion=criterion)
        seen = columns_at(model, "fc1", data).unflatten(1, (len(found["conv2"]), -1))
        expected = (seen != 0).double().mean((0, 2)) if criterion == "zeros" else seen.mean(0).sum(1)
        torch.testing.assert_close(found["conv2"], expected)


@pytest.mark.parametrize("reference", ["median", "baseline"])
@pytest.mark.parametrize("criterion", ["oracle", "taylor1", "taylor2"])
def test_other_references_are_what_closed_units_become(reference: str, criterion: str) -> None:
    model, data = relu_net()
    seen = columns_at(model, "2", data)
    blank = torch.full((1, 3), 0.3, dtype=torch.float64)
    at = {"median": seen.quantile(0.5, dim=0), "baseline": torch.relu(model[0](blank))[0].detach()}[reference]
    found = dh.score(model, data, loss="cross_entropy", criterion=criterion, reference=reference, baseline=blank)["0"]
    x, targets = (torch.cat(parts) for parts in zip(*data, strict=True))
    hidden = torch.relu(model[0](x)).detach()

    def loss(gates: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model[2](at + gates * (hidden - at)), targets)

    ones = torch.ones(6, dtype=torch.float64)
    if criterion == "oracle":
        expected = torch.stack([loss(ones.index_fill(0, torch.tensor([k]), 0)) - loss(ones) for k in range(6)])
    else:
        expected = -torch.autograd.functional.jacobian(loss, ones)
        if criterion == "taylor2":
            move = (hidden - at)[:, :, None] * model[2].weight.T.detach()
            likely = model[2](hidden).softmax(1).detach()
            expected = expected + 0.5 * (likely * (1 - likely))[:, None].mul(move.square()).sum(2).mean(0)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-9, atol=1e-11)


def test_a_baseline_has_to_be_given() -> None:
    with pytest.raises(dh.DataError, match="needs baseline="):
        dh.score(mlp(3, 4, 2), classes(8, 3), loss="cross_entropy", criterion="taylor1", reference="baseline")


def test_medians_of_much_data_are_near_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deadhead.gates.moments.MEDIAN_VALUES", 200)
    model, _ = relu_net()
    data = [(torch.randn(500, 3, dtype=torch.float64), torch.randint(2, (500,))) for _ in range(4)]
    network = dh.trace(model, data[0][0])
    question = Question(PrunedState.of(network), network.groups, read(data), as_loss("cross_entropy"))
    found = medians(question.gates(), network.groups, question.batches)["0"][0]
    seen = columns_at(model, "2", data)
    rank = (seen <= found).double().mean(0)
    assert (rank >= 0.4).all()
