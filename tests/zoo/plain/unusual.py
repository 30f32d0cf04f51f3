"""Kinds that few expect."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.plain.entry import add, real, several, whole


class Maxout(nn.Module):
    """Each unit is the larger of two."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(9, 24), nn.Linear(12, 20)
        self.fc = nn.Linear(10, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x).view(x.size(0), 12, 2).amax(-1)
        return self.fc(self.two(x).view(x.size(0), -1, 2).amax(-1))


class Capsules(nn.Module):
    """Capsules with two rounds of routing; a class is the length of its capsule."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2)
        self.primary = nn.Conv2d(8, 12, 3, 2)
        self.weight = nn.Parameter(0.1 * torch.randn(27, 5, 4, 6))

    @staticmethod
    def squash(x: Tensor) -> Tensor:
        square = x.square().sum(-1, keepdim=True)
        return square / (1 + square) * x / (square + 1e-8).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(F.relu(self.conv(x)))
        x = self.squash(x.view(x.size(0), 3, 4, -1).permute(0, 1, 3, 2).reshape(x.size(0), -1, 4))
        votes = torch.einsum("nid,icdo->nico", x, self.weight)
        logits = torch.zeros(votes.shape[:3], dtype=x.dtype, device=x.device)
        for _ in range(2):
            found = self.squash((logits.softmax(-1).unsqueeze(-1) * votes).sum(1))
            logits = logits + (votes * found.unsqueeze(1)).sum(-1)
        return found.norm(dim=-1)


class StateSpace(nn.Module):
    """A selective state space, scanned in Python: Mamba in small."""

    def __init__(self, dim: int = 8, wide: int = 12, states: int = 4, rank: int = 3) -> None:
        super().__init__()
        self.wide, self.states, self.rank = wide, states, rank
        self.norm = nn.RMSNorm(dim)
        self.in_proj = nn.Linear(dim, 2 * wide, bias=False)
        self.conv1d = nn.Conv1d(wide, wide, 3, groups=wide, padding=2)
        self.x_proj = nn.Linear(wide, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, wide)
        self.a_log = nn.Parameter(torch.log(torch.arange(1.0, states + 1).repeat(wide, 1)))
        self.d = nn.Parameter(torch.ones(wide))
        self.out_proj = nn.Linear(wide, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, count, _ = x.shape
        u, z = self.in_proj(self.norm(x)).chunk(2, dim=-1)
        u = F.silu(self.conv1d(u.transpose(1, 2))[..., :count].transpose(1, 2))
        dt, b, c = self.x_proj(u).split([self.rank, self.states, self.states], dim=-1)
        dt = F.softplus(self.dt_proj(dt))
        decay = torch.exp(dt.unsqueeze(-1) * -torch.exp(self.a_log))
        drive = (dt * u).unsqueeze(-1) * b.unsqueeze(2)
        state = x.new_zeros(rows, self.wide, self.states)
        outputs = []
        for t in range(count):
            state = decay[:, t] * state + drive[:, t]
            outputs.append((state * c[:, t].unsqueeze(1)).sum(-1))
        y = torch.stack(outputs, dim=1) + u * self.d
        return x + self.out_proj(y * F.silu(z))


class Splines(nn.Module):
    """A Kolmogorov-Arnold network: a curve on every edge, by radial bumps on a fixed grid."""

    def __init__(self, sizes: Sequence[int] = (5, 12, 9, 4), bumps: int = 6) -> None:
        super().__init__()
        self.register_buffer("grid", torch.linspace(-2, 2, bumps))
        pairs = list(itertools.pairwise(sizes))
        self.curves = nn.ParameterList(0.3 * torch.randn(outs, ins, bumps) for ins, outs in pairs)
        self.straight = nn.ModuleList(nn.Linear(ins, outs) for ins, outs in pairs)

    def forward(self, x: Tensor) -> Tensor:
        for curve, straight in zip(self.curves, self.straight, strict=True):
            bumps = torch.exp(-(x.unsqueeze(-1) - self.grid).square())
            x = torch.einsum("nik,oik->no", bumps, curve) + straight(F.silu(x))
        return x


class Hyper(nn.Module):
    """A network that makes the weights of another for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.task = nn.Linear(4, 10)
        self.weight = nn.Linear(10, 6 * 9)
        self.bias = nn.Linear(10, 9)
        self.out = nn.Linear(9, 5)

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        code = F.relu(self.task(task))
        weight = self.weight(code).view(-1, 9, 6)
        hidden = torch.bmm(weight, x.unsqueeze(-1)).squeeze(-1) + self.bias(code)
        return self.out(torch.tanh(hidden))


class SoftForest(nn.Module):
    """Five trees of depth three that go both ways at every node, with shares."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(8, 14)
        self.split = nn.Linear(14, 5 * 7)
        self.leaves = nn.Parameter(torch.randn(5, 8, 4))

    def forward(self, x: Tensor) -> Tensor:
        right = torch.sigmoid(self.split(torch.tanh(self.features(x)))).view(-1, 5, 7)
        share = torch.ones_like(right[..., :1])
        for depth in range(3):
            here = right[..., 2**depth - 1 : 2 ** (depth + 1) - 1]
            share = torch.stack([share * (1 - here), share * here], dim=-1).flatten(-2)
        return torch.einsum("ntl,tlc->nc", share, self.leaves) / 5


class Flow(nn.Module):
    """Coupling layers: one half of the inputs shifts and scales the other; the code and its log density."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(3, 12 + i), nn.ReLU(), nn.Linear(12 + i, 10), nn.ReLU(), nn.Linear(10, 6))
            for i in range(3)
        )
        self.register_buffer("order", torch.tensor([2, 5, 1, 0, 4, 3]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        density = x.new_zeros(x.shape[0])
        for net in self.nets:
            kept, moved = x[:, self.order].chunk(2, 1)
            shift, scale = net(kept).split(3, 1)
            scale = torch.tanh(scale)
            x = torch.cat([kept, moved * scale.exp() + shift], 1)
            density = density + scale.sum(1)
        return x, density - 0.5 * x.square().sum(1)


class Fourier(nn.Module):
    """FNet: the mixing of tokens is a Fourier transform, what is learnt are the layers between."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inside = nn.Embedding(11, 8), nn.Linear(8, 10)
        self.norm = nn.LayerNorm(10)
        self.mlp = nn.Sequential(nn.Linear(10, 20), nn.GELU(), nn.Linear(20, 10))
        self.fc = nn.Linear(10, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.inside(self.embed(tokens))
        x = self.norm(x + torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2).real)
        return self.fc((x + self.mlp(x))[:, 0])


class Perceiver(nn.Module):
    """Learnt queries read a sequence and then each other."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(0.5 * torch.randn(5, 10))
        self.q, self.k, self.v = nn.Linear(10, 9), nn.Linear(7, 9), nn.Linear(7, 12)
        self.after = nn.Linear(12, 14)
        self.mix = nn.Parameter(0.5 * torch.randn(6, 5))
        self.fc = nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.q(self.latents) @ self.k(x).transpose(1, 2) / 3).softmax(-1)
        y = F.relu(self.after(weights @ self.v(x)))
        return self.fc(F.relu(torch.einsum("qp,npd->nqd", self.mix, y)).sum(1))


class Equilibrium(nn.Module):
    """The fixed point of one layer, approached in eight steps of Runge-Kutta's second order."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.field, self.speed = nn.Linear(5, 14), nn.Linear(14, 14), nn.Linear(14, 14, bias=False)
        self.read = nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        state = torch.zeros_like(x)
        for _ in range(8):
            middle = state + 0.1 * (torch.tanh(self.field(state)) * torch.sigmoid(self.speed(x)) + x - state)
            state = state + 0.2 * (torch.tanh(self.field(middle)) * torch.sigmoid(self.speed(x)) + x - middle)
        return self.read(state)


class SuperResolution(nn.Module):
    """Pixel shuffle, group norm, a learnt slope, and the image itself added, resized."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(4, 12), nn.PReLU(12))
        self.second = nn.Sequential(nn.Conv2d(12, 9, 3, padding=1, padding_mode="reflect"), nn.InstanceNorm2d(9))
        self.up = nn.Sequential(nn.Conv2d(9, 20, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())
        self.out = nn.Conv2d(5, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.out(self.up(F.relu(self.second(self.first(x)))))
        return y + F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)


add("maxout", Maxout, real(9))
add("capsules", Capsules, real(3, 15, 15))
add("state_space", StateSpace, real(6, 8))
add("splines", Splines, real(5))
add("hypernetwork", Hyper, several(real(6), real(4)))
add("soft_forest", SoftForest, real(8))
add("coupling_flow", Flow, real(6))
add("fourier", Fourier, whole(11, 6))
add("perceiver", Perceiver, real(8, 7))
add("equilibrium", Equilibrium, real(5))
add("super_resolution", SuperResolution, real(3, 8, 8))
