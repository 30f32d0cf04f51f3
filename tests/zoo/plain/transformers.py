"""Transformers of torch.nn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.plain.entry import add, real, several, whole


class AttentionHead(nn.Module):
    """Self attention alone, a mean over the sequence, a projection."""

    def __init__(self, width: int, heads: int, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=batch_first)
        self.project = nn.Linear(width, 7)
        self.sequence = 1 if batch_first else 0

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.attention(x, x, x)
        return self.project(y.mean(self.sequence))


class CrossAttention(nn.Module):
    """Queries, keys and values of different widths, with a mask of what is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, kdim=9, vdim=10, bias=False, batch_first=True)
        self.project = nn.Linear(12, 7)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, padding: Tensor) -> Tensor:
        return self.project(self.attention(q, k, v, key_padding_mask=padding > 1, need_weights=False)[0])


class Encoder(nn.Module):
    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(11, 12), nn.Parameter(0.02 * torch.randn(6, 12))
        layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, norm_first=norm_first, activation="gelu")
        norm = nn.LayerNorm(12) if norm_first else None
        self.encoder = nn.TransformerEncoder(layer, 2, norm=norm, enable_nested_tensor=False)
        self.fc = nn.Linear(12, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(self.encoder(self.embed(tokens) + self.position).mean(1))


class Padded(nn.Module):
    """An encoder that is told which tokens are padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 12, padding_idx=0)
        layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fc = nn.Linear(12, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        padding = tokens == 0
        padding = torch.cat([torch.zeros_like(padding[:, :1]), padding[:, 1:]], dim=1)
        return self.fc(self.encoder(self.embed(tokens), src_key_padding_mask=padding)[:, 0])


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(12, 3, 20, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, 2)
        self.fc = nn.Linear(12, 7)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.size(1), device=x.device, dtype=x.dtype)
        return self.fc(self.decoder(x, memory, tgt_mask=mask, tgt_is_causal=True))


class Translator(nn.Module):
    """nn.Transformer with a causal mask, which forward may call causal or leave it to torch to find out."""

    def __init__(self, told: bool) -> None:
        super().__init__()
        self.told = told
        self.source, self.target = nn.Embedding(11, 12), nn.Embedding(13, 12)
        self.transformer = nn.Transformer(12, 3, 1, 2, 20, batch_first=True, norm_first=True)
        self.generator = nn.Linear(12, 13)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = self.transformer.generate_square_subsequent_mask(target.size(1), dtype=self.source.weight.dtype)
        causal = True if self.told else None
        x = self.transformer(self.source(source), self.target(target), tgt_mask=mask, tgt_is_causal=causal)
        return self.generator(x)


add("attention_batch_first", lambda: AttentionHead(12, 3, True), real(5, 12))
add(
    "attention_sequence_first",
    lambda: AttentionHead(12, 3, False),
    lambda rows: torch.randn(5, rows, 12, dtype=torch.float64),
    batch_axis=1,
)
add("attention_cross", CrossAttention, several(real(5, 12), real(6, 9), real(6, 10), real(6)))
add("transformer_encoder_norm_last", lambda: Encoder(False), whole(11, 6))
add("transformer_encoder_norm_first", lambda: Encoder(True), whole(11, 6))
add("transformer_decoder", Decoder, several(real(5, 12), real(6, 12)))
add("transformer_encoder_padded", Padded, whole(11, 6))
add("transformer", lambda: Translator(False), several(whole(11, 6), whole(13, 5)))
add("transformer_told_causal", lambda: Translator(True), several(whole(11, 6), whole(13, 5)))
