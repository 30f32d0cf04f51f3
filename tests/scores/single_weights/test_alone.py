"""Changes of the loss by single weights, many at once, against one pass for each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import read
from deadhead.data.losses import as_loss
from deadhead.gates.batched import STACKED_BYTES
from deadhead.gates.state import PrunedState
from deadhead.scores.single_weights import alone
from deadhead.scores.single_weights.alone import places_of


class Skip(nn.Module):
    """A convolution whose output is read twice: there is no single reader behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.last = nn.Linear(3 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        return self.last(torch.tanh(x + self.second(x)).flatten(1))


class Tied(nn.Module):
    """One matrix for two layers: a change of it moves both."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.one(torch.tanh(self.one(x)))))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(3, 4, 2, stride=2, dilation=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(4, 5), nn.Sigmoid(), nn.Linear(5, 3),
    )  # fmt: skip


def normed() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 3)
    ).eval()


def tokens() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 6), nn.Tanh(), nn.Flatten(), nn.Linear(18, 3))


CASES = {
    "cnn": (cnn, (2, 6, 6), {"0.weight": True, "3.weight": True, "6.weight": True, "8.weight": False, "0.bias": True}),
    "batch norm, grouped reader": (normed, (2, 6, 6), {"0.weight": False, "5.bias": False}),
    "tokens": (
        tokens,
        (3, 4),
        {"0.weight": True, "2.weight": False, "5.weight": False},
    ),  # a channel of 2 is no block of what 5 reads
    "skip": (Skip, (2, 6, 6), {"first.weight": False, "second.weight": False}),
    "tied": (Tied, (4,), {"last.weight": False}),
}
"""A network, the shape of its samples, and for parameters with a place, whether it has the shorter way behind it."""


def without_places(model: nn.Module, data: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The change of the mean loss by setting each weight to zero, by a plain loop."""

    def mean() -> Tensor:
        with torch.no_grad():
            each = [nn.functional.cross_entropy(model(x), y, reduction="none") for x, y in data]
        return torch.cat(each).mean()

    start, found = mean(), {}
    for name, parameter in model.named_parameters():
        found[name] = torch.zeros(parameter.numel(), dtype=torch.float64)
        for index in range(parameter.numel()):
            held = parameter.detach().view(-1)[index].clone()
            parameter.detach().view(-1)[index] = 0
            found[name][index] = mean() - start
            parameter.detach().view(-1)[index] = held
        found[name] = found[name].reshape(parameter.shape)
    return found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("at_once", [STACKED_BYTES, 700], ids=["whole", "in parts"])
def test_every_weight_changes_the_loss_as_in_a_plain_loop(
    name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "STACKED_BYTES", at_once)
    torch.manual_seed(0)
    make, shape, expected = CASES[name]
    model = make().double()
    data = [(torch.randn(n, *shape, dtype=torch.float64), torch.randint(3, (n,))) for n in (5, 4)]
    network = dh.trace(model, data[0][0])
    found = dh.score_parameters(network, data, loss="cross_entropy", criterion="loss_change")
    for key, value in without_places(model, data).items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-14)
    gates = PrunedState.of(network).gates(as_loss("cross_entropy"))
    places = places_of(gates, {key: [key] for key in expected}, read(data)[0])
    assert {key: place.link is not None for key, place in places.items()} == expected


def test_a_weight_that_is_read_twice_has_no_place() -> None:
    model = Tied()
    network = dh.trace(model, torch.randn(4, 4))
    gates = PrunedState.of(network).gates(as_loss("cross_entropy"))
    batch = read([(torch.randn(4, 4), torch.tensor([0, 1, 2, 0]))])[0]
    assert places_of(gates, {"one.weight": ["one.weight"], "one.bias": ["one.bias"]}, batch) == {}
