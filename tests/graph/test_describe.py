"""What `print(network)` shows: a row for each group, reasons gathered, short and no wider than the terminal."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh


class Branches(nn.Module):
    """One layer that many others read, each of which gives an output of the model."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 5)
        self.heads = nn.ModuleList(nn.Linear(5, 2) for _ in range(heads))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = torch.tanh(self.stem(x))
        return [head(x) for head in self.heads]


def printed(model: nn.Module, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    return str(dh.trace(model, torch.randn(2, 3))).splitlines()


def test_long_lists_are_cut_and_reasons_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(Branches(15), 120, monkeypatch) == [
        "Branches: 1 group, 5 units that can be pruned",
        "",
        "group  units  kind  made by  read by",
        "stem       5  unit  stem     heads.0, heads.1, heads.2 and 12 more",
        "",
        "fixed       which                                  why",
        "15 modules  heads.0, heads.1, heads.2 and 12 more  it is an output of the model",
    ]


@pytest.mark.parametrize("width", [40, 80])
def test_no_line_is_wider_than_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(Branches(15), width, monkeypatch)
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()).count("12 more") == 2


def test_of_many_groups_the_first_and_the_last_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [layer for _ in range(60) for layer in (nn.Linear(3, 3), nn.Tanh())]
    lines = printed(nn.Sequential(*layers, nn.Linear(3, 1)), 120, monkeypatch)
    assert lines[0] == "Sequential: 60 groups, 180 units that can be pruned"
    assert len(lines) < 50
    assert "(20 more)" in lines[33]
    assert [line.split()[0] for line in lines if line.endswith(("114  116", "116", "118", "120"))][-1] == "118"


def test_a_network_with_nothing_to_prune_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(nn.Sequential(nn.Linear(3, 2)), 120, monkeypatch)
    assert lines[0] == "Sequential: 0 groups, 0 units that can be pruned"
    assert lines[-1].split() == ["1", "module", "0", "it", "is", "an", "output", "of", "the", "model"]
