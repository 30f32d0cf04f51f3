"""Axes whose sizes vary between batches: one graph for all of them where the model can be traced so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from support.networks import unit_gain


class Tokens(nn.Module):
    """Token classification with single-head attention, for any number of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix = nn.Embedding(20, 8), nn.Linear(8, 8)
        self.wide, self.narrow = nn.Linear(8, 12), nn.Linear(12, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        x = x + torch.softmax(self.mix(x) @ x.transpose(1, 2), -1) @ x
        return self.last((x + self.narrow(torch.relu(self.wide(x)))).mean(1))


class Fixed(Tokens):
    """The same, with a number of tokens that the forward writes down: a graph for each."""

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids) * float(len(ids[0]) % 3)


def batches(*lengths: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randint(20, (6, length), generator=generator), torch.randint(3, (6,), generator=generator))
        for length in lengths
    ]


@pytest.mark.parametrize("kind", [Tokens, Fixed])
def test_a_replay_equals_the_module_at_every_length(kind: type[nn.Module]) -> None:
    model = unit_gain(kind())
    network = dh.trace(model, batches(5)[0][0])
    with torch.no_grad():
        for ids, _ in batches(5, 7, 4, 11, 5, 2):
            torch.testing.assert_close(network.replay(ids), model.eval()(ids), rtol=1e-12, atol=1e-13)


def test_batches_of_many_lengths_need_two_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    import deadhead.graph.network as module

    traces = []
    exporting = module.trace_program

    def counted(*args: object) -> object:
        traces.append(args)
        return exporting(*args)  # type: ignore[arg-type]

    network = dh.trace(unit_gain(Tokens()), batches(5)[0][0])
    monkeypatch.setattr(module, "trace_program", counted)
    for ids, _ in batches(5, 7, 4, 11, 5, 9):
        network.replay(ids)
    assert len(traces) == 2


def test_scores_do_not_depend_on_which_length_came_first() -> None:
    model = unit_gain(Tokens())
    data = batches(5, 7, 11)
    found = dh.score(model, data, loss="cross_entropy")["wide"]
    torch.testing.assert_close(dh.score(model, data[::-1], loss="cross_entropy")["wide"], found, rtol=1e-9, atol=1e-12)


def test_a_prune_over_many_lengths_verifies() -> None:
    pruned = dh.prune(unit_gain(Tokens()), batches(5, 7, 11, 4), loss="cross_entropy", units=0.5)
    assert pruned.model.wide.out_features == 6
    assert pruned.report.difference <= 1e-10


def test_pruning_and_scoring_work_inside_inference_mode() -> None:
    model = unit_gain(Tokens())
    with torch.inference_mode():
        pruned = dh.prune(model, batches(5, 7), loss="cross_entropy", units=0.5)
    assert pruned.model.wide.out_features == 6
