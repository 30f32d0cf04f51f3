"""Sound."""

from __future__ import annotations

from torch import nn

from zoo.huggingface.entry import (
    HEADS,
    HIDDEN,
    INNER,
    LABELS,
    LAYERS,
    POSITIONS,
    VOCABULARY,
    entry,
    hf,
)
from zoo.huggingface.inputs import sound, spectrogram
from zoo.huggingface.text import BART


@entry("whisper", spectrogram)
def whisper() -> nn.Module:
    return hf.WhisperForConditionalGeneration(
        hf.WhisperConfig(
            **BART, num_mel_bins=10, max_source_positions=POSITIONS, max_target_positions=12,
            suppress_tokens=None, begin_suppress_tokens=None,
        )
    )  # fmt: skip


@entry("wav2vec2", sound)
def wav2vec2() -> nn.Module:
    """Convolutions over raw sound, and one over positions with a weight norm."""
    return hf.Wav2Vec2ForSequenceClassification(
        hf.Wav2Vec2Config(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            intermediate_size=INNER, conv_dim=(12, 14, 16), conv_kernel=(8, 3, 2), conv_stride=(4, 2, 1),
            num_feat_extract_layers=3, num_conv_pos_embeddings=6, num_conv_pos_embedding_groups=2,
            classifier_proj_size=20, num_labels=LABELS, apply_spec_augment=False,
        )
    )  # fmt: skip
