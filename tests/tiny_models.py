"""Tiny random models, one configuration a family, and checkpoints made of them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    OlmoeConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
    StableLmConfig,
)

LAYERS, D_FF, VOCABULARY, CONTEXT = 3, 48, 320, 96
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": D_FF,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
EXPERTS = 4
MOE = {"num_experts": EXPERTS, "num_experts_per_tok": 2, "moe_intermediate_size": D_FF}
WIDE_HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2}
"""Heads of 32 channels, half of which ONNX Runtime can rotate."""
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**COMMON, tie_word_embeddings=False),
    "llama3": LlamaConfig(
        **COMMON,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "qwen2": Qwen2Config(**COMMON, tie_word_embeddings=True),
    "qwen3": Qwen3Config(
        **COMMON,
        head_dim=32,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "mistral": MistralConfig(**COMMON, head_dim=32, sliding_window=8),
    "gemma2": Gemma2Config(
        **COMMON,
        head_dim=32,
        sliding_window=8,
        query_pre_attn_scalar=24,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "gemma3_text": Gemma3TextConfig(
        **COMMON,
        head_dim=32,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "granite": GraniteConfig(
        **COMMON,
        attention_bias=True,
        embedding_multiplier=6.0,
        attention_multiplier=0.15,
        residual_multiplier=0.7,
        logits_scaling=4.0,
        tie_word_embeddings=True,
    ),
    "olmo2": Olmo2Config(**COMMON),
    "smollm3": SmolLM3Config(
        **COMMON, no_rope_layers=[1, 0, 1], use_sliding_window=True, sliding_window=8
    ),
    "phi3": Phi3Config(
        **(COMMON | WIDE_HEADS),
        original_max_position_embeddings=128,
        tie_word_embeddings=True,
        sliding_window=24,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "original_max_position_embeddings": 128,
            "short_factor": [1.0 + 0.1 * i for i in range(8)],
            "long_factor": [2.0 + 0.5 * i for i in range(8)],
        },
    ),
    "stablelm": StableLmConfig(
        **(COMMON | WIDE_HEADS), partial_rotary_factor=0.5, use_qkv_bias=True
    ),
    "stablelm_parallel": StableLmConfig(
        **(COMMON | WIDE_HEADS),
        partial_rotary_factor=0.5,
        use_parallel_residual=True,
        qk_layernorm=True,
    ),
    "gpt_neox": GPTNeoXConfig(
        **(COMMON | WIDE_HEADS),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
        },
    ),
    "phi": PhiConfig(
        **(COMMON | WIDE_HEADS),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
        },
    ),
    "opt": OPTConfig(
        **{key: value for key, value in COMMON.items() if key != "num_key_value_heads"},
        ffn_dim=D_FF,
        word_embed_proj_dim=64,
    ),
    "qwen2_moe": Qwen2MoeConfig(
        **COMMON, **MOE, shared_expert_intermediate_size=96, mlp_only_layers=[1]
    ),
    "qwen3_moe": Qwen3MoeConfig(
        **(COMMON | {"intermediate_size": 96}),
        **MOE,
        head_dim=32,
        norm_topk_prob=True,
        mlp_only_layers=[0],
    ),
    "mixtral": MixtralConfig(**COMMON, num_local_experts=EXPERTS, num_experts_per_tok=2),
    "olmoe": OlmoeConfig(
        **COMMON, num_experts=EXPERTS, num_experts_per_tok=3, tie_word_embeddings=True
    ),
}
"""By name: that of the family, or of a variant of one."""
SHALLOW = dict.fromkeys(CONFIGS, 1) | dict.fromkeys(
    ("gemma2", "gemma3_text", "smollm3", "qwen2_moe", "qwen3_moe"), 2
)
"""Layers: as few as hold every kind of layer that the model has."""
MAIN = ("llama", "qwen2", "gemma3_text")
"""What tests of more than the family run on: plain, with biases, with windows and norms."""


VARIED = ("gemma2", "smollm3", "phi3", "stablelm_parallel", "gpt_neox", "opt")
"""What longer tests run on besides: one of each kind of part that a family adds to these."""


ROUTED = ("qwen2_moe", "qwen3_moe", "mixtral", "olmoe")
"""Mixtures of experts, which stock operators cannot run."""
STOCK = tuple(name for name in CONFIGS if name not in ROUTED)
"""What stock operators can run."""


def every(*fast: str, of: Iterable[str] = VARIED) -> list[Any]:
    """``fast`` and ``of`` as parameters of a test; those not in ``fast`` are slow ones.

    docs/families.md is of all configurations.
    """
    names = dict.fromkeys((*fast, *of))
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in names]


def tiny_config(family: str, layers: int = LAYERS) -> PreTrainedConfig:
    """The family's configuration with the first ``layers`` layers."""
    config = copy.deepcopy(CONFIGS[family])
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    return config


def tiny_model(
    family: str | PreTrainedConfig, seed: int = 0, layers: int = LAYERS
) -> PreTrainedModel:
    """A model whose every parameter is random, norms and biases included.

    Args:
        family: A name in CONFIGS, or a configuration.
        seed: Of the parameters.
        layers: Of a named configuration.
    """
    config = tiny_config(family, layers) if isinstance(family, str) else family
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog"] * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = (
        "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    return fast


def tiny_checkpoint(family: str, folder: Path, layers: int = LAYERS) -> Path:
    """Write a Hugging Face folder."""
    tiny_model(family, layers=layers).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
