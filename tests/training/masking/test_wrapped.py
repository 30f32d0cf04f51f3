"""Masks hold however a module is trained: compiled, with scaled or accumulated gradients, by several optimizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from deadhead.errors import MaskError
from deadhead.training.masking.masks import Masks
from support.networks import mlp

UNITS = {"0": [1, 4], "2": [0]}


def network() -> nn.Sequential:
    return mlp(3, 6, 5, 2, activation=nn.Sigmoid).train()  # what a closed unit gives is not zero


def adam(model: nn.Module) -> Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)


def draws(count: int, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(8, 3, generator=generator, dtype=torch.float64) for _ in range(count)]


def train(call: Callable[[Tensor], Tensor], optimizers: Sequence[Optimizer], batches: Sequence[Tensor]) -> None:
    for x in batches:
        for optimizer in optimizers:
            optimizer.zero_grad()
        (call(x) - 1).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


def closed_bits(masks: Masks) -> set[bytes]:
    """The bytes of all closed entries: one kind, zero, where they hold."""
    tensors = masks.network.state()
    return {
        bytes(value) for name, keep in masks.keep.items() for value in tensors[name].detach()[~keep].numpy().view("V8")
    }


ZERO = {bytes(8)}


@pytest.mark.parametrize("when", ["before", "after", "in place"])
@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.exhaustive)])
def test_masks_of_a_compiled_module_hold_as_those_of_the_module(when: str, backend: str) -> None:
    torch._dynamo.reset()
    batches, results = draws(12), list[Tensor]()
    for is_compiled in (False, True):
        model = network()
        wrapped: Any = model
        if is_compiled and when == "before":
            wrapped = torch.compile(model, backend=backend)
        elif is_compiled and when == "in place":
            model.compile(backend=backend)
        optimizer = adam(model)
        train(wrapped, [optimizer], batches[:2])
        masks = Masks(wrapped, optimizer, example=batches[0])
        assert masks.module is model
        masks.close(UNITS)
        if is_compiled and when == "after":
            wrapped = torch.compile(model, backend=backend)
        train(wrapped, [optimizer], batches[:6])
        assert closed_bits(masks) == ZERO
        masks.close({"0": [2]})
        masks.open({"0": [1]})
        train(wrapped, [optimizer], batches[6:])
        assert masks.closed == {"0": [2, 4], "2": [0]}
        assert closed_bits(masks) == ZERO
        masks.cut(inplace=True)
        train(wrapped, [optimizer], batches)
        results.append(wrapped(batches[0]).detach())
        assert model[0].weight.shape == (4, 3)
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


def test_the_compiled_step_of_an_optimizer_is_followed_by_the_masks() -> None:
    torch._dynamo.reset()
    model, batches = network(), draws(8)
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.05), momentum=0.9, weight_decay=0.1)
    masks = Masks(model, optimizer, example=batches[0])
    masks.close(UNITS)
    step: Any = torch.compile(lambda: optimizer.step(), backend="eager")
    for x in batches:
        optimizer.zero_grad()
        (model(x) - 1).square().mean().backward()
        step()
        assert closed_bits(masks) == ZERO


def test_a_step_that_the_scaler_leaves_out_leaves_masks_and_weights_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), torch.amp.GradScaler("cpu")
    masks = Masks(model, optimizer, example=torch.randn(8, 3))
    masks.close({"0": [1, 4]})
    steps = []
    for number in range(8):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(torch.randn(8, 3)).square().mean()
        scaler.scale(loss * (float("inf") if number == 3 else 1)).backward()
        before = model[0].weight.detach().clone()
        scaler.step(optimizer)
        scaler.update()
        steps.append(not torch.equal(model[0].weight, before))
        assert not model[0].weight[[1, 4]].any()
        assert not model[2].weight[:, [1, 4]].any()
        assert model[0].weight.isfinite().all()
    assert steps == [number != 3 for number in range(8)]


def test_gradients_of_several_passes_are_clipped_as_those_of_the_smaller_network() -> None:
    batches, norms = draws(12), list[list[Tensor]]()
    for cut in (False, True):
        model = network()
        optimizer = adam(model)
        masks = Masks(model, optimizer, example=batches[0])
        masks.close(UNITS)
        if cut:
            masks.cut(inplace=True)
        norms.append([])
        for number, x in enumerate(batches):
            (model(x) - 1).square().mean().backward()
            if number % 3 == 2:
                norms[-1].append(nn.utils.clip_grad_norm_(model.parameters(), 0.1).detach())
                optimizer.step()
                optimizer.zero_grad()
    torch.testing.assert_close(*norms, rtol=1e-10, atol=1e-12)


def several(model: nn.Sequential) -> list[Optimizer]:
    matrices = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
    rest = [layer.bias for layer in model if isinstance(layer, nn.Linear)]
    muon = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1)
    return [muon, torch.optim.AdamW([{"params": rest[:1], "weight_decay": 0.0}, {"params": rest[1:], "lr": 0.1}])]


def test_two_optimizers_and_their_groups_train_as_on_the_smaller_network_and_hold() -> None:
    model, batches = network(), draws(10)
    optimizers = several(model)
    train(model, optimizers, batches[:3])
    masks = Masks(model, optimizers, example=batches[0])
    masks.close(UNITS)
    pruned = masks.cut()
    train(model, optimizers, batches)
    assert closed_bits(masks) == ZERO
    assert isinstance(pruned.optimizer, tuple)
    assert [type(each) for each in pruned.optimizer] == [torch.optim.Muon, torch.optim.AdamW]
    assert model[0].bias[[0, 2, 3, 5]].all()
    masks.cut(inplace=True)
    train(model, optimizers, batches)
    assert [p.shape[0] for p in optimizers[0].param_groups[0]["params"]] == [4, 4, 2]


class Noisy(torch.optim.SGD):
    """An optimizer of the user's own, which adds noise."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.add_(torch.randn_like(parameter), alpha=1e-3)


def test_what_an_optimizer_adds_to_closed_entries_is_taken_back() -> None:
    model, batches = network(), draws(5)
    optimizer = Noisy(model.parameters(), lr=0.1, momentum=0.9)
    masks = Masks(model, optimizer, example=batches[0])
    masks.close(UNITS)
    for x in batches:
        train(model, [optimizer], [x])
        assert closed_bits(masks) == ZERO
        momentum = optimizer.state[model[2].weight]["momentum_buffer"]
        assert not momentum[:, [1, 4]].any()
        assert momentum[1:, [0, 2, 3, 5]].all()


def test_gradients_that_no_backward_pass_gave_are_masked_too() -> None:
    model, x = network(), draws(1)[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    masks = Masks(model, optimizer, example=x)
    masks.close(UNITS)
    for _ in range(5):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        assert closed_bits(masks) == ZERO
        assert not optimizer.state[model[0].weight]["momentum_buffer"][[1, 4]].any()
    assert model[0].weight[0].any()


def test_parameters_that_are_frozen_and_trained_again_remain_closed() -> None:
    model, batches = network(), draws(10)
    model[0].requires_grad_(False)
    optimizer = adam(model)
    masks = Masks(model, optimizer, example=batches[0])
    masks.close(UNITS)
    before = model[0].weight.detach().clone()
    train(model, [optimizer], batches[:5])
    assert torch.equal(model[0].weight, before)
    model[0].requires_grad_(True)
    optimizer.zero_grad()
    (model(batches[0]) - 1).square().mean().backward()
    assert not model[0].weight.grad[[1, 4]].any()
    optimizer.step()
    train(model, [optimizer], batches[5:])
    assert closed_bits(masks) == ZERO
    assert not optimizer.state[model[0].weight]["exp_avg"][[1, 4]].any()
    assert not torch.equal(model[0].weight[0], before[0])


def test_a_part_of_a_larger_module_is_masked_alone() -> None:
    whole, batches = nn.Sequential(mlp(3, 3), network(), mlp(2, 2)).double().train(), draws(10)
    optimizer = adam(whole)
    masks = Masks(whole[1], optimizer, example=batches[0])
    masks.close(UNITS)
    train(whole, [optimizer], batches)
    assert closed_bits(masks) == ZERO
    assert whole[0][0].weight.all()
    masks.cut(inplace=True)
    train(whole, [optimizer], batches)
    assert whole[1][0].weight.shape == (4, 3)


@pytest.mark.parametrize("average", ["mean", "exponential"])
def test_an_average_of_weights_is_zero_where_the_weights_are_closed(average: str) -> None:
    model, batches = network(), draws(10)
    optimizer = adam(model)
    masks = Masks(model, optimizer, example=batches[0])
    masks.close(UNITS)
    choice: dict[str, Any] = {}
    if average == "exponential":
        choice["multi_avg_fn"] = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    averaged = AveragedModel(model, **choice)
    for x in batches:
        train(model, [optimizer], [x])
        averaged.update_parameters(model)
    tensors = dict(averaged.module.named_parameters())
    assert all(not tensors[name][~keep].any() for name, keep in masks.keep.items())
    assert tensors["0.weight"][0].any()
    assert not torch.equal(tensors["0.weight"], model[0].weight)


def test_an_average_that_takes_the_place_of_the_weights_is_refused_where_it_opens_them() -> None:
    model, batches = network(), draws(4)
    optimizer = adam(model)
    averaged = AveragedModel(model)
    masks = Masks(model, optimizer, example=batches[0])
    masks.close(UNITS)
    model.load_state_dict(averaged.module.state_dict())
    with pytest.raises(MaskError, match="an average of weights"):
        train(model, [optimizer], batches)
