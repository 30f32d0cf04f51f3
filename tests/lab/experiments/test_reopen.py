"""The experiment `reopen`: who opens when, equal sizes, and what holds at quick size."""

from __future__ import annotations

import torch

from deadhead.lab.experiments.reopen.experiment import Reopen, _open, ways
from deadhead.lab.models import small_cnn
from deadhead.lab.networks.arms import Arms, batched, parameters, remaining
from support.data import needs_data
from support.lab import drawn_all, quick


def test_closed_units_are_open_when_they_are_chosen_again() -> None:
    s = Reopen(rounds=(1, 2), fractions=(0.2, 0.6), again=3, copies=("removed", "reopened", "open for an epoch"))
    draw = torch.Generator().manual_seed(0)
    known = batched(torch.rand(40, 1, 28, 28, generator=draw), torch.arange(40) % 10)
    arms, sizes = Arms(small_cnn(seed=0), ways(s), 0.1), {}
    for epoch in (1, 2, 3, 4):
        _open(arms, epoch, s, seed=0)
        sizes[epoch, "opened"] = {name: parameters(arms.units(name)) for name in s.copies}
        arms.prune(epoch, known)
        sizes[epoch, "closed"] = {name: parameters(arms.units(name)) for name in s.copies}
    assert sizes[1, "closed"] == dict.fromkeys(s.copies, parameters(remaining(0.2)))
    assert sizes[2, "opened"]["reopened"] == sizes[3, "opened"]["reopened"] == 20522
    assert sizes[2, "opened"]["removed"] == parameters(remaining(0.2))
    assert sizes[3, "closed"]["reopened"] == 4019
    assert sizes[3, "closed"]["open for an epoch"] == 20522
    assert set(sizes[4, "closed"].values()) == {4019}


@needs_data
def test_the_quick_run_ends_with_equal_sizes_and_disrupts_more_by_units_than_by_weights() -> None:
    found = quick("reopen")
    assert {name: each["parameters"] for name, each in found["ends"].items()} == {
        "twin": 20522, "removed": 4019, "reopened": 4019,
    }  # fmt: skip
    assert found["curves"]["removed"][0] == found["curves"]["reopened"][0] == found["curves"]["twin"][0]
    assert found["units_less_weights_mean"] > 0
    assert found["rises"]["units refitted"][0] < found["rises"]["units"][0]


@needs_data
def test_its_figures_draw() -> None:
    drawn_all("reopen")
