"""What a random architecture is made of: a part takes a tensor in one layout and gives one, and knows where it fits."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

LAYOUTS = ("flat", "tokens", "channels")


@dataclass(frozen=True)
class State:
    """The shape of one sample and what it means: `flat` (features,), `tokens` (positions, features) or `channels`
    (channels, one to three axes of positions)."""

    layout: str
    shape: tuple[int, ...]

    @property
    def axis(self) -> int:
        """The axis of the channels, the batch axis counted."""
        return 2 if self.layout == "tokens" else 1

    @property
    def channels(self) -> int:
        return self.shape[self.axis - 1]

    @property
    def space(self) -> tuple[int, ...]:
        return self.shape[:1] if self.layout == "tokens" else self.shape[1:]

    @property
    def rank(self) -> int:
        return len(self.space)

    def wide(self, channels: int) -> State:
        """The same with another number of channels."""
        shape = list(self.shape)
        shape[self.axis - 1] = channels
        return replace(self, shape=tuple(shape))

    def like_channels(self) -> tuple[int, ...]:
        """The shape of a parameter that broadcasts along the channels."""
        return (self.channels,) if self.layout != "channels" else (self.channels, *[1] * self.rank)


class Part(nn.Module):
    """One step of an architecture, made for a state by a roll of the dice.

    `kind` is what the generator draws by; `rigid` says that the class cannot follow every cut of what it reads.
    """

    kind: ClassVar[str] = ""
    layouts: ClassVar[tuple[str, ...]] = LAYOUTS
    rigid: bool = False

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__()
        self.layout = state.layout

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout in cls.layouts

    def extra_repr(self) -> str:
        shown = {
            key: value
            for key, value in vars(self).items()
            if isinstance(value, (int, str, tuple, float)) and key not in ("training", "layout") and key[0] != "_"
        }
        return ", ".join(f"{key}={value!r}" for key, value in shown.items())


PARTS: dict[str, type[Part]] = {}


def part(name: str, kind: str) -> Callable[[type[Part]], type[Part]]:
    """Register a part under the name that specifications and `--without` use."""

    def register(cls: type[Part]) -> type[Part]:
        cls.kind = kind
        PARTS[name] = cls
        return cls

    return register


def weight(*shape: int) -> nn.Parameter:
    """A parameter whose values `randomise` will draw."""
    return nn.Parameter(torch.zeros(shape))


def width(dice: random.Random) -> int:
    """A number of channels; the same ones come up often, so that axes of equal size meet."""
    return dice.choice((4, 4, 6, 6, 8, 8, 10, 12))


def divisor(number: int, dice: random.Random) -> int:
    """A divisor of `number` above one, itself where it is prime."""
    return dice.choice([each for each in range(2, number + 1) if number % each == 0] or [1])


def columns_last(x: Tensor, layout: str) -> Tensor:
    """Channels moved behind the positions."""
    return x.movedim(1, -1) if layout == "channels" else x


def randomise(module: nn.Module, seed: int) -> None:
    """Weights of unit gain, random norm weights, biases and running statistics, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator, dtype=torch.float64)

    module.double()
    with torch.no_grad():
        for owner in module.modules():
            table = [*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)]
            for name, tensor in table:
                if not tensor.is_floating_point() or name.endswith("mask"):
                    continue
                if "var" in name:
                    tensor.copy_(uniform(tensor, 0.5, 2))
                elif "gamma" in name or (tensor.dim() < 2 and name == "weight") or "original0" in name:
                    tensor.copy_(uniform(tensor, 0.5, 1.5) if not isinstance(owner, nn.PReLU) else normal(tensor) / 2)
                elif tensor.dim() < 2:
                    tensor.copy_(0.3 * normal(tensor))
                elif "matrix" in name:
                    tensor.copy_(normal(tensor) / tensor.shape[0] ** 0.5)
                else:
                    tensor.copy_(normal(tensor) / (tensor.numel() / tensor.shape[0]) ** 0.5)
