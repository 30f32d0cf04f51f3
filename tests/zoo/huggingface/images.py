"""Images, and images with text."""

from __future__ import annotations

from torch import nn

from zoo.huggingface.entry import (
    HEADS,
    HIDDEN,
    INNER,
    LABELS,
    LAYERS,
    VOCABULARY,
    entry,
    hf,
)
from zoo.huggingface.inputs import caption, image
from zoo.huggingface.text import TEXT

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
            text_config=TEXT,
            vision_config={**_IMAGE, "hidden_size": 32, "intermediate_size": 52},
            projection_dim=20,
        )
    )
