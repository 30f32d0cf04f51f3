"""Digits on textures that go with the class, or with another class: the wolf on snow, and the wolf on grass."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deadhead.lab.data import load

SIDE, CLASSES = 28, 10
NOISE = 0.1
"""Standard deviation of the noise on textures."""


@dataclass(frozen=True)
class Marked:
    """Images with a marked region.

    Args:
        inputs: (samples, 1, 28, 28) in [0, 1].
        targets: (samples,), classes of the digits.
        region: (samples, 1, 28, 28), 1 on the digit and a pixel around it.
        textures: (samples,), classes whose texture is behind.
    """

    inputs: Tensor
    targets: Tensor
    region: Tensor
    textures: Tensor


@dataclass(frozen=True)
class Data:
    """Training images, and unseen ones on the texture of their class and on that of another one."""

    train: Marked
    linked: Marked
    swapped: Marked


def marked(name: str, images: int, unseen: int, contrast: float, seed: int) -> Data:
    """Digits on textures.

    Args:
        name: of a data set of digits, enlarged to 28x28 where it is smaller.
        images: to train on.
        unseen: to measure on, twice.
        contrast: brightness of the textures.
        seed: of the choice of images, and of textures.
    """
    split, draw = load(name), torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(split.train_inputs), generator=draw)[:images]
    others = torch.randperm(len(split.test_inputs), generator=draw)[:unseen]
    digits, classes = _enlarged(split.train_inputs[rows]), split.train_targets[rows]
    held, truth = _enlarged(split.test_inputs[others]), split.test_targets[others]
    moved = (truth + torch.randint(1, CLASSES, (len(truth),), generator=draw)) % CLASSES
    return Data(
        on(digits, classes, texture(classes, contrast, draw), classes),
        on(held, truth, texture(truth, contrast, draw), truth),
        on(held, truth, texture(moved, contrast, draw), moved),
    )


def on(digits: Tensor, targets: Tensor, behind: Tensor, textures: Tensor) -> Marked:
    """Digits on textures.

    Args:
        digits: (samples, 1, 28, 28) in [0, 1].
        targets: their classes.
        behind: textures, in the shape of the digits.
        textures: (samples,), their classes.
    """
    region = functional.max_pool2d((digits > 0.2).float(), 3, stride=1, padding=1)
    return Marked(digits + (1 - digits) * behind, targets, region, textures)


def texture(classes: Tensor, contrast: float, draw: torch.Generator) -> Tensor:
    """Gratings of five directions and two wavelengths (4 and 7 pixels), of random phase, with noise.

    Args:
        classes: (samples,), 0 to 9.
        contrast: brightness.
        draw: of phases and noise.

    Returns:
        (samples, 1, 28, 28) in [0, contrast].
    """
    at = torch.arange(SIDE, dtype=torch.float32)
    angle = classes % 5 * (math.pi / 5)
    wavelength = torch.where(classes < 5, 4.0, 7.0)
    along = at[None, None, :] * angle.cos()[:, None, None] + at[None, :, None] * angle.sin()[:, None, None]
    phase = 2 * math.pi * torch.rand(len(classes), 1, 1, generator=draw)
    wave = 0.5 + 0.5 * torch.sin(2 * math.pi * along / wavelength[:, None, None] + phase)
    noisy = wave + NOISE * torch.randn(wave.shape, generator=draw)
    return contrast * noisy.clamp(0, 1).unsqueeze(1)


def _enlarged(images: Tensor) -> Tensor:
    if images.shape[-1] == SIDE:
        return images
    return functional.interpolate(images, size=(SIDE, SIDE), mode="bilinear")
