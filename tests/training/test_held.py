"""What is closed stays closed, to the bit, whatever the optimizer does, and opens as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deadhead.errors import MaskError
from deadhead.training.masks import Masks
from support.optimizers import (
    INPUTS,
    NAMED,
    OPTIMIZERS,
    OTHERS,
    TARGETS,
    entries_of,
    one,
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
