"""Masks of a network that two processes train, each on data of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from support.two_processes import both, network

Seen = list[dict[str, Any]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return both(tmp_path_factory.mktemp("processes"))


def test_both_close_the_same_units_and_weights_though_their_data_differ(seen: Seen) -> None:
    first, second = seen
    assert first["units"] == second["units"]
    assert {name: len(units) for name, units in first["units"].items()} == {"0": 3, "3": 2}
    assert first["keep"].keys() == second["keep"].keys()
    assert all(torch.equal(first["keep"][name], second["keep"][name]) for name in first["keep"])
    assert int(first["keep"]["5.weight"].sum()) == 4  # 0.3 of 12


def test_closed_entries_are_zero_to_the_bit_and_weights_equal_after_training(seen: Seen) -> None:
    first, second = seen
    parameters = [name for name, _ in network().named_parameters()]
    assert all(torch.equal(first["state"][name], second["state"][name]) for name in parameters)
    for each in seen:
        for name, keep in each["keep"].items():
            closed = each["state"][name][~keep]
            assert {bytes(value) for value in closed.numpy().view("V8")} == {bytes(8)}


def test_what_was_cut_in_place_trains_on_in_a_new_wrapper(seen: Seen) -> None:
    first, second = seen
    assert first["sizes"] == second["sizes"] == [5, 4]
    parameters = [name for name, _ in network().named_parameters()]
    assert all(torch.equal(first["cut"][name], second["cut"][name]) for name in parameters)


def test_the_old_wrapper_and_a_cut_as_it_goes_are_refused_in_a_sentence(seen: Seen) -> None:
    for each in seen:
        as_it_goes, retired = each["messages"]
        assert 'give cut="end"' in as_it_goes
        assert "wrap it anew: DistributedDataParallel(model)" in retired
        assert "knows of no new one" in each["refused"]["3.weight"]
