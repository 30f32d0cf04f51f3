"""Masks of `torch.nn.utils.prune`: what they close is closed, and what is closed is written as them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from deadhead.errors import MaskError
from deadhead.pruning.minimise import minimise
from deadhead.training.masking.masks import Masks
from deadhead.training.masking.torch_masks import without_torch_masks
from support.networks import Flat, mlp, unit_gain

KEPT = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 1]])


def masked_by_torch() -> nn.Module:
    model = mlp(3, 4, 2)
    prune.custom_from_mask(model[0], "weight", KEPT)
    return model


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, example: Tensor, steps: int = 20) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(example.shape, generator=generator, dtype=example.dtype)).square().mean().backward()
        optimizer.step()
    return model


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)


def test_zeros_of_torchs_masks_are_closed_weights_from_the_start() -> None:
    model, x = masked_by_torch(), torch.randn(5, 3).double()
    before = model(x)
    masks = Masks(model, adam(model), example=x)
    assert torch.equal(masks.keep["0.weight_orig"], KEPT.bool())
    assert "0.weight_orig: 5 of 12 weights closed" in str(masks)
    assert torch.equal(model(x), before)


def test_what_torch_closed_stays_zero_in_the_parameter_whatever_the_optimizer_does() -> None:
    model, x = masked_by_torch(), torch.randn(5, 3).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trained(model, optimizer, x, 3)
    Masks(model, optimizer, example=x)
    trained(model, optimizer, x)
    assert not model[0].weight_orig[KEPT == 0].any()
    assert not optimizer.state[model[0].weight_orig]["momentum_buffer"][KEPT == 0].any()
    assert model[0].weight_orig[KEPT == 1].all()


def test_a_weight_that_is_opened_is_opened_in_torchs_mask_too_and_is_what_it_was() -> None:
    model, x = masked_by_torch(), torch.randn(5, 3).double()
    had = model[0].weight_orig.detach().clone()
    masks = Masks(model, None, example=x)
    masks.close_weights({"0.weight_orig": (KEPT == 1) | (torch.arange(3) == 0)})
    assert model[0].weight_mask[:, 0].tolist() == [1, 1, 1, 1]
    assert torch.equal(model[0].weight_mask[:, 1:], KEPT[:, 1:].double())
    assert torch.equal(model[0].weight_orig[:, 0], had[:, 0])
    masks.close_weights({"0.weight_orig": torch.arange(12).view(4, 3) != 6})
    assert (model[0].weight_mask == 0).nonzero().tolist() == [[2, 0]]


def test_a_closed_unit_stays_closed_in_torchs_mask_when_its_weights_are_opened() -> None:
    model, x = masked_by_torch(), torch.randn(5, 3).double()
    masks = Masks(model, None, example=x)
    masks.close({"0": [2]})
    masks.close_weights({"0.weight_orig": torch.ones(4, 3, dtype=torch.bool)})
    assert not model[0].weight_mask[2].any()
    assert model[0].weight_mask[[0, 1, 3]].all()
    masks.open()
    assert model[0].weight_mask.all()


def test_units_whose_weights_torch_has_zeroed_are_found_by_the_zeros() -> None:
    model, x = mlp(3, 6, 5, 2), torch.randn(20, 3).double()
    prune.ln_structured(model[2], "weight", 2, n=2, dim=0)
    zero = (model[2].weight_mask == 0).all(1).nonzero()[:, 0].tolist()
    assert len(zero) == 2
    assert Masks(model, None, example=x).closed == {}  # a unit with a bias gives a constant
    before = model(x).detach()
    kept = without_torch_masks(model)
    assert torch.equal(model(x), before)
    masks = Masks(model, None, example=x)
    masks.close_weights(kept)
    pruned = minimise(masks.network, [x])
    assert sorted(pruned.plan.removed["2"].tolist()) == zero
    assert pruned.model[2].out_features == 3
    torch.testing.assert_close(pruned.model(x), before, rtol=1e-10, atol=1e-12)


class Recurrent(nn.Module):
    """A linear layer that an LSTM reads."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(3, 6)
        self.memory = nn.LSTM(6, 4, batch_first=True)
        self.down = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.memory(torch.tanh(self.up(x)))[0])


def normed(norm: Callable[..., nn.Module] = nn.utils.parametrizations.weight_norm) -> nn.Module:
    model = mlp(3, 6, 2)
    norm(model[0], "weight", dim=0)
    return model


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, list[int]]]] = {
    "linear": (lambda: mlp(3, 6, 5, 2), (8, 3), {"0": [1, 4], "2": [0]}),
    "convolutions and batch norm": (lambda: unit_gain(Flat()), (8, 2, 6, 6), {"conv1": [2], "fc1": [0, 5]}),
    "an LSTM": (lambda: unit_gain(Recurrent()), (8, 5, 3), {"up": [0, 3]}),
    "weight norm": (normed, (8, 3), {"0": [0, 3]}),
    "weight norm by a hook": (lambda: normed(nn.utils.weight_norm), (8, 3), {"0": [0, 3]}),
    "a mask of torch's": (masked_by_torch, (8, 3), {"0": [3]}),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.exhaustive] if n == "an LSTM" else []) for n in NETWORKS]
)
def test_training_goes_on_under_torchs_masks_as_it_would_have_under_ours(name: str) -> None:
    make, shape, units = NETWORKS[name]
    x, results, parts = torch.randn(shape).double(), list[Tensor](), list[dict[str, Tensor]]()
    for to_torch in (False, True):
        model = make().train()
        optimizer = adam(model)
        trained(model, optimizer, x, 3)
        masks = Masks(model, optimizer, example=x)
        masks.close(units)
        before = model.eval()(x)
        if to_torch:
            assert masks.to_torch_prune() is model
            assert prune.is_pruned(model)
        assert torch.equal(model(x), before)
        trained(model.train(), optimizer, x)
        results.append(model.eval()(x).detach())
        parts.append({each.removesuffix("_orig"): value.detach() for each, value in model.named_parameters()})
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(parts[0][each] == 0, parts[1][each] == 0) for each in parts[0])
    assert sum(int((value == 0).sum()) for value in parts[1].values()) > 1


def test_what_was_written_as_torchs_masks_is_read_as_the_same_units() -> None:
    model, x = unit_gain(Flat()), torch.randn(8, 2, 6, 6).double()
    optimizer = adam(model)
    masks = Masks(model, optimizer, example=x)
    masks.close({"conv1": [2], "conv2": [4], "fc1": [0, 5]})
    keep = torch.rand(4, 7) > 0.3
    masks.close_weights({"fc2.weight": keep})
    masks.to_torch_prune()
    trained(model.train(), optimizer, x)
    again = Masks(model.eval(), optimizer, example=x)
    assert again.closed == {"conv1": [2], "conv2": [4], "fc1": [0, 5]}
    assert not again.keep["fc2.weight_orig"][~keep].any()
    before = model(x)
    pruned = again.cut()
    assert pruned.model.fc1.weight_orig.shape == (5, 4 * 4)
    torch.testing.assert_close(pruned.model(x), before, rtol=1e-10, atol=1e-12)


def test_torchs_masks_and_a_checkpoint_go_together() -> None:
    model, x = mlp(3, 6, 2), torch.randn(8, 3).double()
    masks = Masks(model, None, example=x)
    masks.close({"0": [1, 2]})
    masks.to_torch_prune()
    masks = Masks(model, None, example=x)
    masks.close({"0": [5]})
    state, weights = masks.state_dict(), copy.deepcopy(model.state_dict())
    other = mlp(3, 6, 2, seed=1)
    first = Masks(other, None, example=x)
    first.close({"0": [1, 2]})
    first.to_torch_prune()
    again = Masks(other, None, example=x)
    again.load_state_dict(state)
    other.load_state_dict(weights)
    assert again.closed == {"0": [1, 2, 5]}
    assert torch.equal(other(x), model(x))


def test_a_shared_parameter_is_closed_only_where_all_that_read_it_have_a_mask() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.tanh(self.a(x)))

    model, x = unit_gain(Tied()), torch.randn(5, 4).double()
    prune.custom_from_mask(model.b, "weight", torch.arange(16).view(4, 4) != 3)
    before = model(x)
    assert Masks(model, None, example=x).keep == {}
    prune.custom_from_mask(model.a, "weight", torch.arange(16).view(4, 4) > 4)
    masks = Masks(model, None, example=x)
    assert (~masks.keep["a.weight_orig"]).nonzero().tolist() == [[0, 3]]
    assert not torch.equal(model(x), before)


class Heads(nn.Module):
    """Attention between two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(3, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.down = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.up(x))
        return self.down(self.attention(x, x, x, need_weights=False)[0])


def test_a_parameter_of_a_module_that_is_not_called_is_named() -> None:
    model, x = unit_gain(Heads()), torch.randn(4, 5, 3).double()
    masks = Masks(model, None, example=x)
    masks.close({"attention.out_proj": [2]})
    with pytest.raises(MaskError, match=r"the parameters of attention.out_proj are read in another way"):
        masks.to_torch_prune()
    assert not prune.is_pruned(model)


def test_a_module_that_reads_its_parameters_otherwise_is_refused_and_left_as_it_was() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.down(torch.tanh(x @ self.up._parameters["weight"].T))

    model, x = unit_gain(Hidden()), torch.randn(5, 3).double()
    masks = Masks(model, None, example=x)
    masks.close({"up": [1]})
    names = {name for name, _ in model.named_parameters()}
    before = model(x)
    with pytest.raises(MaskError, match="are read in another way"):
        masks.to_torch_prune()
    assert not prune.is_pruned(model)
    assert {name for name, _ in model.named_parameters()} == names
    assert torch.equal(model(x), before)
    assert masks.closed == {"up": [1]}
