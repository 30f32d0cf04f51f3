"""Small models of the architectures in transformers, built from configurations with random weights.

`ENTRIES[name].build()` gives a model in evaluation mode, `ENTRIES[name].inputs(rows)` what it is called with, as
keyword arguments; `built(name)` draws its weights anew with `unit_gain`, so that closing units moves the outputs.
Sizes that mean different things are different numbers, wherever an architecture allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

hf: Any = pytest.importorskip("transformers")
hf.logging.set_verbosity_error()  # it warns of kernels that are not installed

HIDDEN, INNER, HEADS, LAYERS, LABELS = 48, 40, 4, 2, 5
VOCABULARY, POSITIONS, LENGTH, SHORT = 61, 26, 9, 7
PAD, START, END = 0, 1, 2
Inputs = Callable[[int], dict[str, Tensor]]


@dataclass(frozen=True)
class Entry:
    """An architecture: `build` gives a model in evaluation mode, `inputs` its keyword arguments for so many rows."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Inputs


ENTRIES: dict[str, Entry] = {}


def entry(name: str, inputs: Inputs) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register a function that makes a model under `name`."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        def seeded() -> nn.Module:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return build().eval()

        ENTRIES[name] = Entry(name, seeded, inputs)
        return build

    return register


def built(name: str, seed: int = 0) -> nn.Module:
    """The model of that name with weights of unit gain and batch norms that know what reaches them."""
    model = unit_gain(ENTRIES[name].build(), seed)
    return settle(model, ENTRIES[name].inputs(8), seed)


# -- inputs -------------------------------------------------------------------------------------------------------


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


# -- text encoders ------------------------------------------------------------------------------------------------

_TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": PAD,
    "bos_token_id": START,
    "eos_token_id": END,
}
_ENCODER = {**_TEXT, "type_vocab_size": 3, "num_labels": LABELS}


@entry("bert", text)
def bert() -> nn.Module:
    return hf.BertForSequenceClassification(hf.BertConfig(**_ENCODER))


@entry("roberta", text)
def roberta() -> nn.Module:
    return hf.RobertaForSequenceClassification(hf.RobertaConfig(**_ENCODER))


@entry("distilbert", text)
def distilbert() -> nn.Module:
    return hf.DistilBertForSequenceClassification(
        hf.DistilBertConfig(
            vocab_size=VOCABULARY, dim=HIDDEN, hidden_dim=INNER, n_layers=LAYERS, n_heads=HEADS,
            max_position_embeddings=POSITIONS, pad_token_id=PAD, num_labels=LABELS,
        )
    )  # fmt: skip


@entry("albert", text)
def albert() -> nn.Module:
    """Embeddings of another size than the hidden states; the layers share their weights."""
    return hf.AlbertForSequenceClassification(hf.AlbertConfig(**_ENCODER, embedding_size=20))


@entry("electra", text)
def electra() -> nn.Module:
    """Embeddings of another size than the hidden states."""
    return hf.ElectraForSequenceClassification(hf.ElectraConfig(**_ENCODER, embedding_size=20))


@entry("deberta_v2", text)
def deberta_v2() -> nn.Module:
    """Attention over relative positions, from content to position and back."""
    return hf.DebertaV2ForSequenceClassification(
        hf.DebertaV2Config(
            **_ENCODER, relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=6,
            norm_rel_ebd="layer_norm", share_att_key=True, pooler_hidden_size=HIDDEN, position_biased_input=False,
        )
    )  # fmt: skip


@entry("squeezebert", text)
def squeezebert() -> nn.Module:
    """Grouped convolutions of width one in the place of linear layers."""
    settings = {
        f"{part}_groups": groups for part, groups in {"q": 2, "k": 2, "v": 2, "intermediate": 2, "output": 2}.items()
    }
    return hf.SqueezeBertForSequenceClassification(
        hf.SqueezeBertConfig(**_ENCODER, embedding_size=HIDDEN, post_attention_groups=1, **settings)
    )


@entry("modernbert", text)
def modernbert() -> nn.Module:
    """Gated feed-forwards, rotary positions, local attention in every other layer."""
    return hf.ModernBertForSequenceClassification(
        hf.ModernBertConfig(
            **_TEXT, num_labels=LABELS, global_attn_every_n_layers=2, local_attention=6,
            cls_token_id=START, sep_token_id=END,
        )
    )  # fmt: skip


# -- language models ----------------------------------------------------------------------------------------------

_DECODER = {**_TEXT, "use_cache": False}
_GROUPED = {**_DECODER, "num_key_value_heads": 2}


@entry("gpt2", prompt)
def gpt2() -> nn.Module:
    """Layers whose weights are (in, out)."""
    return hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=VOCABULARY, n_positions=POSITIONS, n_embd=HIDDEN, n_layer=LAYERS, n_head=HEADS, n_inner=INNER,
            bos_token_id=START, eos_token_id=END, use_cache=False,
        )
    )  # fmt: skip


@entry("gpt_neox", prompt)
def gpt_neox() -> nn.Module:
    """Queries, keys and values of each head behind each other in one layer, rotary positions on a part of them."""
    return hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**_DECODER, rotary_pct=0.5))


@entry("gpt_neo", prompt)
def gpt_neo() -> nn.Module:
    return hf.GPTNeoForCausalLM(
        hf.GPTNeoConfig(
            vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, hidden_size=HIDDEN, num_layers=LAYERS,
            num_heads=HEADS, intermediate_size=INNER, attention_types=[[["global", "local"], 1]], window_size=5,
            bos_token_id=START, eos_token_id=END, use_cache=False,
        )
    )  # fmt: skip


@entry("opt", prompt)
def opt() -> nn.Module:
    """Embeddings of another size than the hidden states."""
    return hf.OPTForCausalLM(
        hf.OPTConfig(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, ffn_dim=INNER, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, max_position_embeddings=POSITIONS, word_embed_proj_dim=20,
            pad_token_id=PAD, bos_token_id=START, eos_token_id=END, use_cache=False,
        )
    )  # fmt: skip


@entry("bloom", prompt)
def bloom() -> nn.Module:
    """Biases by distance (ALiBi); queries, keys and values of each head behind each other in one layer."""
    return hf.BloomForCausalLM(
        hf.BloomConfig(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, n_layer=LAYERS, n_head=HEADS, pad_token_id=PAD,
            bos_token_id=START, eos_token_id=END, use_cache=False,
        )
    )  # fmt: skip


@entry("falcon", prompt)
def falcon() -> nn.Module:
    """Attention and feed-forward side by side, one key and value for all heads."""
    return hf.FalconForCausalLM(
        hf.FalconConfig(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, ffn_hidden_size=INNER, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, max_position_embeddings=POSITIONS, multi_query=True,
            bos_token_id=START, eos_token_id=END, use_cache=False,
        )
    )  # fmt: skip


@entry("llama", prompt)
def llama() -> nn.Module:
    """Gated feed-forwards, rotary positions, two query heads for each key and value."""
    return hf.LlamaForCausalLM(hf.LlamaConfig(**_GROUPED))


@entry("mistral", prompt)
def mistral() -> nn.Module:
    return hf.MistralForCausalLM(hf.MistralConfig(**_GROUPED, sliding_window=5))


@entry("qwen2", prompt)
def qwen2() -> nn.Module:
    """Biases on queries, keys and values only."""
    return hf.Qwen2ForCausalLM(hf.Qwen2Config(**_GROUPED))


@entry("qwen3", prompt)
def qwen3() -> nn.Module:
    """A normalisation inside each head."""
    return hf.Qwen3ForCausalLM(hf.Qwen3Config(**_GROUPED, head_dim=14))


@entry("gemma2", prompt)
def gemma2() -> nn.Module:
    """Capped logits, normalisations around each branch, local attention in every other layer."""
    return hf.Gemma2ForCausalLM(
        hf.Gemma2Config(**_GROUPED, head_dim=14, query_pre_attn_scalar=14, sliding_window=5)
    )  # fmt: skip


@entry("gemma3", prompt)
def gemma3() -> nn.Module:
    """Normalisations inside each head and around each branch."""
    return hf.Gemma3ForCausalLM(
        hf.Gemma3TextConfig(
            **_GROUPED, head_dim=14, query_pre_attn_scalar=14, sliding_window=5,
            layer_types=["sliding_attention", "full_attention"],
        )
    )  # fmt: skip


@entry("phi", prompt)
def phi() -> nn.Module:
    """Attention and feed-forward side by side, rotary positions on a part of each head."""
    return hf.PhiForCausalLM(hf.PhiConfig(**_DECODER, partial_rotary_factor=0.5))


@entry("phi3", prompt)
def phi3() -> nn.Module:
    """Queries, keys and values in one layer, gate and value of the feed-forward in another."""
    return hf.Phi3ForCausalLM(hf.Phi3Config(**_GROUPED))


@entry("olmo2", prompt)
def olmo2() -> nn.Module:
    """Normalisations over all heads at once, and behind each branch."""
    return hf.Olmo2ForCausalLM(hf.Olmo2Config(**_GROUPED))


@entry("mixtral", prompt)
def mixtral() -> nn.Module:
    """Two of three experts for each token."""
    return hf.MixtralForCausalLM(hf.MixtralConfig(**_GROUPED, num_local_experts=3, num_experts_per_tok=2))


@entry("mamba", prompt)
def mamba() -> nn.Module:
    """A selective state space."""
    return hf.MambaForCausalLM(
        hf.MambaConfig(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, state_size=6, num_hidden_layers=LAYERS, expand=2, conv_kernel=4,
            time_step_rank=5, pad_token_id=PAD, bos_token_id=START, eos_token_id=END, use_cache=False,
        )
    )  # fmt: skip


@entry("mamba2", prompt)
def mamba2() -> nn.Module:
    """A state space with heads, in chunks."""
    return hf.Mamba2ForCausalLM(
        hf.Mamba2Config(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, state_size=6, num_hidden_layers=LAYERS, expand=2, conv_kernel=3,
            num_heads=HEADS, head_dim=24, n_groups=2, chunk_size=5, pad_token_id=PAD, bos_token_id=START,
            eos_token_id=END, use_cache=False,
        )
    )  # fmt: skip


# -- encoders with a decoder --------------------------------------------------------------------------------------

_T5 = {
    "vocab_size": VOCABULARY, "d_model": HIDDEN, "d_kv": 6, "d_ff": INNER, "num_layers": LAYERS,
    "num_heads": HEADS, "relative_attention_num_buckets": 10, "relative_attention_max_distance": 16,
    "pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": PAD, "use_cache": False,
}  # fmt: skip
_BART = {
    "vocab_size": VOCABULARY, "d_model": HIDDEN, "encoder_layers": LAYERS, "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS, "encoder_ffn_dim": INNER,
    "decoder_ffn_dim": 44, "pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END,
    "decoder_start_token_id": END, "use_cache": False,
}  # fmt: skip


@entry("t5", text_pair)
def t5() -> nn.Module:
    """Biases by relative position, shared by all layers."""
    return hf.T5ForConditionalGeneration(hf.T5Config(**_T5))


@entry("t5_gated", text_pair)
def t5_gated() -> nn.Module:
    return hf.T5ForConditionalGeneration(
        hf.T5Config(**_T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    )  # fmt: skip


@entry("bart", text_pair)
def bart() -> nn.Module:
    return hf.BartForConditionalGeneration(
        hf.BartConfig(**_BART, max_position_embeddings=POSITIONS, forced_eos_token_id=END)
    )


# -- sound --------------------------------------------------------------------------------------------------------


@entry("whisper", spectrogram)
def whisper() -> nn.Module:
    return hf.WhisperForConditionalGeneration(
        hf.WhisperConfig(
            **_BART, num_mel_bins=10, max_source_positions=POSITIONS, max_target_positions=12,
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


# -- images -------------------------------------------------------------------------------------------------------

_IMAGE = {
    "image_size": 32, "patch_size": 8, "hidden_size": HIDDEN, "intermediate_size": INNER,
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_labels": LABELS,
}  # fmt: skip


@entry("vit", image(32))
def vit() -> nn.Module:
    return hf.ViTForImageClassification(hf.ViTConfig(**_IMAGE))


@entry("deit", image(32))
def deit() -> nn.Module:
    return hf.DeiTForImageClassification(hf.DeiTConfig(**_IMAGE))


@entry("beit", image(32))
def beit() -> nn.Module:
    """Biases by relative position, scaled branches."""
    return hf.BeitForImageClassification(
        hf.BeitConfig(**_IMAGE, use_relative_position_bias=True, use_mask_token=False, vocab_size=VOCABULARY)
    )


@entry("dinov2", image(32))
def dinov2() -> nn.Module:
    """Scaled branches; the hidden units are a multiple of the hidden size."""
    settings = {key: value for key, value in _IMAGE.items() if key != "intermediate_size"}
    return hf.Dinov2ForImageClassification(hf.Dinov2Config(**settings, mlp_ratio=2))


_SWIN = {
    "image_size": 32, "patch_size": 2, "embed_dim": 24, "depths": [2, 2], "num_heads": [4, 8], "window_size": 4,
    "mlp_ratio": 1.5, "num_labels": LABELS,
}  # fmt: skip


@entry("swin", image(32))
def swin() -> nn.Module:
    """Attention in windows, shifted in every other layer."""
    return hf.SwinForImageClassification(hf.SwinConfig(**_SWIN))


@entry("swinv2", image(32))
def swinv2() -> nn.Module:
    """Cosine attention in windows, with positions from a small network."""
    return hf.Swinv2ForImageClassification(hf.Swinv2Config(**_SWIN))


_STAGES = {"num_channels": 3, "hidden_sizes": [12, 20], "depths": [2, 1], "num_labels": LABELS}


@entry("convnext", image(32))
def convnext() -> nn.Module:
    return hf.ConvNextForImageClassification(hf.ConvNextConfig(**_STAGES, num_stages=2, layer_scale_init_value=1.0))


@entry("convnextv2", image(32))
def convnextv2() -> nn.Module:
    """A response normalisation over the hidden units of each block."""
    return hf.ConvNextV2ForImageClassification(hf.ConvNextV2Config(**_STAGES, num_stages=2))


@entry("resnet", image(32))
def resnet() -> nn.Module:
    return hf.ResNetForImageClassification(hf.ResNetConfig(**_STAGES, embedding_size=14, layer_type="bottleneck"))


@entry("regnet", image(32))
def regnet() -> nn.Module:
    """Grouped convolutions and squeezed gates on channels."""
    return hf.RegNetForImageClassification(
        hf.RegNetConfig(**{**_STAGES, "hidden_sizes": [16, 24]}, embedding_size=14, groups_width=8, layer_type="y")
    )


@entry("mobilenet_v2", image(32))
def mobilenet_v2() -> nn.Module:
    """Depthwise convolutions between wide and narrow layers."""
    return hf.MobileNetV2ForImageClassification(
        hf.MobileNetV2Config(image_size=32, depth_multiplier=0.25, depth_divisible_by=4, min_depth=4, num_labels=LABELS)
    )


@entry("efficientnet", image(32))
def efficientnet() -> nn.Module:
    """Depthwise convolutions and squeezed gates on channels."""
    return hf.EfficientNetForImageClassification(
        hf.EfficientNetConfig(
            image_size=32, width_coefficient=0.25, depth_coefficient=1.0, depth_divisor=4, kernel_sizes=[3, 5],
            in_channels=[32, 48], out_channels=[48, 80], strides=[1, 2], num_block_repeats=[1, 2], expand_ratios=[1, 3],
            depthwise_padding=[], hidden_dim=320, num_labels=LABELS,
        )
    )  # fmt: skip


_FOUR = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 12, 20, 24], "num_labels": LABELS}


@entry("segformer", image(64))
def segformer() -> nn.Module:
    """Keys and values at a lower resolution, depthwise convolutions in the feed-forwards."""
    return hf.SegformerForImageClassification(
        hf.SegformerConfig(**_FOUR, num_attention_heads=[1, 2, 4, 4], mlp_ratios=[2, 2, 2, 2], sr_ratios=[4, 2, 2, 1])
    )


@entry("poolformer", image(64))
def poolformer() -> nn.Module:
    """Pooling in the place of attention."""
    return hf.PoolFormerForImageClassification(
        hf.PoolFormerConfig(**_FOUR, mlp_ratio=1.5, num_encoder_blocks=4, layer_scale_init_value=1.0)
    )


@entry("pvt", image(64))
def pvt() -> nn.Module:
    """Keys and values at a lower resolution."""
    return hf.PvtForImageClassification(
        hf.PvtConfig(
            **_FOUR, image_size=64, num_attention_heads=[1, 2, 4, 4], mlp_ratios=[2, 2, 2, 2],
            sequence_reduction_ratios=[4, 2, 2, 1],
        )
    )  # fmt: skip


@entry("levit", image(64))
def levit() -> nn.Module:
    """Attention with batch norms, values wider than keys, and layers that shrink the image in between."""
    return hf.LevitForImageClassification(
        hf.LevitConfig(
            image_size=64, hidden_sizes=[16, 24, 32], num_attention_heads=[2, 3, 4], depths=[1, 2, 1],
            key_dim=[6, 6, 6], mlp_ratio=[2, 2, 2], attention_ratio=[2, 2, 2], num_labels=LABELS,
        )
    )  # fmt: skip


@entry("mobilevit", image(64))
def mobilevit() -> nn.Module:
    """Convolutions, and transformers over the patches of feature maps."""
    return hf.MobileViTForImageClassification(
        hf.MobileViTConfig(
            image_size=64, hidden_sizes=[24, 28, 32], neck_hidden_sizes=[8, 12, 16, 20, 22, 26, 30],
            num_attention_heads=4, mlp_ratio=1.5, num_labels=LABELS,
        )
    )  # fmt: skip


@entry("clip", caption)
def clip() -> nn.Module:
    """A text and an image encoder; each text is compared with each image of the batch."""
    return hf.CLIPModel(
        hf.CLIPConfig(
            text_config=_TEXT,
            vision_config={**_IMAGE, "hidden_size": 32, "intermediate_size": 52},
            projection_dim=20,
        )
    )


# -- weights ------------------------------------------------------------------------------------------------------

_ALONE = (".A_log", ".D", ".dt_bias", ".logit_scale", ".dt_proj.bias")
"""Parameters that stand for logarithms or rates: they stay as their module drew them."""
_SCALES = ("layer_scale", "lambda", "layerscale")
_ADDED = ("token", "position", "embed")


def unit_gain(model: nn.Module, seed: int = 0) -> nn.Module:
    """`model` with weights drawn anew so that signals neither vanish nor explode.

    Weights are normal with variance 1 / fan_in, embeddings standard normal, biases small, the weights of norms about
    what they were (1, or 0 where forward adds 1 to them), statistics of batch norms as after some training. Tied
    parameters are drawn once, parametrized ones through their originals. Buffers of whole numbers, frequencies of
    rotary positions, and what parametrizes a state space's rates stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)

    seen: set[int] = set()
    with torch.no_grad():
        for path, module in model.named_modules():
            if isinstance(module, parametrize.ParametrizationList):
                seen.update(id(original) for original in module.parameters())
            for name, weight in _parametrized(module):
                setattr(module, name, _draw(module, name, weight, normal(weight)))
                for scale in _scales_of(module, name):
                    scale.mul_(1 + 0.2 * normal(scale))
            for name, parameter in module.named_parameters(recurse=False):
                if id(parameter) not in seen and not f".{path}.{name}".endswith(_ALONE):
                    parameter.copy_(_draw(module, name, parameter, normal(parameter)))
                seen.add(id(parameter))
            for name, buffer in module.named_buffers(recurse=False):
                if name == "running_mean":
                    buffer.copy_(0.1 * normal(buffer))
                elif name == "running_var":
                    buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return model


def settle(model: nn.Module, inputs: dict[str, Tensor], seed: int = 0) -> nn.Module:
    """`model` with statistics of its batch norms near those of `inputs`: without, deep networks forget their input."""
    generator = torch.Generator().manual_seed(seed)

    def measure(norm: _BatchNorm, args: tuple[Tensor, ...]) -> None:
        var, mean = torch.var_mean(args[0].transpose(0, 1).flatten(1), 1)
        noise, spread = torch.randn(mean.shape, generator=generator), torch.rand(mean.shape, generator=generator)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(mean + 0.1 * var.sqrt() * noise)
        norm.running_var.copy_(var * (0.5 + spread) + 1e-3)

    hooks = [each.register_forward_pre_hook(measure) for each in model.modules() if isinstance(each, _BatchNorm)]
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return model.train().eval()  # drops what modules keep between calls in evaluation mode (LeViT's biases)


def _parametrized(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a module that are computed from others."""
    if parametrize.is_parametrized(module):
        for name in module.parametrizations:  # type: ignore[union-attr]
            yield name, getattr(module, name)


def _scales_of(module: nn.Module, name: str) -> list[Tensor]:
    """The originals behind a parametrized tensor, but for the one that has its shape: the scales of a weight norm."""
    shape = getattr(module, name).shape
    return [each for each in module.parametrizations[name].parameters() if each.shape != shape]  # type: ignore[index]


def _draw(module: nn.Module, name: str, now: Tensor, drawn: Tensor) -> Tensor:
    """The new value of a parameter, from standard normal numbers of its shape."""
    if any(each in name for each in _SCALES):
        return 1 + 0.2 * drawn
    if isinstance(module, nn.Embedding):
        return drawn
    if now.numel() == max(now.shape, default=1) and not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        if name == "weight":
            return now.mean().round() + 0.2 * drawn  # a norm's: 1, or 0 where forward adds the 1
        return drawn if any(each in name for each in _ADDED) else 0.1 * drawn
    if now.dim() < 2:
        return 0.1 * drawn
    if isinstance(module, nn.Embedding) or (name != "weight" and any(each in name for each in _ADDED)):
        return drawn
    return drawn / _fan_in(module, now) ** 0.5


def _fan_in(module: nn.Module, weight: Tensor) -> int:
    """How many products each output of a weight sums up."""
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return weight[:, 0].numel() // module.groups
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return weight[0].numel()
    if isinstance(module, hf.pytorch_utils.Conv1D):
        return weight.shape[0]
    return weight.shape[-1]
