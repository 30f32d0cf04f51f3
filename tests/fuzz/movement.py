"""Parts that move, pool or reshape: sizes are read from x.shape, written as -1, or literals that no cut can follow."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from parts import Part, State, divisor, part, weight
from torch import Tensor, nn


def _spatial(state: State, least: int = 2) -> bool:
    return state.layout == "channels" and min(state.space) >= least


@part("pool", "movement")
class Pool(Part):
    """Max, average, power-average and adaptive pooling."""

    @classmethod
    def fits(cls, state: State) -> bool:
        return _spatial(state)

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        hows = ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "lp_pool", "max_pool_padded")
        self.how = dice.choice(hows)
        self.rank = state.rank
        self.size = dice.choice((1, 2))

    def forward(self, x: Tensor) -> Tensor:
        name = f"{self.how.removesuffix('_padded')}{self.rank}d"
        if self.how.startswith("adaptive"):
            return getattr(F, name)(x, self.size)  # type: ignore[no-any-return]
        if self.how == "lp_pool":
            return getattr(F, name)(x.abs() + 0.1, 2, 2)  # type: ignore[no-any-return]
        if self.how == "max_pool_padded":
            return getattr(F, name)(x, 2, stride=1, padding=1, ceil_mode=True)  # type: ignore[no-any-return]
        return getattr(F, name)(x, 2)  # type: ignore[no-any-return]


@part("resize", "movement")
class Resize(Part):
    @classmethod
    def fits(cls, state: State) -> bool:
        return _spatial(state) and max(state.space) <= 6 and state.rank < 3

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        modes = ("nearest", "nearest-exact", "linear" if state.rank == 1 else "bilinear")
        self.mode = dice.choice(modes)
        self.by_size = dice.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        if self.by_size:
            return F.interpolate(x, size=[2 * size - 1 for size in x.shape[2:]], mode=self.mode)
        return F.interpolate(x, scale_factor=2, mode=self.mode)


@part("pad", "movement")
class Pad(Part):
    """Padding of positions, or of the channels themselves with zeros."""

    @classmethod
    def fits(cls, state: State) -> bool:
        return _spatial(state) and max(state.space) <= 9

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("constant", "value", "reflect", "replicate", "circular", "channels", "crop"))
        self.before, self.after = dice.choice(((1, 0), (1, 1), (0, 1)))

    def forward(self, x: Tensor) -> Tensor:
        rank = x.dim() - 2
        if self.how == "channels":
            return F.pad(x, [0, 0] * rank + [self.before, self.after])
        if self.how == "crop":
            return F.pad(x, [-1, 0] * rank)
        amounts = [self.before, self.after] * rank
        if self.how == "value":
            return F.pad(x, amounts, value=0.7)
        return F.pad(x, amounts, mode=self.how)


@part("positions", "movement")
class Positions(Part):
    """Flips, rolls, slices, sorts and scans over the positions."""

    layouts = ("tokens", "channels")

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout in cls.layouts and min(state.space) >= 2

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.axis = 1 if state.layout == "tokens" else dice.choice(range(2, len(state.shape) + 1))
        self.how = dice.choice(("flip", "roll", "slice", "step", "sort", "cummax", "narrow", "drop_last", "index"))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[self.axis]
        if self.how == "flip":
            return x.flip(self.axis)
        if self.how == "roll":
            return x.roll(1, self.axis)
        if self.how == "sort":
            return x.sort(self.axis).values
        if self.how == "cummax":
            return x.cummax(self.axis).values
        if self.how == "narrow":
            return x.narrow(self.axis, 1, size - 1)
        if self.how == "index":
            return x.index_select(self.axis, torch.arange(size - 1, -1, -1))
        index = {"slice": slice(1, None), "step": slice(None, None, 2), "drop_last": slice(None, -1)}[self.how]
        return x[(slice(None),) * self.axis + (index,)]


@part("mean", "movement")
class Mean(Part):
    """All positions reduced to one value for each channel."""

    layouts = ("tokens", "channels")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.layout = "flat"
        self.axes = (1,) if state.layout == "tokens" else tuple(range(2, len(state.shape) + 1))
        self.how = dice.choice(("mean", "sum", "amax", "logsumexp", "keepdim", "norm"))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "keepdim":
            y = x.mean(self.axes, keepdim=True)
            for axis in reversed(self.axes):
                y = y.squeeze(axis)
            return y
        if self.how == "norm":
            return torch.linalg.vector_norm(x, dim=self.axes)
        return getattr(x, self.how)(self.axes)  # type: ignore[no-any-return]


@part("flatten", "movement")
class Flatten(Part):
    """A sample in one axis: a channel becomes as many columns as it had positions."""

    layouts = ("tokens", "channels")

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout in cls.layouts and torch.Size(state.shape).numel() <= 400

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.layout = "flat"
        self.how = dice.choice(("flatten", "view", "reshape", "module", "product", "literal"))
        self.size = torch.Size(state.shape).numel()
        self.rigid = self.how == "literal"
        self.module = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "flatten":
            return x.flatten(1)
        if self.how == "view":
            return x.contiguous().view(x.size(0), -1)
        if self.how == "product":
            return x.reshape(x.shape[0], torch.Size(x.shape[1:]).numel())
        if self.how == "reshape":
            return x.reshape((len(x), -1))
        if self.how == "literal":
            return x.reshape(-1, self.size)
        return self.module(x)  # type: ignore[no-any-return]


@part("to_tokens", "movement")
class ToTokens(Part):
    layouts = ("channels",)

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.layout = "tokens"
        self.how = dice.choice(("flatten", "view", "literal", "einsum"))
        self.size = state.channels
        self.rigid = self.how == "literal"

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "view":
            return x.contiguous().view(x.shape[0], x.shape[1], -1).permute(0, 2, 1)
        if self.how == "literal":
            return x.reshape(x.shape[0], self.size, -1).permute(0, 2, 1)
        if self.how == "einsum":
            return torch.einsum("bcl->blc", x.flatten(2))
        return x.flatten(2).transpose(1, 2)


@part("to_channels", "movement")
class ToChannels(Part):
    layouts = ("tokens",)

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.layout = "channels"
        self.twice = dice.random() < 0.4

    def forward(self, x: Tensor) -> Tensor:
        y = x.transpose(1, 2)
        return y.unsqueeze(-1).contiguous() if self.twice else y.contiguous()


@part("flat_to_channels", "movement")
class FlatToChannels(Part):
    """Features as channels of one position, or as channels and positions: the class reads the positions."""

    layouts = ("flat",)

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.layout = "channels"
        self.how = dice.choice(("unsqueeze", "index", "expand", "split"))
        self.positions = dice.choice((2, 3)) if state.channels % 6 == 0 else 2
        if self.how == "split" and (state.channels % self.positions or state.channels < 8):
            self.how = "index"

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "unsqueeze":
            return x.unsqueeze(-1)
        if self.how == "index":
            return x[:, :, None, None]
        if self.how == "expand":
            return x.unsqueeze(2).expand(-1, -1, 3)
        return x.view(x.shape[0], -1, self.positions)


@part("heads", "movement")
class Heads(Part):
    """Channels as heads of a literal width with a scale for each: a head is a unit, unless units lie across heads."""

    layouts = ("flat", "tokens")
    rigid = True

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout in cls.layouts and state.channels % 4 == 0

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        heads = state.channels // 2
        self.size = 2
        self.gamma = weight(heads, 1)
        self.mixed = dice.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        y = x.reshape(*x.shape[:-1], -1, self.size) * self.gamma
        if self.mixed:
            y = y.softmax(-1) + y
        return y.flatten(-2)


@part("channel_shuffle", "movement")
class ChannelShuffle(Part):
    """ShuffleNet's permutation of channels: another one after most cuts."""

    layouts = ("channels",)
    rigid = True

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.groups = divisor(state.channels, dice)
        self.own = dice.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        if self.own:
            y = x.view(x.shape[0], self.groups, x.shape[1] // self.groups, *x.shape[2:])
            return y.transpose(1, 2).reshape(x.shape)
        return F.channel_shuffle(x.flatten(2).unsqueeze(-1), self.groups).reshape(x.shape)


@part("pixel_shuffle", "movement")
class PixelShuffle(Part):
    layouts = ("channels",)

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout == "channels" and state.rank == 2 and state.channels in (8, 12) and max(state.space) <= 6

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, 2)


@part("pixel_unshuffle", "movement")
class PixelUnshuffle(Part):
    layouts = ("channels",)

    @classmethod
    def fits(cls, state: State) -> bool:
        even = all(size % 2 == 0 for size in state.space)
        return state.layout == "channels" and state.rank == 2 and even and state.channels <= 6

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, 2)


@part("repeat", "movement")
class Repeat(Part):
    """Channels repeated: the whole tensor, each by itself, or a position axis expanded."""

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.channels <= 6

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.axis = state.axis
        self.how = dice.choice(("repeat", "interleave", "cat"))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "interleave":
            return x.repeat_interleave(2, dim=self.axis)
        if self.how == "cat":
            return torch.cat([x, -x], self.axis)
        times = [1] * x.dim()
        times[self.axis] = 2
        return x.repeat(*times)


@part("pick_channels", "movement")
class PickChannels(Part):
    """Some of the channels by literal or halved indices: which ones they are changes with a cut."""

    rigid = True

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.axis = state.axis
        self.how = dice.choice(("half", "literal", "step", "drop_first", "roll", "flip", "select", "index"))
        self.keep = max(1, state.channels - 2)

    def forward(self, x: Tensor) -> Tensor:
        lead = (slice(None),) * self.axis
        if self.how == "half":
            return x[(*lead, slice(None, x.shape[self.axis] // 2 + 1))]
        if self.how == "literal":
            return x[(*lead, slice(0, self.keep))]
        if self.how == "step":
            return x[(*lead, slice(None, None, 2))]
        if self.how == "drop_first":
            return x[(*lead, slice(1, None))]
        if self.how == "select":
            return x + x.select(self.axis, 0).unsqueeze(self.axis)
        if self.how == "index":
            return x.index_select(self.axis, torch.arange(self.keep))
        return x.roll(1, self.axis) if self.how == "roll" else x.flip(self.axis)


@part("unfold", "movement")
class Unfold(Part):
    """Patches as tokens: an op without a rule."""

    @classmethod
    def fits(cls, state: State) -> bool:
        return _spatial(state) and state.rank == 2 and state.channels <= 6 and max(state.space) <= 6

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.layout = "tokens"

    def forward(self, x: Tensor) -> Tensor:
        return F.unfold(x, 2).transpose(1, 2)
