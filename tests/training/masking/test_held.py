"""What is closed stays closed, to the bit, whatever the optimizer does, and opens as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deadhead.errors import MaskError
from deadhead.training.masking.held import Held, bits_of
from deadhead.training.masking.masks import Masks
from support.optimizers import (
    INPUTS,
    NAMED,
    OPTIMIZERS,
    OTHERS,
    TARGETS,
    entries_of,
    small,
    states_of,
    steps,
    train,
    whole_lines,
)
from support.snapshot import bits

CLOSED = {"conv": [1, 2], "fc1": [0, 5]}
ENTRIES = entries_of(conv=(1, 2), fc1=(0, 5))
CASES = [
    pytest.param(name, count, marks=pytest.mark.exhaustive if name in OTHERS and count == 500 else ())
    for name in OPTIMIZERS
    for count in ([500] if name in NAMED else [50, 500])
]


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def single() -> dict[str, Tensor]:
    """What stays of two matrices whose single weights are closed."""
    generator = torch.Generator().manual_seed(3)
    return {name: torch.rand(ENTRIES[name].shape, generator=generator) > 0.3 for name in ("fc1.weight", "conv.weight")}


@pytest.mark.parametrize(("name", "count"), CASES)
def test_closed_entries_are_to_the_bit_what_they_were_and_all_others_have_moved(name: str, count: int) -> None:
    model = small()
    optimizers = OPTIMIZERS[name](model)
    train(model, optimizers, 3)
    parameters = dict(model.named_parameters())
    states = {name: states_of(optimizers, parameter) for name, parameter in parameters.items()}
    before = state_of(model)
    masks = Masks(model, optimizers, example=INPUTS)
    masks.close(CLOSED)
    kept = single()
    masks.close_weights(kept)
    closed = {name: entries | ~kept[name] if name in kept else entries for name, entries in ENTRIES.items()}
    for step in steps(model, optimizers, count, seed=1):
        if step % 50 == 0 or step == count - 1:
            for key, tensor in model.state_dict().items():
                if "running" not in key:  # statistics are those of the forward pass until a step or a save follows
                    assert bits(tensor[closed[key]]) == bits(torch.zeros_like(tensor[closed[key]])), (step, key)
    for key, tensor in model.state_dict().items():
        assert bits(tensor[closed[key]]) == bits(torch.zeros_like(tensor[closed[key]])), key
        if tensor.is_floating_point():
            assert bool((tensor != before[key])[~closed[key]].all()), f"{key} has not moved"
    masks.close_weights({name: torch.ones_like(keep) for name, keep in kept.items()})
    masks.open()
    for key, tensor in model.state_dict().items():
        assert bits(tensor[closed[key]]) == bits(before[key][closed[key]]), key
    if name != "LBFGS":  # whose state is of all entries together, and begins anew
        for key, parameter in parameters.items():
            for what, value in states_of(optimizers, parameter).items():
                lines = whole_lines(closed[key], value)
                assert bits(value[lines]) == bits(states[key][what][lines]), (key, what)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "LBFGS"])
def test_closing_touches_no_other_entry_and_opening_at_once_is_as_if_nothing_was(name: str) -> None:
    model = small()
    optimizers = OPTIMIZERS[name](model)
    train(model, optimizers, 3)
    parameters = dict(model.named_parameters())

    def all_of_it() -> dict[str, Tensor]:
        states = {f"{key} {what}": v for key, p in parameters.items() for what, v in states_of(optimizers, p).items()}
        return state_of(model) | states

    before = all_of_it()
    masks = Masks(model, optimizers, example=INPUTS)
    masks.close(CLOSED)
    for key, value in all_of_it().items():
        lines = whole_lines(ENTRIES[key.partition(" ")[0]], value)
        assert bits(value[~lines]) == bits(before[key][~lines]), key
        assert not value[lines].any(), key
    masks.open()
    assert {key: bits(value) for key, value in all_of_it().items()} == {key: bits(v) for key, v in before.items()}


def closed_sgd(**options: Any) -> tuple[nn.Module, torch.optim.Optimizer, Masks]:
    """The network trained for three steps, with units closed."""
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, **options)
    train(model, (optimizer,), 3)
    masks = Masks(model, optimizer, example=INPUTS)
    masks.close(CLOSED)
    optimizer.zero_grad()
    return model, optimizer, masks


def backward(model: nn.Module) -> None:
    nn.functional.mse_loss(model(INPUTS), TARGETS).backward()


def test_gradients_of_closed_entries_are_zero_as_soon_as_they_accumulate() -> None:
    model, _, _ = closed_sgd()
    alone = []
    for _ in range(2):  # accumulated over two passes
        backward(model)
        alone.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
        for name, parameter in model.named_parameters():
            assert not parameter.grad[ENTRIES[name]].any(), name
            assert parameter.grad[~ENTRIES[name]].all(), name
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * alone[0][name], rtol=1e-6, atol=1e-12)


def test_the_norm_that_gradients_are_clipped_to_is_that_of_open_entries() -> None:
    model, _, masks = closed_sgd()
    backward(model)
    clipped = nn.utils.get_total_norm([parameter.grad for parameter in model.parameters()])
    smaller = masks.cut().model.train()
    smaller.zero_grad()
    backward(smaller)
    alone = nn.utils.get_total_norm([parameter.grad for parameter in smaller.parameters()])
    torch.testing.assert_close(clipped, alone, rtol=1e-9, atol=0)


def test_a_gradient_that_no_backward_pass_gave_is_masked_before_the_step() -> None:
    model, optimizer, _ = closed_sgd()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert not optimizer.state[parameter]["momentum_buffer"][ENTRIES[name]].any(), name
        assert not parameter[ENTRIES[name]].any(), name


def test_a_gradient_that_was_there_when_units_were_closed_is_masked() -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    backward(model)
    masks = Masks(model, optimizer, example=INPUTS)
    backward(model)
    masks.close(CLOSED)
    for name, parameter in model.named_parameters():
        assert not parameter.grad[ENTRIES[name]].any(), name


def test_a_scaler_of_gradients_steps_as_it_would() -> None:
    model, optimizer, _ = closed_sgd(weight_decay=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for scale in (1.0, float("inf"), 1.0):
        before = state_of(model)
        optimizer.zero_grad()
        scaler.scale(nn.functional.mse_loss(model(INPUTS), TARGETS) * scale).backward()
        scaler.step(optimizer)
        scaler.update()
        for name, parameter in model.named_parameters():
            assert not parameter[ENTRIES[name]].any(), name
            assert torch.equal(parameter, before[name]) == (scale > 1), "a step that overflows is left out"


def test_statistics_of_closed_channels_are_zero_in_what_is_saved_and_after_a_step() -> None:
    model, _, _ = closed_sgd()
    norm = model.norm
    for _ in range(3):
        with torch.no_grad():
            norm(torch.randn(4, 4, 2, 2, dtype=torch.float64))  # as of an input that closed channels do not give
    assert norm.running_mean[1] != 0
    saved = model.state_dict()
    assert not saved["norm.running_mean"][[1, 2]].any()
    assert not saved["norm.running_var"][[1, 2]].any()
    assert saved["norm.running_mean"][[0, 3]].all()


def test_something_that_fills_closed_entries_is_named_at_the_next_backward_pass() -> None:
    model, _, masks = closed_sgd()
    with torch.no_grad():
        model.fc1.weight.add_(0.1)
    with pytest.raises(MaskError, match=r"Closed entries of fc1\.weight are not zero any more.*another optimizer"):
        backward(model)
    with pytest.raises(MaskError, match=r"fc1\.weight"):
        masks.cut()


def test_loading_weights_over_closed_ones_is_named() -> None:
    model, _, masks = closed_sgd()
    model.load_state_dict(small().state_dict())
    with pytest.raises(MaskError, match="load_state_dict"):
        masks.close({"fc1": [1]})


def test_a_parameter_that_was_replaced_is_named_after_the_step() -> None:
    model, optimizer, masks = closed_sgd()
    model.fc1.weight = nn.Parameter(model.fc1.weight.detach().clone())
    backward(model)
    with pytest.raises(MaskError, match=r"fc1\.weight is another tensor"):
        optimizer.step()
    with pytest.raises(MaskError, match=r"fc1\.weight is another tensor"):
        masks.cut()


def test_after_the_end_nothing_is_held_and_no_hook_remains() -> None:
    model, optimizer, masks = closed_sgd()
    masks.stop()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert model.fc1.weight[0].all()
    assert not optimizer._optimizer_step_post_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not model._state_dict_pre_hooks
    assert not any(getattr(parameter, "_post_accumulate_grad_hooks", None) for parameter in model.parameters())


def test_a_parameter_that_does_not_train_is_closed_and_opened_too() -> None:
    model = small()
    model.fc1.weight.requires_grad_(False)
    before = state_of(model)
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.01)
    masks = Masks(model, optimizer, example=INPUTS)
    masks.close(CLOSED)
    train(model, (optimizer,), 3)
    assert not model.fc1.weight[ENTRIES["fc1.weight"]].any()
    masks.open()
    assert torch.equal(model.fc1.weight, before["fc1.weight"])


@pytest.mark.parametrize("sparse", [False, True])
def test_rows_of_an_embedding_are_held_whatever_its_gradients_are(sparse: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4, sparse=sparse), nn.Flatten(), nn.Linear(8, 2)).double()
    words = torch.tensor([[0, 1], [2, 3], [4, 0]])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    masks = Masks(model, optimizer, example=words)
    before = model[0].weight.detach().clone()
    masks.close({"0": [1, 3]})
    for _ in range(5):
        optimizer.zero_grad()
        model(words).square().sum().backward()
        optimizer.step()
    assert not model[0].weight[:, [1, 3]].any()
    assert (model[0].weight != before)[:, [0, 2]].all()
    masks.open()
    assert torch.equal(model[0].weight[:, [1, 3]], before[:, [1, 3]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_closed_entries_hold_does_not_matter(dtype: torch.dtype) -> None:
    """NaN and infinity are zero when they are closed, as a product with zero would not make them."""
    value = torch.tensor([[float("nan"), 1.0, -0.0], [float("inf"), -2.0, 3.0]], dtype=dtype)
    closed = torch.tensor([[True, False, True], [True, False, False]])
    for lines, expected in ((None, [[0, 1, 0], [0, -2, 3]]), ({1: torch.tensor([0])}, [[0, 1, 0], [0, -2, 3]])):
        tensor = value.clone()
        Held("x", tensor, closed, bits_of(tensor, closed, lines), torch.zeros_like(tensor)).hold()
        assert tensor.tolist() == expected
