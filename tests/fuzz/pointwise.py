"""Parts that leave every channel where it is: activations, norms, dropout, scaling."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from parts import PARTS, Part, State, columns_last, divisor, part, weight
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "rrelu": F.rrelu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "logsigmoid": F.logsigmoid,
    "hardshrink": lambda x: F.hardshrink(x, 0.2),
    "tanhshrink": F.tanhshrink,
    "softshrink": lambda x: F.softshrink(x, 0.2),
    "softsign": F.softsign,
    "softplus": F.softplus,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,
    "threshold": lambda x: F.threshold(x, 0.1, 0.3),
    "exp": lambda x: torch.exp(-x.abs()),
    "square": torch.square,
    "clamp": lambda x: x.clamp(-1, 1),
    "where": lambda x: torch.where(x > 0, x, 0.3 * x.sin()),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.25),
    "maximum": lambda x: torch.maximum(x, 0.5 * x + 0.1),
    "nested": lambda x: torch.log1p(x.abs()) * torch.sign(x) + x.erf(),
}
IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu_": lambda x: torch.relu_(x * 1.5),
    "elu_": lambda x: F.elu_(x + 0.1),
    "leaky_relu_": lambda x: F.leaky_relu(x + 0.1, inplace=True),
    "add_": lambda x: x.clone().add_(x).sub_(0.3),
    "view_relu_": lambda x: _through_view((x * 1.0).contiguous()),
    "slice_assign_": lambda x: _through_slice(x * 1.0),
}


def _through_view(x: Tensor) -> Tensor:
    flat = x.view(x.shape[0], -1)
    flat.relu_()
    flat += 0.2
    return x


def _through_slice(x: Tensor) -> Tensor:
    first = x.select(x.dim() - 1, 0) if x.dim() > 2 else x[:, :]
    first.mul_(0.5)
    return x


def _activation(name: str, function: Callable[[Tensor], Tensor]) -> None:
    def forward(self: Part, x: Tensor) -> Tensor:
        return function(x)

    PARTS[name] = type(name, (Part,), {"forward": forward, "kind": "activation"})


for _name, _function in {**ACTIVATIONS, **IN_PLACE}.items():
    _activation(_name, _function)


@part("prelu", "activation")
class PReLU(Part):
    """A slope for each channel, or one for all; over tokens the second axis is that of the positions."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.prelu = nn.PReLU(dice.choice((1, state.shape[0])))

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(x)  # type: ignore[no-any-return]


@part("glu", "activation")
class GLU(Part):
    """F.glu over the channels, or written out with chunk: units go in pairs, so the class follows."""

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.channels % 2 == 0 and state.channels >= 8

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.axis = state.axis
        self.how = dice.choice(("glu", "chunk", "split"))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "glu":
            return F.glu(x, self.axis)
        if self.how == "chunk":
            value, gate = x.chunk(2, dim=self.axis)
        else:
            value, gate = x.split(x.shape[self.axis] // 2, dim=self.axis)
        return F.silu(value) * gate


@part("softmax", "activation")
class Softmax(Part):
    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.axis = dice.choice(range(1, len(state.shape) + 1))
        self.how = dice.choice(("softmax", "softmin", "log_softmax", "cumsum", "normalize"))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "cumsum":
            return x.cumsum(self.axis)
        if self.how == "normalize":
            return F.normalize(x, dim=self.axis)
        return getattr(F, self.how)(x, dim=self.axis)  # type: ignore[no-any-return]


@part("batch_norm", "norm")
class BatchNorm(Part):
    layouts = ("flat", "channels")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        kinds: tuple[Any, ...] = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        self.norm = kinds[state.rank](state.channels, affine=dice.random() < 0.8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)  # type: ignore[no-any-return]


@part("layer_norm", "norm")
class LayerNorm(Part):
    """Layer or RMS norm over the channels, moved to the end, or over all of a sample."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("layer", "rms", "whole", "positions"))
        if self.how == "whole":
            self.norm: nn.Module = nn.LayerNorm(state.shape)
        elif self.how == "positions" and state.layout == "channels" and state.shape[-1] > 1:
            self.norm = nn.LayerNorm(state.shape[-1])
        else:
            self.how = "rms" if self.how == "rms" else "layer"
            self.norm = (nn.RMSNorm if self.how == "rms" else nn.LayerNorm)(state.channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.how in ("whole", "positions") or self.layout != "channels":
            return self.norm(x)  # type: ignore[no-any-return]
        return self.norm(columns_last(x, self.layout)).movedim(-1, 1)  # type: ignore[no-any-return]


@part("group_norm", "norm")
class GroupNorm(Part):
    layouts = ("flat", "channels")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        groups = divisor(state.channels, dice)
        if groups == state.channels and state.rank == 0:
            groups = 1
        self.norm = nn.GroupNorm(groups, state.channels, affine=dice.random() < 0.9)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)  # type: ignore[no-any-return]


@part("instance_norm", "norm")
class InstanceNorm(Part):
    layouts = ("channels",)

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.layout == "channels" and torch.Size(state.space).numel() > 1

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        kinds: tuple[Any, ...] = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
        affine, running = dice.random() < 0.7, dice.random() < 0.5
        self.norm = kinds[state.rank - 1](state.channels, affine=affine, track_running_stats=running)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)  # type: ignore[no-any-return]


@part("response_norm", "norm")
class ResponseNorm(Part):
    layouts = ("channels",)

    def forward(self, x: Tensor) -> Tensor:
        return F.local_response_norm(x, 3, alpha=0.5)


@part("dropout", "norm")
class Dropout(Part):
    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        whole = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)[state.rank - 1] if state.layout == "channels" else nn.Dropout
        kinds: tuple[Any, ...] = (nn.Dropout, nn.AlphaDropout, whole)
        self.dropout = dice.choice(kinds)(0.3)
        self.functional = dice.random() < 0.4

    def forward(self, x: Tensor) -> Tensor:
        if self.functional:
            return F.dropout(x, 0.2, training=self.training)
        return self.dropout(x)  # type: ignore[no-any-return]


@part("scale", "norm")
class Scale(Part):
    """A parameter or buffer for each channel: times, plus, subtracted, indexed into shape, or in place."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("times", "plus", "buffer", "index", "in_place", "lerp", "affine"))
        shape = (state.channels,) if self.how == "index" else state.like_channels()
        self.gamma = weight(*shape)
        self.beta = weight(*shape)
        self.register_buffer("gamma_buffer", torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "times":
            return x * self.gamma
        if self.how == "plus":
            return x - self.beta
        if self.how == "buffer":
            return x * self.gamma_buffer + self.beta  # type: ignore[operator]
        if self.how == "lerp":
            return torch.lerp(self.beta.expand_as(x), x, 0.7)
        if self.how == "affine":
            return torch.addcmul(self.beta, x, self.gamma)
        if self.how == "in_place":
            y = x.clone()
            y *= self.gamma
            y += self.beta
            return y
        if self.layout == "channels":
            return x * self.gamma[(None, slice(None), *[None] * (x.dim() - 2))]
        return x * self.gamma[None, :]
