"""A weight's matrix by the columns that a node reads is what torch's own op gives, for every kind of product."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import deadhead as dh
from deadhead.graph.graph import Edits
from deadhead.graph.units.groups import Site
from deadhead.graph.units.matrices import Layout, fits, layout_of
from deadhead.reconstruction.consumers import consumers_of
from support.readers import READINGS, inputs, reader


def at(name: str) -> tuple[Layout, Site, Tensor, Tensor, Tensor]:
    """The layout of a reading, its site, what is read there, what is given, and the weight."""
    model, x = reader(name), inputs(name, 5)
    network = dh.trace(model, x)
    traced = network.traced([x])
    site = next(site for group in traced.units.groups for site in group.consumers if site.weight == "weight")
    seen: list[Tensor] = []
    edits = Edits()
    edits.on_read(site.node, site.position, lambda value: (seen.append(value), value)[1])
    state = {**network.frozen_state()}
    if "bias" in state:
        state["bias"] = torch.zeros_like(state["bias"])
    kept = {site.node: None}
    traced.graph.run([x], state, edits, kept=kept)  # type: ignore[arg-type]
    layout = layout_of(site, model.weight.shape)
    assert isinstance(layout, Layout)
    made = kept[site.node]
    assert isinstance(made, Tensor)
    return layout, site, seen[0], made, state["weight"]


@pytest.mark.parametrize("name", READINGS)
def test_the_matrix_by_the_columns_is_what_the_op_gives(name: str) -> None:
    layout, _, value, made, weight = at(name)
    matrix = layout.arrangement.matrix(weight)
    assert matrix.shape == (layout.arrangement.groups, layout.arrangement.outputs, layout.arrangement.columns)
    assert matrix.numel() == weight.numel()
    found = layout.columns(value) @ matrix.transpose(1, 2)
    torch.testing.assert_close(found, layout.outputs(made), rtol=1e-12, atol=1e-12)
    assert layout.outputs(made).numel() == made.numel()
    assert torch.equal(layout.arrangement.weight_of(matrix, weight.shape), weight)


@pytest.mark.parametrize("name", READINGS)
def test_a_constant_is_added_to_each_output_of_each_group(name: str) -> None:
    layout, _, _, made, _ = at(name)
    constant = torch.randn(layout.arrangement.groups * layout.arrangement.outputs, dtype=torch.float64)
    laid = layout.spread(constant)
    shift = layout.outputs(made + laid) - layout.outputs(made)
    wanted = constant.reshape(layout.arrangement.groups, 1, -1).expand_as(shift)
    torch.testing.assert_close(shift, wanted, rtol=0, atol=1e-12)
    assert (made + laid).shape == made.shape


@pytest.mark.parametrize("name", [name for name, each in READINGS.items() if each.bias is not None])
def test_a_bias_takes_a_constant_only_in_its_own_shape(name: str) -> None:
    layout, _, _, made, _ = at(name)
    bias = torch.zeros(READINGS[name].bias)  # type: ignore[arg-type]
    assert fits(layout, bias)
    assert not fits(layout, torch.zeros(()))
    assert not fits(layout, torch.zeros(math.prod(bias.shape), 1, 2))
    channels = layout.channels(made.dim())
    assert (channels is None) == (layout.arrangement.groups > 1 and len(READINGS[name].weight) == 3 and made.dim() == 3
                                  and READINGS[name].made == "experts")  # fmt: skip


@pytest.mark.parametrize("name", READINGS)
def test_columns_belong_to_the_unit_whose_activation_they_hold(name: str) -> None:
    """Closing a unit changes its columns and no others."""
    layout, _, value, _, weight = at(name)
    network = dh.trace(reader(name), inputs(name, 5))
    groups = [group for group in network.groups if group.consumers[0].weight == "weight"]
    (consumer,), left = consumers_of(network, groups)
    assert not left
    assert len(groups) == (2 if name == "einsum over experts" else 1)
    whole = layout.columns(value)
    for group in groups:
        (site,) = group.consumers
        for unit in range(group.size):
            closed = value.movedim(site.axis, -1).clone()
            closed[..., site.units == unit] += 1.0
            moved = (layout.columns(closed.movedim(-1, site.axis)) != whole).any(1)
            dead = consumer.removed_columns(weight, {group.name: torch.tensor([unit])})
            assert torch.equal(moved, dead)


@pytest.mark.parametrize("name", [name for name in READINGS if name.startswith("transposed")])
def test_grids_of_a_transposed_convolution_meet_every_phase(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each grid reads a part of the rows, all taps among them, and taking turns, all grids read every row once."""
    monkeypatch.setattr("deadhead.graph.units.windows.WIDE", 1)
    monkeypatch.setattr("deadhead.graph.units.windows.COST", 0.01)
    layout, _, value, _, _ = at(name)
    rank = value.dim() - 2
    value = torch.randn(2, value.shape[1], *[13, 12, 11][:rank], dtype=torch.float64)
    whole = layout.columns(value)
    first = layout.columns(value, 0)
    assert first.shape[1] < whole.shape[1]
    seen: list[Tensor] = []
    turn = 0
    while sum(part.shape[1] for part in seen) < whole.shape[1]:
        part = layout.columns(value, turn)
        assert ((part != 0).any(1) == (whole != 0).any(1)).all()
        seen.append(part)
        turn += 1
    found = sorted(map(tuple, torch.cat(seen, 1)[0].tolist()))
    assert found == sorted(map(tuple, whole[0].tolist()))
