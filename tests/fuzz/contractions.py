"""Parts that contract: linear layers and convolutions as modules, and as functions of raw parameters."""

from __future__ import annotations

import random
from typing import Any

import torch
import torch.nn.functional as F
from parts import Part, State, columns_last, divisor, part, weight, width
from torch import Tensor, nn

CONVS: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED: tuple[Any, ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
FUNCTIONAL_CONVS: tuple[Any, ...] = (F.conv1d, F.conv2d, F.conv3d)


def keep_positions(state: State, out: int, dice: random.Random, groups: int = 1) -> nn.Module:
    """A linear layer or convolution to `out` channels at the same positions."""
    bias = dice.random() < 0.7
    if state.layout != "channels":
        return nn.Linear(state.channels, out, bias=bias)
    wide = min(state.space) >= 3 and dice.random() < 0.6
    dilation = 2 if wide and min(state.space) >= 5 and dice.random() < 0.3 else 1
    mode = dice.choice(("zeros", "zeros", "zeros", "reflect", "replicate", "circular")) if wide else "zeros"
    return CONVS[state.rank - 1](  # type: ignore[no-any-return]
        state.channels,
        out,
        3 if wide else 1,
        padding=dilation if wide else 0,
        dilation=dilation,
        groups=groups,
        bias=bias,
        padding_mode=mode,
    )


@part("linear", "contraction")
class Linear(Part):
    layouts = ("flat", "tokens")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.linear = nn.Linear(state.channels, width(dice), bias=dice.random() < 0.8)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)  # type: ignore[no-any-return]


@part("functional_linear", "contraction")
class FunctionalLinear(Part):
    """F.linear, `@`, einsum, addmm, and matrix products with a transposed or reshaped parameter."""

    layouts = ("flat", "tokens")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("linear", "at", "einsum", "einsum_dots", "matmul_t", "addmm", "tensordot", "masked"))
        out = width(dice)
        first = self.how in ("linear", "matmul_t", "masked")
        self.matrix = weight(out, state.channels) if first else weight(state.channels, out)
        self.bias = weight(out)
        if self.how == "masked":
            self.register_buffer("mask", (torch.arange(out * state.channels) % 3 != 0).reshape(out, -1))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "linear":
            return F.linear(x, self.matrix, self.bias)
        if self.how == "masked":
            return F.linear(x, self.matrix * self.mask, self.bias)
        if self.how == "einsum":
            return torch.einsum("bi,io->bo" if x.dim() == 2 else "bli,io->blo", x, self.matrix) + self.bias
        if self.how == "einsum_dots":
            return torch.einsum("...i,io->...o", x, self.matrix)
        if self.how == "matmul_t":
            return torch.matmul(x, self.matrix.t()) + self.bias
        if self.how == "addmm" and x.dim() == 2:
            return torch.addmm(self.bias, x, self.matrix)
        if self.how == "tensordot":
            return torch.tensordot(x, self.matrix, dims=1)
        return x @ self.matrix + self.bias


@part("conv", "contraction")
class Conv(Part):
    layouts = ("channels",)

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        kernel = tuple(dice.choice((1, 2, 3)) if size >= 3 else 1 for size in state.space)
        dilation = tuple(
            2 if size >= 2 * (k - 1) + 1 and dice.random() < 0.3 else 1
            for size, k in zip(state.space, kernel, strict=True)
        )
        self.conv = CONVS[state.rank - 1](
            state.channels,
            width(dice),
            kernel,
            stride=tuple(dice.choice((1, 1, 2)) for _ in kernel),
            padding=tuple(dice.choice((0, k // 2)) for k in kernel),
            dilation=dilation,
            bias=dice.random() < 0.7,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


@part("same_conv", "contraction")
class SameConv(Part):
    layouts = ("channels",)

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.conv = keep_positions(state, width(dice), dice)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


@part("grouped_conv", "contraction")
class GroupedConv(Part):
    layouts = ("channels",)

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        groups = divisor(state.channels, dice)
        self.conv = keep_positions(state, groups * dice.choice((1, 2, 3)), dice, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


@part("depthwise_conv", "contraction")
class DepthwiseConv(Part):
    """One input channel to a group, and perhaps a pointwise convolution behind it."""

    layouts = ("channels",)

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        wide = state.channels * dice.choice((1, 1, 2))
        self.depthwise = keep_positions(state, wide, dice, state.channels)
        self.pointwise = CONVS[state.rank - 1](wide, width(dice), 1) if dice.random() < 0.6 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))  # type: ignore[no-any-return]


@part("functional_conv", "contraction")
class FunctionalConv(Part):
    """F.convNd with raw parameters; grouped where the weight says so."""

    layouts = ("channels",)

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        out = width(dice)
        self.kernel = weight(out, state.channels, *[1] * state.rank)
        self.bias = weight(out)
        self.standardise = dice.random() < 0.3

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel
        if self.standardise:
            kernel = kernel - kernel.mean(dim=(1, *range(2, kernel.dim())), keepdim=True)
        return FUNCTIONAL_CONVS[x.dim() - 3](x, kernel, self.bias)  # type: ignore[no-any-return]


@part("conv_transpose", "contraction")
class ConvTranspose(Part):
    layouts = ("channels",)

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout == "channels" and max(state.space) <= 8

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        groups = dice.choice((1, 1, divisor(state.channels, dice), state.channels))
        out = groups * dice.choice((1, 2)) if groups > 1 else width(dice)
        stride = dice.choice((1, 2))
        self.conv = TRANSPOSED[state.rank - 1](
            state.channels,
            out,
            dice.choice((2, 3)),
            stride=stride,
            padding=dice.choice((0, 1)) if min(state.space) > 2 else 0,
            output_padding=stride - 1 if dice.random() < 0.4 else 0,
            groups=groups,
            bias=dice.random() < 0.7,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


@part("channels_last_linear", "contraction")
class ChannelsLastLinear(Part):
    """A linear layer over the channels, which are moved to the end and back."""

    layouts = ("channels",)

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.linear = nn.Linear(state.channels, width(dice))
        self.how = dice.choice(("movedim", "permute", "flatten"))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "flatten":
            y = self.linear(x.flatten(2).transpose(1, 2)).transpose(1, 2)
            return y.reshape(y.shape[0], y.shape[1], *x.shape[2:])
        if self.how == "permute":
            last = x.dim() - 1
            y = self.linear(x.permute(0, *range(2, last + 1), 1))
            return y.permute(0, last, *range(1, last)).contiguous()
        return self.linear(columns_last(x, "channels")).movedim(-1, 1)  # type: ignore[no-any-return]


@part("bilinear", "contraction")
class Bilinear(Part):
    layouts = ("flat", "tokens")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.left = nn.Linear(state.channels, width(dice))
        self.right = nn.Linear(state.channels, width(dice))
        self.bilinear = nn.Bilinear(self.left.out_features, self.right.out_features, width(dice))

    def forward(self, x: Tensor) -> Tensor:
        return self.bilinear(self.left(x).contiguous(), self.right(x).contiguous())  # type: ignore[no-any-return]
