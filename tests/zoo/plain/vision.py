"""Attention on images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.plain.convolutional import Inverted, SqueezeExcite
from zoo.plain.entry import add, conv_norm, real


class VisionBlock(nn.Module):
    def __init__(self, width: int, heads: int, wide: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, wide), nn.GELU(), nn.Dropout(0.0), nn.Linear(wide, width), nn.Dropout(0.0)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        y, _ = self.self_attention(y, y, y, need_weights=False)
        x = x + y
        return x + self.mlp(self.ln_2(x))


class VisionTransformer(nn.Module):
    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.width = width
        self.conv_proj = nn.Conv2d(3, width, 4, stride=4)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embedding = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.layers = nn.Sequential(VisionBlock(width, heads, 20), VisionBlock(width, heads, 22))
        self.ln = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, 7)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        x = self.conv_proj(x).reshape(rows, self.width, -1).permute(0, 2, 1)
        x = torch.cat([self.class_token.expand(rows, -1, -1), x], dim=1) + self.pos_embedding
        return self.head(self.ln(self.layers(x))[:, 0])


def relative_index(size: int) -> Tensor:
    """For two places in a window of size x size, where in a table of (2 size - 1)^2 their distance stands."""
    places = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")).flatten(1)
    apart = places[:, :, None] - places[:, None, :] + size - 1
    return apart[0] * (2 * size - 1) + apart[1]


class WindowAttention(nn.Module):
    """Attention in (shifted) windows, as Swin's: x is (rows, height, width, channels)."""

    def __init__(self, dim: int, window: int, shift: int, num_heads: int) -> None:
        super().__init__()
        self.window, self.shift, self.num_heads = window, shift, num_heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.table = nn.Parameter(0.02 * torch.randn((2 * window - 1) ** 2, num_heads))
        self.register_buffer("index", relative_index(window).flatten())

    def mask(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        region = x.new_zeros((height, width))
        cuts = ((0, -self.window), (-self.window, -self.shift), (-self.shift, None))
        for i, (top, bottom) in enumerate(cuts):
            for j, (left, right) in enumerate(cuts):
                region[top:bottom, left:right] = 3 * i + j
        w = self.window
        region = region.view(height // w, w, width // w, w).permute(0, 2, 1, 3).reshape(-1, w * w)
        apart = region.unsqueeze(1) - region.unsqueeze(2)
        return apart.masked_fill(apart != 0, -100.0).masked_fill(apart == 0, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        rows, height, width, channels = x.shape
        w = self.window
        if self.shift:
            x = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2))
        windows = (height // w) * (width // w)
        x = x.view(rows, height // w, w, width // w, w, channels)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(rows * windows, w * w, channels)
        qkv = self.qkv(x).reshape(x.size(0), x.size(1), 3, self.num_heads, channels // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = (q * (channels // self.num_heads) ** -0.5).matmul(k.transpose(-2, -1))
        bias = self.table[self.index].view(w * w, w * w, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        scores = scores + bias
        if self.shift:
            mask = self.mask(x.view(rows, height, width, channels))
            scores = scores.view(rows, windows, self.num_heads, w * w, w * w) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.num_heads, w * w, w * w)
        x = self.proj(F.softmax(scores, dim=-1).matmul(v).transpose(1, 2).reshape(rows * windows, w * w, channels))
        x = x.view(rows, height // w, width // w, w, w, channels)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(rows, height, width, channels)
        return torch.roll(x, shifts=(self.shift, self.shift), dims=(1, 2)) if self.shift else x


class SwinBlock(nn.Module):
    def __init__(self, dim: int, shift: int, heads: int, wide: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, 2, shift, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, wide), nn.GELU(), nn.Linear(wide, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    def __init__(self, dim: int, outs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, outs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x[:, i::2, j::2, :] for j in (0, 1) for i in (0, 1)], -1)
        return self.reduction(self.norm(x))


class Swin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.LayerNorm(8)
        self.stage1 = nn.Sequential(SwinBlock(8, 0, 2, 20), SwinBlock(8, 1, 4, 22))
        self.merge = PatchMerging(8, 12)
        self.stage2 = SwinBlock(12, 0, 3, 24)
        self.last = nn.LayerNorm(12)
        self.head = nn.Linear(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x).permute(0, 2, 3, 1))
        x = self.last(self.stage2(self.merge(self.stage1(x))))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), 1), 1))


class PartitionAttention(nn.Module):
    """MaxViT's: among the pixels of a block, or among those at the same place of every block."""

    def __init__(self, dim: int, heads: int, size: int, grid: bool, wide: int) -> None:
        super().__init__()
        self.heads, self.size, self.grid = heads, size, grid
        self.norm = nn.LayerNorm(dim)
        self.to_qkv, self.merge = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.bias_table = nn.Parameter(0.02 * torch.randn((2 * size - 1) ** 2, heads))
        self.register_buffer("index", relative_index(size).flatten())
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, wide), nn.GELU(), nn.Linear(wide, dim))

    def forward(self, x: Tensor) -> Tensor:
        rows, channels, height, width = x.shape
        p = self.size
        x = x.reshape(rows, channels, height // p, p, width // p, p).permute(0, 2, 4, 3, 5, 1)
        x = x.reshape(rows, -1, p * p, channels)
        if self.grid:
            x = x.transpose(1, 2)
        b, g, n, _ = x.shape
        q, k, v = torch.chunk(self.to_qkv(self.norm(x)), 3, dim=-1)
        q, k, v = (t.reshape(b, g, n, self.heads, -1).permute(0, 1, 3, 2, 4) for t in (q, k, v))
        scores = torch.einsum("b g h i d, b g h j d -> b g h i j", q, k * channels**-0.5)
        bias = self.bias_table[self.index].view(p * p, p * p, -1).permute(2, 0, 1).unsqueeze(0)
        scores = F.softmax(scores + bias, dim=-1)
        y = torch.einsum("b g h i j, b g h j d -> b g h i d", scores, v).permute(0, 1, 3, 2, 4).reshape(b, g, n, -1)
        x = x + self.merge(y)
        x = x + self.mlp(x)
        if self.grid:
            x = x.transpose(1, 2)
        x = x.reshape(rows, height // p, width // p, p, p, channels).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(rows, channels, height, width)


def max_vit() -> nn.Module:
    def squeeze() -> nn.Module:
        return SqueezeExcite(20, 5, nn.SiLU, nn.Sigmoid)

    return nn.Sequential(
        conv_norm(3, 9, act=nn.GELU, stride=2),
        Inverted(9, 20, 12, 2, nn.GELU, squeeze),
        PartitionAttention(12, 3, 2, False, 22),
        PartitionAttention(12, 2, 2, True, 24),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(12),
        nn.Linear(12, 10),
        nn.Tanh(),
        nn.Linear(10, 7, bias=False),
    )


class MixerBlock(nn.Module):
    def __init__(self, tokens: int, width: int, across: int, wide: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, across), nn.GELU(), nn.Linear(across, tokens))
        self.channels = nn.Sequential(nn.Linear(width, wide), nn.GELU(), nn.Linear(wide, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 4, stride=4)
        self.blocks = nn.Sequential(MixerBlock(16, 10, 9, 20), MixerBlock(16, 10, 13, 22))
        self.norm = nn.LayerNorm(10)
        self.head = nn.Linear(10, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x).flatten(2).transpose(1, 2))
        return self.head(self.norm(x).mean(1))


add("vit", VisionTransformer, real(3, 16, 16))
add("swin", Swin, real(3, 16, 16))
add("maxvit", max_vit, real(3, 16, 16))
add("mixer", Mixer, real(3, 16, 16))
