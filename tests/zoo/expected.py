"""The groups that each architecture of the zoo has, by what they mean; written from the architectures.

An entry of `PLAIN` or `HUGGINGFACE` maps a meaning to (kind, sizes...), one size for each group. A group belongs here
where an entry of an axis could be taken off with the same result as setting it to zero: hidden units of feed-forwards,
attention heads (with grouped queries: a key-value head and its query heads), channels, hidden units of recurrent
layers, widths of embeddings that no normalisation mixes. What layer norms and softmaxes read does not.
"""

from __future__ import annotations

Groups = dict[str, tuple[str | int, ...]]

_HEADS: Groups = {"heads": ("head", 4, 4)}
_HIDDEN: Groups = {"feed-forward": ("unit", 40, 40)}
_BLOCKS: Groups = {**_HEADS, **_HIDDEN}
_POOLED: Groups = {**_BLOCKS, "layer before the classifier": ("unit", 48)}
_GROUPED: Groups = {"key-value heads": ("head", 2, 2), **_HIDDEN}
_SWIN: Groups = {"heads": ("head", 4, 4, 8, 8), "feed-forward": ("unit", 36, 36, 72, 72)}
_T5: Groups = {
    "heads that share a position bias over layers, one for encoder and decoder": ("head", 4, 4),
    "heads of cross attention": ("head", 4, 4),
    "feed-forward": ("unit", 40, 40, 40, 40),
}
_BART: Groups = {
    "heads of the encoder, the decoder, and of cross attention": ("head", 4, 4, 4, 4, 4, 4),
    "feed-forward": ("unit", 40, 40, 44, 44),
}

HUGGINGFACE: dict[str, Groups] = {
    "bert": _POOLED,
    "roberta": _POOLED,
    "distilbert": _POOLED,
    "albert": {"heads of the shared layer": ("head", 4), "its feed-forward": ("unit", 40), "pooler": ("unit", 48)},
    "electra": _POOLED,
    "deberta_v2": _POOLED,
    "squeezebert": {
        "heads, one from each of two convolution groups": ("channel group", 2, 2),
        "feed-forward, one from each of two convolution groups": ("channel group", 20, 20),
        "pooler": ("unit", 48),
    },
    "modernbert": _BLOCKS,
    "gpt2": _BLOCKS,
    "gpt_neox": _BLOCKS,
    "gpt_neo": _BLOCKS,
    "opt": {"width of the embeddings, projected in and out": ("unit", 20), **_BLOCKS},
    "bloom": {"feed-forward": ("unit", 192, 192)},  # its heads have slopes by their place
    "falcon": _BLOCKS,
    "llama": _GROUPED,
    "mistral": _GROUPED,
    "qwen2": _GROUPED,
    "qwen3": _GROUPED,
    "gemma2": _GROUPED,
    "gemma3": _GROUPED,
    "phi": _BLOCKS,
    "phi3": _GROUPED,
    "olmo2": _HIDDEN,  # a normalisation over all heads at once
    "mixtral": {
        "key-value heads": ("head", 2, 2),
        "experts": ("expert", 3, 3),
        "hidden units of the experts": ("unit", 40, 40),
    },
    "mamba": {
        "inner channels": ("channel group", 96, 96),
        "states": ("unit", 6, 6),
        "rank of the time step": ("unit", 5, 5),
    },
    "mamba2": {"groups of heads, normalised by themselves": ("channel group", 2, 2)},
    "t5": _T5,
    "t5_gated": _T5,
    "bart": _BART,
    "whisper": {"channels of the first convolution": ("channel", 48), **_BART},
    "wav2vec2": {"channels of the features": ("channel", 12, 14), **_BLOCKS, "projector": ("unit", 20)},
    "vit": _BLOCKS,
    "deit": _BLOCKS,
    "beit": _BLOCKS,
    "dinov2": {**_HEADS, "feed-forward": ("unit", 96, 96)},
    "swin": _SWIN,
    "swinv2": _SWIN,
    "convnext": {"feed-forward": ("unit", 48, 48, 80)},
    "convnextv2": {},  # a response normalisation over the hidden units
    "resnet": {
        "stem": ("channel", 14),
        "inside of the bottlenecks": ("channel", 3, 3, 3, 3, 5, 5),
        "residual streams": ("channel", 12, 20),
    },
    "regnet": {
        "stem": ("channel", 14),
        "inside of the blocks, one from each convolution group": ("channel group", 8, 8, 8, 8, 8, 8),
        "squeezed": ("channel", 4, 4, 4),
        "residual streams": ("channel", 16, 24),
    },
    "mobilenet_v2": {
        "stem": ("channel", 8),
        "expanded": ("channel", 24, 48, 48, 48, 48, 48, 96, 96, 96, 96, 144, 144, 144, 240, 240, 240),
        "narrow streams": ("channel", 4, 8, 8, 16, 24, 40, 80),
        "last convolution": ("channel", 1280),
    },
    "efficientnet": {
        "stem": ("channel", 8),
        "expanded": ("channel", 36, 60),
        "squeezed": ("channel", 2, 3, 5),
        "narrow streams": ("channel", 12, 20),
        "last convolution": ("channel", 320),
    },
    "segformer": {
        "heads": ("head", 2, 4, 4),
        "queries with keys, and values, of the stage with one head": ("unit", 8, 8),
        "feed-forward": ("channel", 16, 24, 40, 48),
    },
    "poolformer": {"feed-forward": ("channel", 12, 18, 30, 36)},
    "pvt": {
        "heads": ("head", 2, 4, 4),
        "queries with keys, and values, of the stage with one head": ("unit", 8, 8),
        "feed-forward": ("unit", 16, 24, 40, 48),
    },
    "levit": {
        "stem, the last one with the first residual stream": ("channel", 2, 4, 8, 16),
        "residual streams": ("unit", 24, 32),
        "heads": ("head", 2, 2, 3, 3, 4, 4),
        "feed-forward": ("unit", 32, 48, 48, 48, 64, 64),
    },
    "mobilevit": {
        "stem": ("channel", 8),
        "expanded": ("channel", 32, 48, 64, 64, 64, 80, 88),
        "narrow streams": ("channel", 12, 16, 20, 22, 26),
        "around the transformers": ("channel", 20, 20, 20, 22, 22, 22, 26, 26, 26),
        "heads": ("head", 4, 4, 4, 4, 4, 4, 4, 4, 4),
        "feed-forward": ("unit", 36, 36, 42, 42, 42, 42, 48, 48, 48),
        "last convolution": ("channel", 30),
    },
    "clip": {"heads of both encoders": ("head", 4, 4, 4, 4), "feed-forward": ("unit", 40, 40, 52, 52)},
}

_TORCH_ENCODER: Groups = {"heads": ("head", 3, 3), "feed-forward": ("unit", 20, 20)}
_RECURRENT: Groups = {"width of the embedding": ("unit", 9), "hidden units": ("unit", 13)}
_TWO_RECURRENT: Groups = {"width of the embedding": ("unit", 9), "hidden units": ("unit", 13, 13)}
_FACTORED = (3, 4, 5, 6, 7, 8, 9, 10)

PLAIN: dict[str, Groups] = {
    "alexnet": {"features": ("channel", 8, 12, 14, 10), "classifier": ("unit", 20, 18)},
    "vgg_norm": {"features": ("channel", 8, 12, 10, 14), "classifier": ("unit", 20)},
    "resnet_bottleneck": {
        "stem": ("channel", 8),
        "inside of the bottlenecks": ("channel", 6, 6, 12, 12, 9, 9, 9, 9),
        "residual streams": ("channel", 20, 24),
    },
    "resnext": {
        "stem": ("channel", 8),
        "inside of the blocks, one from each of three convolution groups": ("channel group", 2, 2, *(4,) * 6),
        "residual streams": ("channel", 20, 24),
    },
    "densenet": {
        "stem and transition": ("channel", 8, 9),
        "bottlenecks": ("channel", 11, 11, 13, 13, 13),
        "growth": ("channel", 5, 5, 4, 4, 4),
    },
    "googlenet": {
        "stem": ("channel", 8),
        "first inception": ("channel", 5, 6, 7, 3, 4, 2),
        "second inception": ("channel", 6, 9, 10, 5, 8, 3),
    },
    "inception": {
        "stem": ("channel", 8),
        "factored": ("channel", *_FACTORED, *_FACTORED),
        "reduction": ("channel", 6, 7, 5),
    },
    "mobilenet_v2": {
        "stem": ("channel", 8),
        "expanded": ("channel", 20, 22, 18),
        "narrow streams": ("channel", 6, 10, 12),
        "last convolution": ("channel", 24),
    },
    "mobilenet_v3": {
        "stem, with the first residual stream": ("channel", 8),
        "expanded": ("channel", 20, 22, 18),
        "squeezed": ("channel", 4, 6, 5),
        "narrow stream": ("channel", 10),
        "last convolution": ("channel", 24),
        "classifier": ("unit", 16),
    },
    "efficientnet": {
        "stem": ("channel", 8),
        "expanded": ("channel", 24, 20),
        "squeezed": ("channel", 2, 3, 4),
        "narrow streams": ("channel", 6, 10),
        "last convolution": ("channel", 22),
    },
    "mnasnet": {
        "stem": ("channel", 10, 8),
        "expanded": ("channel", 24, 18, 20, 22),
        "narrow streams": ("channel", 12, 14),
        "last convolution": ("channel", 16),
    },
    "shufflenet_v2": {
        "stem": ("channel", 8),
        "stream of the first stage, four channels that the shuffles tie": ("channel", 3),
        "inside of the branches": ("channel", 6, 6, 6, 10),
        "stream of the second stage, one from each half": ("channel", 10),
        "last convolution": ("channel", 24),
    },
    "squeezenet": {"stem": ("channel", 8), "squeezed": ("channel", 5, 6), "expanded": ("channel", 9, 10, 11, 12)},
    "convnext": {"feed-forward": ("unit", 20, 24)},
    "literal_squeeze": {"features": ("channel", 9, 20), "squeezed": ("unit", 6)},
    "film": {
        "condition": ("unit", 16),
        "features, with their scale and shift": ("channel group", 9, 13),
    },
    "deeplab": {
        "backbone": ("channel", 8, 10, 12),
        "pyramid": ("channel", 5, 6, 7, 9),
        "projection, classifier, auxiliary": ("channel", 11, 13, 14),
    },
    "fcn": {"backbone": ("channel", 8, 10, 14, 20), "scores that are upsampled and added": ("channel", 5, 5, 5)},
    "unet": {
        "down": ("channel", 8, 9, 12, 13),
        "bottom": ("channel", 20, 18),
        "up": ("channel", 10, 15, 14, 7, 11, 6),
    },
    "autoencoder": {
        "convolutions": ("channel", 8, 12, 9),
        "code": ("unit", 10),
        "channels that a linear layer makes": ("unit", 14),
    },
    "variational": {"hidden": ("unit", 16, 14)},  # the code is an output
    "vit": {"heads": ("head", 3, 3), "feed-forward": ("unit", 20, 22)},
    "swin": {"heads": ("head", 2, 4, 3), "feed-forward": ("unit", 20, 22, 24)},
    "maxvit": {
        "stem": ("channel", 9),
        "expanded": ("channel", 20),
        "squeezed": ("channel", 5),
        "heads": ("head", 3, 2),
        "feed-forward": ("unit", 22, 24),
        "layer before the classifier": ("unit", 10),
    },
    "mixer": {"across tokens": ("unit", 9, 13), "across channels": ("unit", 20, 22)},
    "attention_batch_first": {"heads": ("head", 3), "output": ("unit", 12)},
    "attention_sequence_first": {"heads": ("head", 3), "output": ("unit", 12)},
    "attention_cross": {"heads": ("head", 3), "output": ("unit", 12)},
    "transformer_encoder_norm_last": _TORCH_ENCODER,
    "transformer_encoder_norm_first": _TORCH_ENCODER,
    "transformer_decoder": {"heads": ("head", 3, 3, 3, 3), "feed-forward": ("unit", 20, 20)},
    "transformer_encoder_padded": {"heads": ("head", 3), "feed-forward": ("unit", 20)},
    "transformer_told_causal": {"heads": ("head", 3, 3, 3, 3, 3), "feed-forward": ("unit", 20, 20, 20)},
    "lstm": _RECURRENT,
    "lstm_two_layers": _TWO_RECURRENT,
    "lstm_bidirectional": _TWO_RECURRENT,
    "gru": _RECURRENT,
    "gru_last_states": {
        "layer before": ("unit", 10),
        "hidden units, one from each layer, whose last states are one tensor": ("unit", 13),
    },
    "rnn": _RECURRENT,
    "lstm_cell": {"hidden units": ("unit", 13)},
    "gru_cell": {"hidden units": ("unit", 13)},
    "own_gru": {"hidden units": ("unit", 13)},
    "fused_qkv": {"heads": ("head", 3)},
    "separate_qkv": {"heads": ("head", 4)},
    "free_heads": {"heads": ("head", 4)},
    "grouped_query_interleave": {"key-value heads": ("head", 2)},
    "grouped_query_expand": {"key-value heads": ("head", 2)},
    "gated_chunk": {"feed-forward": ("unit", 16)},
    "gated_two": {"feed-forward": ("unit", 16)},
    "gated_glu": {"feed-forward": ("unit", 16)},
    "experts_listed": {
        "layer before": ("unit", 10),
        "hidden units of each expert": ("unit", 13, 14, 15, 16, 17),
        "outputs that the experts add to": ("unit", 9),
    },
    "experts_stacked": {
        "experts": ("unit", 5),
        "hidden units of all experts": ("unit", 13),
        "outputs they add to": ("unit", 9),
    },
    "experts_soft": {
        "experts": ("unit", 5),
        "hidden units of all experts": ("unit", 13),
        "outputs they add to": ("unit", 9),
    },
    "wavenet": {
        "residual stream": ("channel", 8),
        "gated": ("channel", 10, 11, 12),
        "skips": ("channel", 14),
        "end": ("channel", 9),
    },
    "siamese": {"tower": ("unit", 20, 14), "what the two towers are compared by": ("unit", 9)},
    "factorisation_machine": {"factors": ("unit", 8), "network": ("unit", 18, 10)},
    "two_towers": {"widths of the embeddings": ("unit", 9, 10), "what the two towers are multiplied by": ("unit", 12)},
    "graph": {"convolutions": ("unit", 12, 14), "values of the attention": ("unit", 10)},
    "pointnet": {"turn": ("channel", 8), "features": ("channel", 10, 20), "classifier": ("unit", 12)},
    "weight_norm": {"what no weight norm reads": ("unit", 13)},
    "weight_norm_old": {"what no weight norm reads": ("unit", 13)},
    "spectral_norm": {},  # a singular value of each whole weight
    "spectral_norm_old": {},
    "orthogonal": {"before the orthogonal layer": ("unit", 14)},
    "masked": {"features": ("channel", 8, 10), "hidden": ("unit", 12)},
    "tied": {"width of the embedding": ("unit", 9), "hidden units of the layer used twice": ("unit", 16)},
    "maxout": {"units, each of two": ("unit", 12, 10)},
    "capsules": {
        "convolution": ("channel", 8),
        "kinds of the first capsules": ("channel group", 3),
        "poses of the classes": ("unit", 6),
    },
    "state_space": {
        "inner channels": ("channel group", 12),
        "rank of the time step": ("unit", 3),
        "states": ("unit", 4),
    },
    "splines": {"hidden": ("unit", 12, 9)},
    "hypernetwork": {"code": ("unit", 10), "hidden units of the network that is made": ("unit", 9)},
    "soft_forest": {"features": ("unit", 14), "trees": ("unit", 5)},
    "coupling_flow": {"hidden": ("unit", 12, 10, 13, 10, 14, 10)},
    "fourier": {"width of the embedding": ("unit", 8), "feed-forward": ("unit", 20)},
    "perceiver": {
        "latents": ("unit", 5),
        "queries with keys": ("unit", 9),
        "values": ("unit", 12),
        "after": ("unit", 14),
        "mixtures of the latents, summed": ("unit", 6),
    },
    "equilibrium": {"state": ("unit", 14)},
    "super_resolution": {
        "groups of the group norm": ("channel group", 4),
        "second convolution": ("channel", 9),
        "upsampled, four channels in one": ("channel group", 5),
    },
}

GROUPS: dict[str, Groups] = {
    **{f"plain/{name}": groups for name, groups in PLAIN.items()},
    **{f"huggingface/{name}": groups for name, groups in HUGGINGFACE.items()},
}

_ATTENTION = "the class's own forward fails on it"  # nn.MultiheadAttention takes embed_dim for both of its widths
_RESHAPED = "the class's own forward fails on it (RuntimeError: shape"  # forward has a number of its own in a view

LEFT: dict[str, dict[str, str]] = {
    "huggingface/pvt": {  # num_attention_heads = 1 of the full width: all of it, or nothing
        "pvt.encoder.block.0.0.attention.self.query": _RESHAPED,
        "pvt.encoder.block.0.0.attention.self.value": _RESHAPED,
    },
    "plain/vit": {"layers.*.self_attention": _ATTENTION},
    "plain/swin": {"stage*.attn.qkv": _RESHAPED},  # a head's width is channels // num_heads
    "plain/attention_batch_first": {"attention": _ATTENTION},
    "plain/attention_sequence_first": {"attention": _ATTENTION},
    "plain/attention_cross": {"attention": _ATTENTION},
    "plain/transformer_encoder_norm_last": {"encoder.layers.*.self_attn": _ATTENTION},
    "plain/transformer_encoder_norm_first": {"encoder.layers.*.self_attn": _ATTENTION},
    "plain/transformer_encoder_padded": {"encoder.layers.*.self_attn": _ATTENTION},
    "plain/transformer_decoder": {
        "decoder.layers.*.self_attn": _ATTENTION,
        "decoder.layers.*.multihead_attn": _ATTENTION,
    },
    "plain/transformer_told_causal": {
        "transformer.*coder.layers.*.self_attn": _ATTENTION,
        "transformer.decoder.layers.*.multihead_attn": _ATTENTION,
    },
    "plain/shufflenet_v2": {"1.branch1.1.0": "Given groups=1"},  # chunk gives halves that are not what they were
    "plain/capsules": {"primary": "computes something else"},  # view(rows, 3, 4, -1)
    "plain/literal_squeeze": {"conv2": _RESHAPED},
    "plain/maxout": {"one": _RESHAPED},
    "plain/hypernetwork": {"weight": _RESHAPED},
    "plain/soft_forest": {"split": _RESHAPED},
}
"""Groups that the class's own forward does not allow to cut, by pattern of their names: a part of the reason given."""

FIXED: dict[str, dict[str, str]] = {
    "huggingface/bert": {"bert.encoder.layer.0.output.dense": "layer_norm"},
    "huggingface/bloom": {"transformer.h.*.self_attention.query_key_value": "arange in transformer"},
    "huggingface/olmo2": {"model.layers.*.self_attn.q_proj": "mean in model.layers.*.self_attn.q_norm"},
    "huggingface/opt": {"model.decoder.embed_positions": "layer_norm"},
    "huggingface/wav2vec2": {"wav2vec2.feature_projection.projection": "_weight_norm"},
    "huggingface/swinv2": {"*continuous_position_bias_mlp.0": "depends on no input"},
    "huggingface/poolformer": {"poolformer.encoder.patch_embeddings.*.projection": "group_norm"},
    "huggingface/clip": {"visual_projection": "output of the model", "text_projection": "output of the model"},
    "plain/experts_listed": {"router": "reckons with which of them was chosen"},
    "plain/pointnet": {"turn.3": "eye"},
    "plain/orthogonal": {"2.parametrizations.weight": "diagonal"},
    "plain/gated_two": {"down": "it meets an input of the model"},
}
"""Modules whose outputs are no units, by pattern: a part of the reason given."""

NOTHING: dict[str, str] = {
    "huggingface/convnextv2": "grn mixes it",
    "plain/spectral_norm": "Nothing in Sequential can be cut",
    "plain/spectral_norm_old": "Nothing in Sequential can be cut",
}
"""Entries that have nothing to cut: what the error says."""

UNTRACEABLE: dict[str, str] = {
    "plain/transformer": r'transformers\.py, line \d+: "x = self\.transformer\(.*it decides by the values of a tensor',
}
"""Entries that cannot be traced: what the error says. nn.Transformer finds out whether a mask is causal by its values,
unless it is told."""

STEPS: dict[str, dict[str, int]] = {"huggingface/mixtral": {"*.mlp.experts": 8}}
"""Groups of which only multiples can stay, as the kernel of the experts wants aligned rows."""

ROUNDED: dict[str, float] = {
    "huggingface/beit": 1e-6,  # when traced, transformers adds a mask of ones to each score: softmax takes it off again
    "plain/gru": 1e-15,  # the step is taken apart into ops, and torch's own kernel fuses them
    "plain/gru_cell": 1e-15,
    "plain/gru_last_states": 1e-15,
}
"""Entries whose graph differs from the module by rounding, and by how much at most."""

GENERATIVE = (
    "gpt2", "gpt_neox", "gpt_neo", "opt", "bloom", "falcon", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3",
    "phi", "phi3", "olmo2", "mixtral", "mamba", "mamba2", "t5", "t5_gated", "bart", "whisper",
)  # fmt: skip
"""Entries of transformers that generate tokens."""

COUNTED_OTHERWISE = ["plain/experts_stacked", "huggingface/clip"]
"""Networks whose multiply-adds are no multiple of the rows: samples are moved about, or meet each other."""
