"""Weights of unit gain, and statistics of what reaches batch norms."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from zoo.huggingface.entry import (
    ENTRIES,
    hf,
)

_ALONE = (".A_log", ".D", ".dt_bias", ".logit_scale", ".dt_proj.bias")
"""Parameters that stand for logarithms or rates: they stay as their module drew them."""
_SCALES = ("layer_scale", "lambda", "layerscale")
_ADDED = ("token", "position", "embed")


def unit_gain(model: nn.Module, seed: int = 0) -> nn.Module:
    """`model` with weights drawn anew so that signals neither vanish nor explode.

    Weights are normal with variance 1 / fan_in, embeddings standard normal, biases small, the weights of norms about
    what they were (1, or 0 where forward adds 1 to them), statistics of batch norms as after some training. Tied
    parameters are drawn once, parametrized ones through their originals. Buffers of whole numbers, frequencies of
    rotary positions, and what parametrizes a state space's rates stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)

    seen: set[int] = set()
    with torch.no_grad():
        for path, module in model.named_modules():
            if isinstance(module, parametrize.ParametrizationList):
                seen.update(id(original) for original in module.parameters())
            for name, weight in _parametrized(module):
                setattr(module, name, _draw(module, name, weight, normal(weight)))
                for scale in _scales_of(module, name):
                    scale.mul_(1 + 0.2 * normal(scale))
            for name, parameter in module.named_parameters(recurse=False):
                if id(parameter) not in seen and not f".{path}.{name}".endswith(_ALONE):
                    parameter.copy_(_draw(module, name, parameter, normal(parameter)))
                seen.add(id(parameter))
            for name, buffer in module.named_buffers(recurse=False):
                if name == "running_mean":
                    buffer.copy_(0.1 * normal(buffer))
                elif name == "running_var":
                    buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return model


def settle(model: nn.Module, inputs: dict[str, Tensor], seed: int = 0) -> nn.Module:
    """`model` with statistics of its batch norms near those of `inputs`: without, deep networks forget their input."""
    generator = torch.Generator().manual_seed(seed)

    def measure(norm: _BatchNorm, args: tuple[Tensor, ...]) -> None:
        var, mean = torch.var_mean(args[0].transpose(0, 1).flatten(1), 1)
        noise, spread = torch.randn(mean.shape, generator=generator), torch.rand(mean.shape, generator=generator)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(mean + 0.1 * var.sqrt() * noise)
        norm.running_var.copy_(var * (0.5 + spread) + 1e-3)

    hooks = [each.register_forward_pre_hook(measure) for each in model.modules() if isinstance(each, _BatchNorm)]
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return model.train().eval()  # drops what modules keep between calls in evaluation mode (LeViT's biases)


def _parametrized(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a module that are computed from others."""
    if parametrize.is_parametrized(module):
        for name in module.parametrizations:  # type: ignore[union-attr]
            yield name, getattr(module, name)


def _scales_of(module: nn.Module, name: str) -> list[Tensor]:
    """The originals behind a parametrized tensor, but for the one that has its shape: the scales of a weight norm."""
    shape = getattr(module, name).shape
    return [each for each in module.parametrizations[name].parameters() if each.shape != shape]  # type: ignore[index]


def _draw(module: nn.Module, name: str, now: Tensor, drawn: Tensor) -> Tensor:
    """The new value of a parameter, from standard normal numbers of its shape."""
    if any(each in name for each in _SCALES):
        return 1 + 0.2 * drawn
    if isinstance(module, nn.Embedding):
        return drawn
    if now.numel() == max(now.shape, default=1) and not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        if name == "weight":
            return now.mean().round() + 0.2 * drawn  # a norm's: 1, or 0 where forward adds the 1
        return drawn if any(each in name for each in _ADDED) else 0.1 * drawn
    if now.dim() < 2:
        return 0.1 * drawn
    if isinstance(module, nn.Embedding) or (name != "weight" and any(each in name for each in _ADDED)):
        return drawn
    return drawn / _fan_in(module, now) ** 0.5


def _fan_in(module: nn.Module, weight: Tensor) -> int:
    """How many products each output of a weight sums up."""
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return weight[:, 0].numel() // module.groups
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return weight[0].numel()
    if isinstance(module, hf.pytorch_utils.Conv1D):
        return weight.shape[0]
    return weight.shape[-1]


def built(name: str, seed: int = 0) -> nn.Module:
    """The model of that name with weights of unit gain and batch norms that know what reaches them."""
    model = unit_gain(ENTRIES[name].build(), seed)
    return settle(model, ENTRIES[name].inputs(8), seed)
