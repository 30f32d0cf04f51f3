"""Whole experts, and other units among which a softmax or a topk chooses: closed, they are out of the choice."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import as_batch
from deadhead.data.losses import as_loss
from deadhead.gates.gates import Gates

COUNT, WIDTH = 6, 4
LOSS = {"loss": lambda outputs, _: outputs.square().mean(1)}


class Mixture(nn.Module):
    """Experts by their probabilities: all of them, or the `chosen` likeliest."""

    def __init__(self, chosen: int | None = None, count: int = COUNT) -> None:
        super().__init__()
        self.chosen, self.count = chosen, count
        self.router = nn.Linear(WIDTH, count)
        self.up = nn.Parameter(torch.randn(count, 5, WIDTH))
        self.down = nn.Parameter(torch.randn(count, 3, 5))

    def forward(self, x: Tensor) -> Tensor:
        likely = self.router(x).softmax(-1)
        if self.chosen is None:
            hidden = torch.tanh(torch.einsum("nd,ehd->neh", x, self.up))
            return torch.einsum("neh,eoh,ne->no", hidden, self.down, likely)
        likely, which = likely.topk(self.chosen)
        likely = likely / likely.sum(-1, keepdim=True)
        hidden = torch.tanh(torch.einsum("nd,nkhd->nkh", x, self.up[which]))
        return torch.einsum("nkh,nkoh,nk->no", hidden, self.down[which], likely)


class Slots(nn.Module):
    """Attention over a memory that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.values = (nn.Parameter(torch.randn(COUNT, WIDTH)) for _ in range(2))
        self.last = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.softmax(x @ self.keys.T, -1) @ self.values)


def mixture(chosen: int | None) -> Mixture:
    torch.manual_seed(0)
    return Mixture(chosen).double().eval()


def without(model: Mixture, gone: list[int]) -> Mixture:
    """The same with fewer experts, made by hand."""
    kept = [k for k in range(COUNT) if k not in gone]
    small = Mixture(model.chosen, len(kept)).double().eval()
    small.router.weight, small.router.bias = (
        nn.Parameter(model.router.weight[kept]),
        nn.Parameter(model.router.bias[kept]),
    )
    small.up, small.down = nn.Parameter(model.up[kept]), nn.Parameter(model.down[kept])
    return small


def inputs(rows: int = 40) -> Tensor:
    return torch.randn(rows, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("chosen", [None, 2])
@pytest.mark.parametrize("criterion", ["magnitude", "mrs", "taylor1", "oracle"])
def test_without_experts_the_router_chooses_among_the_others(chosen: int | None, criterion: str) -> None:
    model, x = mixture(chosen), inputs()
    pruned = dh.prune(
        model, [(x,)], units={"router": 0.5}, only="router", criterion=criterion, compensate="zero", **LOSS
    )  # fmt: skip
    gone = pruned.plan.removed["router"].tolist()
    assert len(gone) == COUNT // 2
    new = torch.randn(9, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(pruned.model(new), without(model, gone)(new), rtol=1e-12, atol=1e-12)
    assert (pruned.model(new) - model(new)).abs().max() > 0.01


@pytest.mark.parametrize("chosen", [None, 2])
def test_closing_an_expert_is_being_without_it(chosen: int | None) -> None:
    model, x = mixture(chosen), inputs()
    batch = as_batch((x,))
    network = dh.trace(model, x)
    network.traced([x])
    gates = Gates(network, as_loss(LOSS["loss"]))
    ones = torch.ones(COUNT, dtype=torch.float64)
    assert torch.equal(gates.loss({"router": ones}, batch), gates.loss({}, batch))
    for unit in range(COUNT):
        closed = ones.index_fill(0, torch.tensor([unit]), 0)
        expected = without(model, [unit])(x).square().mean(1)
        torch.testing.assert_close(gates.loss({"router": closed}, batch), expected, rtol=1e-12, atol=1e-12)


def test_the_derivative_by_a_gate_before_a_softmax_is_right() -> None:
    model, x = mixture(None), inputs()
    network = dh.trace(model, x)
    batch = as_batch((x,))
    found = dh.score(network, [(x,)], criterion="taylor1", **LOSS)["router"]
    gates = Gates(network, as_loss(LOSS["loss"]))
    step = 1e-6
    for unit in range(COUNT):
        alpha = torch.ones(COUNT, dtype=torch.float64)
        alpha[unit] -= step
        slope = (gates.loss({"router": alpha}, batch) - gates.loss({}, batch)).mean() / step
        assert float(slope) == pytest.approx(float(found[unit]), abs=1e-5)


def test_as_many_stay_as_are_chosen() -> None:
    pruned = dh.prune(mixture(4), [(inputs(),)], units=0.1, criterion="magnitude", compensate="zero", **LOSS)
    assert pruned.model.router.out_features == 4
    with pytest.raises(dh.BudgetError, match="remove none"):
        dh.prune(mixture(4), [(inputs(),)], units={"router": 6}, criterion="magnitude", **LOSS)


def test_slots_of_a_memory_are_units() -> None:
    torch.manual_seed(0)
    model = Slots().double().eval()
    pruned = dh.prune(model, [(inputs(),)], units=0.5, criterion="magnitude", compensate="zero", **LOSS)
    assert pruned.model.keys.shape[0] == COUNT // 2
    gone = pruned.plan.removed["keys"].tolist()
    kept = [k for k in range(COUNT) if k not in gone]
    x = inputs(7)
    width = [j for j in range(WIDTH) if j not in pruned.plan.removed.get("values", torch.tensor([])).tolist()]
    expected = F.linear(
        F.softmax(x @ model.keys[kept].T, -1) @ model.values[kept][:, width],
        model.last.weight[:, width],
        model.last.bias,
    )
    torch.testing.assert_close(pruned.model(x), expected, rtol=1e-12, atol=1e-12)
