"""Attention, feed-forward layers and experts of people's own."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.plain.entry import add, real


class FusedQkv(nn.Module):
    """timm's way: one linear layer for queries, keys and values."""

    def __init__(self, dim: int = 12, num_heads: int = 3, head_dim: int = 5) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.qkv = nn.Linear(dim, 3 * num_heads * head_dim)
        self.proj = nn.Linear(num_heads * head_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        rows, count, _ = x.shape
        qkv = self.qkv(x).reshape(rows, count, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = ((q * self.head_dim**-0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(rows, count, -1))


class SeparateQkv(nn.Module):
    """Queries, keys and values of their own, and torch's attention."""

    def __init__(self, dim: int = 12, num_heads: int = 4, head_dim: int = 5) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.q, self.k, self.v = (nn.Linear(dim, num_heads * head_dim, bias=False) for _ in range(3))
        self.out = nn.Linear(num_heads * head_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        rows, count = x.shape[:2]
        q, k, v = (
            layer(x).view(rows, count, self.num_heads, self.head_dim).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).contiguous().view(rows, count, self.num_heads * self.head_dim))


class FreeHeads(nn.Module):
    """Heads whose number forward takes from the weights: only their width is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(12, 20) for _ in range(3))
        self.out = nn.Linear(20, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (-1, 5)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        weights = (q @ k.transpose(2, 3) / math.sqrt(5)).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class Grouped(nn.Module):
    """Two heads of keys and values for six heads of queries, repeated by repeat_interleave or by expand."""

    def __init__(self, expand: bool) -> None:
        super().__init__()
        self.expand = expand
        self.q_heads, self.kv_heads, self.head_dim = 6, 2, 4
        self.q = nn.Linear(14, 24, bias=False)
        self.k, self.v = nn.Linear(14, 8, bias=False), nn.Linear(14, 8, bias=False)
        self.o = nn.Linear(24, 14, bias=False)

    def repeated(self, x: Tensor) -> Tensor:
        times = self.q_heads // self.kv_heads
        if not self.expand:
            return x.repeat_interleave(times, dim=1)
        rows, heads, count, width = x.shape
        x = x[:, :, None].expand(rows, heads, times, count, width)
        return x.reshape(rows, heads * times, count, width)

    def forward(self, x: Tensor) -> Tensor:
        rows, count, _ = x.shape
        q = self.q(x).view(rows, count, self.q_heads, self.head_dim).transpose(1, 2)
        k = self.repeated(self.k(x).view(rows, count, self.kv_heads, self.head_dim).transpose(1, 2))
        v = self.repeated(self.v(x).view(rows, count, self.kv_heads, self.head_dim).transpose(1, 2))
        scores = q @ k.transpose(-1, -2) / self.head_dim**0.5
        causal = torch.ones(count, count, dtype=torch.bool, device=x.device).triu(1)
        weights = scores.masked_fill(causal, float("-inf")).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).reshape(rows, count, -1))


class GatedChunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(9)
        self.up, self.down = nn.Linear(9, 32), nn.Linear(16, 9)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(self.norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * value)


class GatedTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(9)
        self.gate, self.up, self.down = nn.Linear(9, 16), nn.Linear(9, 16), nn.Linear(16, 9)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class GatedGlu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(9, 32), nn.Linear(16, 9)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.glu(self.up(x)))


def top_two(logits: Tensor) -> Tensor:
    """The softmax of the two largest of each row, 0 for the others."""
    values, places = logits.topk(2, dim=-1)
    return torch.zeros_like(logits).scatter(-1, places, values.softmax(-1))


class Experts(nn.Module):
    """A mixture of experts, each a module of its own, all of them run."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(8, 10)
        self.router = nn.Linear(10, 5)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(10, 13 + i), nn.GELU(), nn.Linear(13 + i, 9)) for i in range(5)
        )
        self.fc = nn.Linear(9, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.before(x))
        weights = top_two(self.router(x))
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        return self.fc((weights.unsqueeze(-1) * outputs).sum(1))


class StackedExperts(nn.Module):
    """A mixture of experts whose weights are stacked; the router is a softmax over all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(8, 5)
        self.up = nn.Parameter(0.3 * torch.randn(5, 8, 13))
        self.up_bias = nn.Parameter(torch.zeros(5, 13))
        self.down = nn.Parameter(0.3 * torch.randn(5, 13, 9))
        self.fc = nn.Linear(9, 7)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.router(x).softmax(-1)
        hidden = F.relu(torch.einsum("nd,edh->neh", x, self.up) + self.up_bias)
        return self.fc(torch.einsum("neh,eho,ne->no", hidden, self.down, weights))


class SoftExperts(nn.Module):
    """Experts whose outputs weights without a softmax add up: any of them can be missed."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(8, 5)
        self.up, self.down = nn.Parameter(0.3 * torch.randn(5, 8, 13)), nn.Parameter(0.3 * torch.randn(5, 13, 9))
        self.fc = nn.Linear(9, 7)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(torch.einsum("nd,edh->neh", x, self.up)) * torch.sigmoid(self.router(x)).unsqueeze(-1)
        return self.fc(torch.einsum("neh,eho->no", hidden, self.down))


add("fused_qkv", FusedQkv, real(5, 12))
add("separate_qkv", SeparateQkv, real(5, 12))
add("free_heads", FreeHeads, real(6, 12))
add("grouped_query_interleave", lambda: Grouped(False), real(5, 14))
add("grouped_query_expand", lambda: Grouped(True), real(5, 14))
add("gated_chunk", GatedChunk, real(5, 9))
add("gated_two", GatedTwo, real(5, 9))
add("gated_glu", GatedGlu, real(5, 9))
add("experts_listed", Experts, real(8))
add("experts_stacked", StackedExperts, real(8))
add("experts_soft", SoftExperts, real(8))
