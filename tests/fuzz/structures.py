"""Parts with several paths or several uses: residuals, concatenations, splits, gates, shared and tied weights."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from contractions import keep_positions
from parts import PARTS, Part, State, divisor, part, weight, width
from torch import Tensor, nn

QUIET = ("relu", "gelu", "silu", "tanh", "softplus", "batch_norm", "scale", "prelu", "group_norm", "dropout", "elu")


def quiet(state: State, dice: random.Random) -> nn.Module:
    """A part that changes neither shape nor which channel is which."""
    fitting = [name for name in QUIET if PARTS[name].fits(state)]
    return PARTS[dice.choice(fitting)](state, dice)


def branch(state: State, out: int, dice: random.Random) -> nn.Sequential:
    """Two contractions with something between, to `out` channels at the same positions."""
    if dice.random() < 0.3:
        return nn.Sequential(keep_positions(state, out, dice), quiet(state.wide(out), dice))
    hidden = state.wide(width(dice))
    first = keep_positions(state, hidden.channels, dice)
    return nn.Sequential(first, quiet(hidden, dice), keep_positions(hidden, out, dice))


@part("residual", "structure")
class Residual(Part):
    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("add", "in_place", "projected", "sum_of_three", "sub"))
        self.branch = branch(state, state.channels, dice)
        self.other = keep_positions(state, state.channels, dice)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.branch(x)
        if self.how == "in_place":
            y = y + 0.1
            y += x
            return y.relu_()
        if self.how == "projected":
            return F.relu(y + self.other(x))
        if self.how == "sum_of_three":
            return torch.stack([x, y, self.other(x)]).sum(0)
        return x - y if self.how == "sub" else x + y


@part("concat", "structure")
class Concat(Part):
    """Branches behind each other along the channels: DenseNet's, Inception's, or nested and read again."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.axis = state.axis
        self.how = dice.choice(("dense", "inception", "nested", "same_twice"))
        self.left = branch(state, dice.choice((2, 3, 4)), dice)
        self.right = branch(state, dice.choice((2, 4)), dice)

    def forward(self, x: Tensor) -> Tensor:
        a = self.left(x)
        if self.how == "dense":
            return torch.cat([x, a], self.axis)
        b = self.right(x)
        if self.how == "inception":
            return torch.cat((a, b), dim=self.axis)
        if self.how == "same_twice":
            return torch.cat([a, torch.sigmoid(a), b], self.axis - x.dim())
        return torch.cat([torch.cat([a, b], self.axis).relu(), b], self.axis)


@part("two_heads_of_chunk", "structure")
class TwoHeadsOfChunk(Part):
    """A projection split in two equal parts that meet again: what goes from one goes from the other."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.axis = state.axis
        half = width(dice)
        self.how = dice.choice(("chunk", "tensor_split", "unbind", "slices"))
        self.inner = keep_positions(state, 2 * half, dice)
        self.middle = state.like_channels()[1:]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        size = y.shape[self.axis]
        if self.how == "chunk":
            a, b = y.chunk(2, self.axis)
        elif self.how == "tensor_split":
            a, b = y.tensor_split(2, self.axis)
        elif self.how == "unbind":
            a, b = y.unflatten(self.axis, (2, size // 2)).unbind(self.axis)
        else:
            a, b = y.narrow(self.axis, 0, size // 2), y.narrow(self.axis, size // 2, size - size // 2)
        return torch.tanh(a) * b + a


@part("split_apart", "structure")
class SplitApart(Part):
    """The channels split, each part on a path of its own: the class cuts at another place when one part shrinks."""

    rigid = True

    @classmethod
    def fits(cls, state: State) -> bool:
        return state.channels % 2 == 0 and state.channels >= 4

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.axis = state.axis
        self.how = dice.choice(("chunk", "literal", "half", "in_place"))
        self.sizes = (state.channels // 2 - 1, state.channels // 2 + 1)
        first = self.sizes[0] if self.how == "literal" else state.channels // 2
        self.left = branch(state.wide(first), width(dice), dice)
        self.joined = dice.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "in_place":
            y = x.clone()
            half = y.shape[self.axis] // 2
            y.narrow(self.axis, 0, half).relu_()
            last = y[(*[slice(None)] * self.axis, slice(half, None))]
            last += 0.5
            return y
        if self.how == "literal":
            a, b = x.split(self.sizes, self.axis)
        elif self.how == "half":
            a, b = x.split(x.shape[self.axis] // 2, self.axis)
        else:
            a, b = torch.chunk(x, 2, dim=self.axis)
        if not self.joined:
            return torch.cat([self.left(a), b], self.axis)
        return torch.cat([torch.relu(a), torch.tanh(b)], self.axis)


@part("squeeze_excite", "structure")
class SqueezeExcite(Part):
    layouts = ("channels",)

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("linear", "conv", "view", "literal", "index"))
        self.size = state.channels
        self.rigid = self.how == "literal"
        inner = width(dice)
        self.down = nn.Linear(state.channels, inner)
        self.up = nn.Linear(inner, state.channels)
        self.rank = state.rank
        if self.how == "conv":
            kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[state.rank - 1]
            self.down, self.up = kind(state.channels, inner, 1), kind(inner, state.channels, 1)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        axes = tuple(range(2, x.dim()))
        if self.how == "conv":
            return x * torch.sigmoid(self.up(F.relu(self.down(x.mean(axes, keepdim=True)))))
        s = torch.sigmoid(self.up(F.silu(self.down(x.mean(axes)))))
        if self.how == "view":
            b, c = x.shape[:2]
            return x * s.view(b, c, *[1] * self.rank)
        if self.how == "literal":
            return x * s.view(-1, self.size, *[1] * self.rank)
        if self.how == "index":
            return x * s[(slice(None), slice(None), *[None] * self.rank)].expand_as(x)
        return x * s.reshape(*s.shape, *[1] * self.rank)


@part("spatial_gate", "structure")
class SpatialGate(Part):
    """A map computed from all channels, times each of them."""

    layouts = ("tokens", "channels")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.axis = state.axis
        self.how = dice.choice(("mean", "conv", "softmax"))
        self.inner = keep_positions(state, 1, dice)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "mean":
            return x * torch.sigmoid(x.mean(self.axis, keepdim=True))
        gate = self.inner(x)
        if self.how == "softmax":
            return x * gate.flatten(1).softmax(1).view_as(gate) * 4
        return x * torch.sigmoid(gate)


@part("selective", "structure")
class Selective(Part):
    """Branches summed with weights that a softmax over the branches gives for each channel."""

    layouts = ("channels",)

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.left = keep_positions(state, state.channels, dice)
        self.right = keep_positions(state, state.channels, dice)
        inner = width(dice)
        self.down = nn.Linear(state.channels, inner)
        self.ups = nn.ModuleList([nn.Linear(inner, state.channels) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        paths = torch.stack([self.left(x), self.right(x)], 1)
        inner = F.relu(self.down(paths.sum(1).flatten(2).mean(-1)))
        weights = torch.stack([up(inner) for up in self.ups], 1).softmax(1)
        return (paths * weights.reshape(*weights.shape, *[1] * (x.dim() - 2))).sum(1)


@part("twice", "structure")
class Twice(Part):
    """One module used twice, in a row or on both of two paths."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("row", "paths", "norm"))
        out = width(dice)
        self.enter = keep_positions(state, out, dice)
        self.shared = keep_positions(state.wide(out), out, dice)
        self.quiet = quiet(state.wide(out), dice)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        if self.how == "row":
            return self.shared(self.quiet(self.shared(y)))  # type: ignore[no-any-return]
        if self.how == "norm":
            return self.quiet(self.shared(self.quiet(y)))  # type: ignore[no-any-return]
        return self.shared(torch.tanh(y)) + self.shared(torch.sigmoid(y))  # type: ignore[no-any-return]


@part("tied", "structure")
class Tied(Part):
    """The same Parameter in two modules, or used forwards and transposed."""

    layouts = ("flat", "tokens")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.how = dice.choice(("paths", "row", "autoencoder", "functional", "biases"))
        out = width(dice)
        self.enter = nn.Linear(state.channels, out)
        self.first = nn.Linear(out, out)
        self.second = nn.Linear(out, out)
        if self.how == "biases":
            self.second.bias = self.first.bias
        else:
            self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        if self.how == "autoencoder":
            return F.linear(torch.tanh(y), self.enter.weight.t())
        if self.how == "functional":
            return torch.relu(y @ self.enter.weight) @ self.enter.weight.T
        if self.how == "paths":
            return self.first(torch.relu(y)) + self.second(y)  # type: ignore[no-any-return]
        return self.second(torch.relu(self.first(y)))  # type: ignore[no-any-return]


@part("outer_product", "structure")
class OuterProduct(Part):
    """Products of activations with activations: an outer product, a Gram matrix, scores over positions."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        self.axis = state.axis
        self.how = "outer" if state.layout == "flat" else dice.choice(("gram", "scores"))
        self.left = keep_positions(state, 4, dice)
        self.right = keep_positions(state, dice.choice((3, 4)), dice)
        self.query = keep_positions(state, 4, dice)
        if self.how != "scores":
            self.layout = "flat"

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.left(x), self.right(x)
        if self.how == "outer":
            return torch.einsum("bi,bj->bij", a, b).flatten(1)
        if self.axis == 1:
            a, b = a.flatten(2).transpose(1, 2), b.flatten(2).transpose(1, 2)
        if self.how == "gram":
            return (a.transpose(1, 2) @ b).flatten(1)
        query = self.query(x)
        query = query.flatten(2).transpose(1, 2) if self.axis == 1 else query
        mixed = torch.softmax(query @ a.transpose(1, 2), -1) @ b
        if self.axis == 2:
            return mixed
        mixed = mixed.transpose(1, 2)
        return mixed.reshape(*mixed.shape[:2], *x.shape[2:])


@part("own_groups", "structure")
class OwnGroups(Part):
    """A grouped linear layer written with a batched matrix product."""

    layouts = ("flat", "tokens")

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__(state, dice)
        groups = divisor(state.channels, dice)
        self.kernel = weight(groups, state.channels // groups, dice.choice((2, 3)))
        self.how = dice.choice(("einsum", "bmm"))

    def forward(self, x: Tensor) -> Tensor:
        lead = x.shape[:-1]
        y = x.reshape(-1, self.kernel.shape[0], self.kernel.shape[1])
        if self.how == "einsum":
            z = torch.einsum("ngi,gio->ngo", y, self.kernel)
        else:
            z = torch.bmm(y.transpose(0, 1), self.kernel).transpose(0, 1)
        return z.reshape(*lead, -1)
