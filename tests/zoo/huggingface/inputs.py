"""What models of transformers are called with."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.huggingface.entry import (
    END,
    LENGTH,
    PAD,
    POSITIONS,
    SHORT,
    VOCABULARY,
    Inputs,
)


def _tokens(rows: int, length: int, seed: int) -> Tensor:
    """Tokens without any of the special ones."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(END + 1, VOCABULARY, (rows, length), generator=generator)


def _mask(rows: int) -> Tensor:
    """1 where there is a token: the first row is full, the others are padded at the end."""
    lengths = torch.tensor([LENGTH - 2 * (row % 3) for row in range(rows)])
    return (torch.arange(LENGTH) < lengths[:, None]).long()


def text(rows: int) -> dict[str, Tensor]:
    """Tokens, padded at the end but for the first row, and their mask."""
    mask = _mask(rows)
    return {"input_ids": _tokens(rows, LENGTH, seed=1) * mask + PAD * (1 - mask), "attention_mask": mask}


def prompt(rows: int) -> dict[str, Tensor]:
    """Tokens for a language model."""
    return {"input_ids": _tokens(rows, LENGTH, seed=1)}


def text_pair(rows: int) -> dict[str, Tensor]:
    """Padded tokens with their mask for an encoder, and tokens for a decoder."""
    return {**text(rows), "decoder_input_ids": _tokens(rows, SHORT, seed=2)}


def image(size: int) -> Inputs:
    """Square images with three channels."""

    def inputs(rows: int) -> dict[str, Tensor]:
        return {"pixel_values": torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(3))}

    return inputs


def spectrogram(rows: int) -> dict[str, Tensor]:
    """Ten mel bands over time for an encoder, and tokens for a decoder."""
    bands = torch.randn(rows, 10, 2 * POSITIONS, generator=torch.Generator().manual_seed(4))
    return {"input_features": bands, "decoder_input_ids": _tokens(rows, SHORT, seed=2)}


def sound(rows: int) -> dict[str, Tensor]:
    """Raw sound."""
    return {"input_values": torch.randn(rows, 150, generator=torch.Generator().manual_seed(5))}


def caption(rows: int) -> dict[str, Tensor]:
    """Padded tokens with their mask, and an image for each row; each text has its end token last."""
    given = text(rows)
    last = given["attention_mask"].sum(1, keepdim=True) - 1
    return {**given, "input_ids": given["input_ids"].scatter(1, last, END), **image(32)(rows)}
