"""Random architectures, cut twice by random plans: the one surgery that both make leads to the same module."""

from __future__ import annotations

import random
import warnings

import pytest
import torch
from architectures import Net, draw, inputs_of
from check import ROWS, random_plan, tensors_of

import deadhead
from deadhead.cut.cut import carry_out, surgery_of
from deadhead.cut.provable import cuttable
from deadhead.cut.surgery import copy_of, operate, remember, surgery_behind
from deadhead.errors import DeadheadError
from support.quick import each_of
from support.snapshot import bits, same

CHUNKS = 20
EXPORTS = 5
LEAST_CUT_TWICE = 0.5
"""A small architecture may have nothing more to lose after the first cut."""


def cut_once_more(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], dice: random.Random) -> torch.nn.Module:
    """A copy that is cut by a random plan and remembers it."""
    network = deadhead.trace(module, inputs)
    cutting = cuttable(network, network.groups)
    smaller = copy_of(module)
    if cutting.groups:
        surgery = surgery_of(network, random_plan(cutting, dice), repairs=cutting.repairs)
        carry_out(smaller, surgery)
        remember(smaller, surgery)
    return smaller


def twice(seed: int) -> bool:
    """Whether both cuts removed something of the architecture of a seed, after the claim was checked."""
    spec, dice = draw(seed), random.Random(f"{seed} twice")
    model, inputs = Net(spec), inputs_of(spec, ROWS, seed=seed)
    try:
        first = cut_once_more(model, inputs, dice)
        second = cut_once_more(first, inputs, dice)
    except DeadheadError:
        return False
    once = copy_of(model)
    operate(once, surgery_behind(second))
    assert same(once, second), seed
    outputs = []
    for module in (once, second):
        torch.manual_seed(seed)  # some drop activations at random
        with torch.no_grad():
            outputs.append([bits(tensor) for tensor in tensors_of(module(*inputs))])
    assert outputs[0] == outputs[1], seed
    return surgery_behind(first) != surgery_behind(second) and bool(surgery_behind(first).keep)


@pytest.mark.parametrize("chunk", each_of(range(CHUNKS), [2], [0, *range(3, CHUNKS)]))
def test_two_cuts_are_one(chunk: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cut = [twice(seed) for seed in range(chunk * EXPORTS, (chunk + 1) * EXPORTS)]
    assert sum(cut) >= LEAST_CUT_TWICE * EXPORTS
