"""The entries that `make test` leaves to `make test-all` and CI: large ones, and those of which a sibling is quick."""

from __future__ import annotations

PLAIN = (
    "attention_cross", "attention_sequence_first", "convnext", "deeplab", "efficientnet", "fcn", "googlenet",
    "grouped_query_expand", "gru", "gru_cell", "gru_last_states", "inception", "lstm", "lstm_bidirectional",
    "lstm_cell", "maxvit", "mnasnet", "mobilenet_v3", "resnext", "shufflenet_v2", "squeezenet", "swin",
    "transformer_decoder", "transformer_encoder_norm_first", "transformer_encoder_norm_last",
    "transformer_encoder_padded", "transformer_told_causal", "vit",
)  # fmt: skip
HUGGINGFACE = (
    "albert", "beit", "clip", "deberta_v2", "deit", "dinov2", "distilbert", "efficientnet", "electra", "falcon",
    "gemma2", "gemma3", "gpt_neo", "gpt_neox", "levit", "mamba", "mamba2", "mistral", "mixtral", "mobilenet_v2",
    "mobilevit", "olmo2", "opt", "phi", "phi3", "poolformer", "pvt", "qwen2", "qwen3", "regnet", "resnet", "roberta",
    "segformer", "squeezebert", "swin", "swinv2", "t5", "t5_gated", "whisper",
)  # fmt: skip
ENTRIES = {*(f"plain/{name}" for name in PLAIN), *(f"huggingface/{name}" for name in HUGGINGFACE)}
SLOWEST = ("huggingface/mobilevit", "huggingface/levit", "huggingface/pvt", "plain/swin")
"""They start first: what starts last decides how long a run takes."""
QUICK_WIDTHS = {"huggingface/gpt2", "huggingface/llama", "huggingface/vit"}
"""Of those whose width is cut."""
QUICK_PROGRAMS = {"plain/maxout", "plain/hypernetwork", "plain/capsules"}
"""Of those that are cut as exported programs."""
