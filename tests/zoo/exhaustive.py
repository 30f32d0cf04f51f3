"""The entries that `make test` leaves to `make test-all` and CI: large ones, and those of which a sibling is quick."""

from __future__ import annotations

PLAIN = (
    "convnext", "deeplab", "efficientnet", "gru", "gru_cell", "gru_last_states", "inception", "lstm",
    "lstm_bidirectional", "lstm_cell", "maxvit", "mnasnet", "mobilenet_v3", "shufflenet_v2", "swin",
    "transformer_decoder", "transformer_encoder_norm_first", "transformer_encoder_norm_last", "transformer_told_causal",
    "vit",
)  # fmt: skip
HUGGINGFACE = (
    "beit", "clip", "deberta_v2", "deit", "dinov2", "distilbert", "electra", "falcon", "gemma2", "gemma3", "gpt_neo",
    "levit", "mamba", "mistral", "mixtral", "mobilenet_v2", "mobilevit", "olmo2", "phi", "phi3", "poolformer", "pvt",
    "qwen2", "qwen3", "regnet", "roberta", "segformer", "squeezebert", "swin", "swinv2", "t5", "t5_gated", "whisper",
)  # fmt: skip
ENTRIES = {*(f"plain/{name}" for name in PLAIN), *(f"huggingface/{name}" for name in HUGGINGFACE)}
QUICK_WIDTHS = {"huggingface/gpt2", "huggingface/llama", "huggingface/vit"}
"""Of those whose width is cut."""
QUICK_PROGRAMS = {"plain/maxout", "plain/hypernetwork", "plain/capsules"}
"""Of those that are cut as exported programs."""
