"""The columns that a consumer reads are those that torch's own convolution reads."""

from __future__ import annotations

import math

import pytest
import torch

import deadhead as dh
from deadhead.graph.units.groups import Site
from deadhead.graph.units.matrices import Layout, layout_of
from deadhead.graph.units.windows import steps_of
from support.networks import classes, conv_pair
from support.references import inputs_of, unfolded


def columns(site: Site, value: torch.Tensor, shape: torch.Size, turn: int | None = None) -> torch.Tensor:
    layout = layout_of(site, shape)
    assert isinstance(layout, Layout)
    return layout.columns(value, turn)


SETTINGS = [
    {}, {"padding": 1}, {"stride": 2}, {"stride": 2, "padding": 2}, {"dilation": 2, "padding": 2}, {"groups": 2},
    {"groups": 3, "padding": 1, "stride": 2}, {"kernel": 1}, {"padding": "same"}, {"padding": "same", "kernel": 2},
    {"padding": "valid"}, {"padding": "same", "dilation": 2}, {"rank": 1, "padding": 1, "groups": 2},
    {"rank": 3, "kernel": 2, "padding": 1},
]  # fmt: skip


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_columns_are_what_the_convolution_reads(options: dict[str, object]) -> None:
    model = conv_pair(**options)  # type: ignore[arg-type]
    rank = int(options.get("rank", 2))  # type: ignore[call-overload]
    data = classes(3, 2, *[6, 5, 4][:rank])
    network = dh.trace(model, data[0][0])
    site = network.groups[0].consumers[0]
    (value,) = inputs_of(model, "2", data)
    found = columns(site, value, model[2].weight.shape)
    expected = unfolded(model[2], value)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    flat = model[2].weight.reshape(len(expected), -1, expected.shape[-1])
    made = torch.einsum("grc,goc->rgo", expected, flat).flatten(1) + model[2].bias
    torch.testing.assert_close(made, model[2](value).movedim(1, -1).flatten(0, -2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"padding": 1, "stride": 2}, {"dilation": 2, "groups": 2}], ids=str)
def test_grids_of_positions_take_turns_until_every_position_was_read(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deadhead.graph.units.windows.WIDE", 4)
    model = conv_pair(**options)  # type: ignore[arg-type]
    data = classes(3, 2, 12, 11)
    site = dh.trace(model, data[0][0]).groups[0].consumers[0]
    (value,) = inputs_of(model, "2", data)
    shape = model[2].weight.shape
    steps = steps_of(6 // model[2].groups, shape[1:].numel(), value.shape[2:])
    assert min(steps) > 1
    whole = unfolded(model[2], value)
    turns = [columns(site, value, shape, turn) for turn in range(math.prod(steps))]
    assert all(each.shape[1] < whole.shape[1] for each in turns)

    def in_order(rows: torch.Tensor) -> list[list[float]]:
        return sorted(rows.flatten(0, -2).tolist())

    for group in range(len(whole)):
        seen = torch.cat([each[group] for each in turns])
        assert in_order(seen) == in_order(whole[group])


def test_narrow_consumers_are_read_in_full() -> None:
    model = conv_pair()
    data = classes(3, 2, 6, 5)
    site = dh.trace(model, data[0][0]).groups[0].consumers[0]
    (value,) = inputs_of(model, "2", data)
    found = columns(site, value, model[2].weight.shape, turn=3)
    assert torch.equal(found, unfolded(model[2], value))
