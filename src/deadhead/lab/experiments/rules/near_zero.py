"""LRP where sums are nearly zero or exactly zero: the forms R and Q = R / a against each other."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deadhead.graph.network import Network
from deadhead.lab.experiments.rules.plain import layer_by_layer
from deadhead.relevance import attribute


def redraw(module: nn.Module) -> None:
    """Draw weights and biases anew, in place, as PyTorch does by default."""
    for each in module.modules():
        if isinstance(each, (nn.Linear, nn.Conv2d)):
            each.reset_parameters()


def scale_biases(module: nn.Module, factor: float) -> None:
    """Multiply every bias, in place."""
    for name, value in module.state_dict().items():
        if name.endswith("bias"):
            value.mul_(factor)


def near_zero(net: Network, samples: int, planted: int, sums: Sequence[float], blip: float) -> dict[str, Any]:
    """Errors in float32 of the forms R and Q where some sums of the first layer are nearly zero.

    Args:
        net: linear layers and ReLUs; its weights are drawn anew, without biases.
        samples: normal inputs, moved so that the planted sums are what they shall be.
        planted: units of the first layer whose sums are made small.
        sums: what they are made to be; the fourth is compared.
        blip: the stabiliser of a third curve.

    Returns:
        Median errors over samples against float64, relative to the largest relevance, and ratios of them.
    """
    redraw(net.module)
    scale_biases(net.module, 0.0)
    single = copy.deepcopy(net.module).float()
    net.module.load_state_dict(single.state_dict())
    weight = net.module.state_dict()["0.weight"][:planted]
    curves: dict[str, list[float]] = {"q_form": [], "r_form": [], "r_form_blip": []}
    for size in sums:
        x = torch.randn(samples, weight.shape[1], dtype=torch.float64)
        x = (x - (x @ weight.T - size) @ torch.linalg.pinv(weight).T).float()
        truth = attribute(net, x.double(), 0, "lrp").inputs
        _, q = layer_by_layer(single, x, 0, "Q")
        made = {"q_form": x * q[0]}
        for name, raised in (("r_form", 0.0), ("r_form_blip", blip)):
            made[name] = layer_by_layer(single, x, 0, "R", raised)[1][0]
        for name, each in made.items():
            apart = (each.double() - truth).abs().amax(1) / truth.abs().amax(1)
            curves[name].append(float(apart.nan_to_num(torch.inf).median()))
    at = min(3, len(sums) - 1)
    return {
        "near_zero": curves,
        "planted_sums": list(sums),
        "r_over_q_error": curves["r_form"][at] / curves["q_form"][at],
        "blip_over_q_error": curves["r_form_blip"][at] / curves["q_form"][at],
    }


def blank(net: Network, x: Tensor) -> dict[str, Any]:
    """Share of images with a blank corner for which each form gives numbers that are none.

    Args:
        net: a convolutional network; its biases are set to zero.
        x: images (samples, channels, height, width).
    """
    scale_biases(net.module, 0.0)
    x = x.clone()
    x[..., : x.shape[-2] // 2, : x.shape[-1] // 2] = 0
    _, r = layer_by_layer(net.module, x, 0, "R")
    own = attribute(net, x, 0, "lrp").inputs
    return {
        "blank_r_form_nan": float(r[0].isnan().flatten(1).any(1).double().mean()),
        "blank_q_form_nan": float(own.isnan().flatten(1).any(1).double().mean()),
    }
