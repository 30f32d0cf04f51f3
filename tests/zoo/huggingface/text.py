"""Text encoders, language models, encoders with a decoder."""

from __future__ import annotations

from torch import nn

from zoo.huggingface.entry import (
    END,
    HEADS,
    HIDDEN,
    INNER,
    LABELS,
    LAYERS,
    PAD,
    POSITIONS,
    START,
    VOCABULARY,
    entry,
    hf,
)
from zoo.huggingface.inputs import prompt, text, text_pair

# -- text encoders ------------------------------------------------------------------------------------------------

TEXT = {
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
_ENCODER = {**TEXT, "type_vocab_size": 3, "num_labels": LABELS}


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
            **TEXT, num_labels=LABELS, global_attn_every_n_layers=2, local_attention=6,
            cls_token_id=START, sep_token_id=END,
        )
    )  # fmt: skip


# -- language models ----------------------------------------------------------------------------------------------

_DECODER = {**TEXT, "use_cache": False}
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
BART = {
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
        hf.BartConfig(**BART, max_position_embeddings=POSITIONS, forced_eos_token_id=END)
    )
