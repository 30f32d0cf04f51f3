"""The experiment `goodhart`: its data, its measures, and that a relevance loss moves what it measures."""

from __future__ import annotations

import math

import pytest
import torch

from deadhead.lab.experiments.goodhart.data import marked, on, texture
from deadhead.lab.experiments.goodhart.experiment import _pointing, margin
from support.lab import drawn_all, quick


def test_textures_are_gratings_that_differ_by_class() -> None:
    draw = torch.Generator().manual_seed(0)
    found = texture(torch.arange(10).repeat_interleave(20), 0.6, draw)
    assert (found.min() >= 0, found.max() <= 0.6) == (True, True)
    spectra = torch.fft.rfft2(found[:, 0] - found.mean((1, 2, 3))[:, None, None]).abs().flatten(1)
    means = spectra.unflatten(0, (10, 20)).mean(1)  # of a class, whatever the phase
    nearest = torch.cdist(spectra, means).argmin(1)
    assert (nearest == torch.arange(10).repeat_interleave(20)).float().mean() > 0.95


def test_the_region_is_the_digit_and_a_pixel_around_it() -> None:
    digit = torch.zeros(1, 1, 28, 28)
    digit[0, 0, 10, 10:13] = 1.0
    found = on(digit, torch.tensor([3]), torch.full((1, 1, 28, 28), 0.25), torch.tensor([7]))
    assert found.inputs[0, 0, 0, 0] == 0.25
    assert found.region[0, 0, 9:12, 9:14].sum() == found.region.sum() == 15
    assert (found.inputs[0, 0, 10, 10:13] == 1).all()
    assert (found.targets.item(), found.textures.item()) == (3, 7)


def test_textures_go_with_the_class_in_training_and_never_when_swapped() -> None:
    data = marked("digits", 100, 50, 0.6, seed=0)
    assert (data.train.textures == data.train.targets).all()
    assert (data.linked.textures == data.linked.targets).all()
    assert (data.swapped.textures != data.swapped.targets).all()
    torch.testing.assert_close(data.linked.region, data.swapped.region)


def test_margin_is_the_log_odds_of_the_class() -> None:
    logits = torch.tensor([[2.0, 0.5, -1.0], [0.0, 0.0, 0.0]])
    found = margin(logits, torch.tensor([0, 2]))
    p = math.exp(2) / (math.exp(2) + math.exp(0.5) + math.exp(-1))
    torch.testing.assert_close(found, torch.tensor([math.log(p / (1 - p)), -math.log(2)]))


def test_pointing_asks_where_the_largest_relevance_lies() -> None:
    relevance = torch.zeros(2, 1, 2, 2)
    relevance[0, 0, 0, 1], relevance[1, 0, 1, 1], relevance[1, 0, 0, 0] = 1.0, 0.5, -2.0
    region = torch.tensor([[[[0, 1], [0, 0]]], [[[1, 0], [0, 0]]]])
    assert _pointing(relevance, region) == 0.5


def test_the_relevance_loss_moves_relevance_inside() -> None:
    found = quick("goodhart")
    assert found["inside_training"]["blame_bias"] > found["inside_training"]["none"]
    assert found["relevance_inside"] == pytest.approx(found["inside_training"]["blame_bias"])
    assert found["gains"]["none"] == 0


def test_every_figure_is_drawn() -> None:
    drawn_all("goodhart")
