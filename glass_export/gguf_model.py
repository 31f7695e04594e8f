"""A Hugging Face model and tokenizer from a GGUF file.

transformers knows the names and layouts; the weights are read here, tensor by tensor, because its
own reader takes several times as long and holds vocabulary and file in memory beside the model.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from transformers import (
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.integrations.ggml import GGUF_CONFIG_DEFAULTS_MAPPING, GGUF_CONFIG_MAPPING
from transformers.integrations.gguf.gguf_tokenizer_mapping import (
    convert_gguf_tokenizer,
    get_gguf_tokenizer,
)
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor

from glass_export.errors import SourceError, UnsupportedModelError
from glass_export.gguf_file import GgufFile
from glass_export.hf_folder import assemble, skeleton
from glass_export.log import logger, progress

_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"
_SAME_WEIGHTS = 0.1
"""Relative difference below which two tensors are quantisations of the same weights."""
_TEXT_MODEL_TYPES = {"gemma3": "gemma3_text"}
_SINGLE_DIGITS = frozenset(
    ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
)
"""Vocabularies that split every digit off. Source: llama.cpp, llm_tokenizer_bpe."""
_NFC = frozenset(("qwen2", "deepseek-r1-qwen", "qwen35"))
"""Vocabularies whose tokenizer.json normalises the text to NFC."""
_PASSED_OVER = {
    "attention.key_length": "head_dim",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope.freq_base": "rope_theta",
}
"""Metadata that transformers' conversion leaves at the defaults of some architectures."""
_SCALED_BY_WIDTH = {"gemma2": 46, "gemma3": 62}
"""Layers of the models (27B) whose queries are scaled by width over heads, not by the head width.
The file does not say it. Source: llama.cpp, load_hparams."""


def read_config(file: GgufFile) -> PreTrainedConfig:
    """The model's configuration, from the file's metadata.

    Raises:
        SourceError: metadata that every model needs is missing.
        UnsupportedModelError: an architecture or a rotary scaling that cannot be converted.
    """
    name = file.path.name
    architecture = str(file.metadata.get("general.architecture"))
    if architecture not in GGUF_CONFIG_MAPPING or architecture == "general":
        known = ", ".join(sorted(set(GGUF_CONFIG_MAPPING) - {"general"}))
        raise UnsupportedModelError(
            f"{name}: GGUF architecture {architecture!r} cannot be converted; known: {known}; "
            "give the safetensors checkpoint"
        )
    scaling = file.metadata.get(f"{architecture}.rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in file.tensors:
        raise UnsupportedModelError(
            f"{name}: rotary scaling is not kept by the GGUF conversion; "
            "give the safetensors checkpoint"
        )
    values: dict[str, Any] = dict(GGUF_CONFIG_DEFAULTS_MAPPING.get(architecture, {}))
    renames: Any = GGUF_CONFIG_MAPPING[architecture]
    for key, renamed in renames.items():
        if renamed and f"{architecture}.{key}" in file.metadata:
            values[renamed] = file.metadata[f"{architecture}.{key}"]
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    if _EMBEDDING not in file.tensors or "num_hidden_layers" not in values or tokens is None:
        raise SourceError(f"{name}: embedding, layer count or vocabulary is missing; damaged file")
    values["vocab_size"] = file.tensors[_EMBEDDING].shape[0]
    for role in ("bos", "eos"):
        values[f"{role}_token_id"] = file.metadata.get(f"tokenizer.ggml.{role}_token_id")
    values["pad_token_id"] = file.metadata.get("tokenizer.ggml.padding_token_id")
    values["tie_word_embeddings"] = _HEAD not in file.tensors
    values |= _unconverted(file, architecture, values)
    return AutoConfig.for_model(_TEXT_MODEL_TYPES.get(architecture, architecture), **values)


def _unconverted(file: GgufFile, architecture: str, values: dict[str, Any]) -> dict[str, Any]:
    """What the file says of the model beyond transformers' conversion of its metadata."""

    def told(key: str) -> Any:
        return file.metadata.get(f"{architecture}.{key}")

    more = {name: told(key) for key, name in _PASSED_OVER.items() if told(key) is not None}
    width = values["hidden_size"] // values["num_attention_heads"]
    head = more.get("head_dim", width)
    if rotated := told("rope.dimension_count"):
        more["partial_rotary_factor"] = rotated / head
    if layers := _SCALED_BY_WIDTH.get(architecture):
        more["query_pre_attn_scalar"] = width if values["num_hidden_layers"] == layers else head
    if architecture == "stablelm":
        more["use_qkv_bias"] = "blk.0.attn_q.bias" in file.tensors
        more["use_parallel_residual"] = "blk.0.ffn_norm.weight" not in file.tensors
    return more


def read_tokenizer(file: GgufFile) -> PreTrainedTokenizerBase:
    """The tokenizer, as its original tokenizer.json would make it.

    Raises:
        UnsupportedModelError: a kind of vocabulary that cannot be converted.
    """
    try:
        architecture, vocabulary, settings = get_gguf_tokenizer(str(file.path))
        backend, _ = convert_gguf_tokenizer(architecture, vocabulary)
    except (ValueError, KeyError, IndexError) as problem:
        raise UnsupportedModelError(
            f"{file.path.name}: its tokenizer cannot be converted ({problem}); "
            "give the safetensors checkpoint"
        ) from problem
    backend = _without_foreign_tokens(backend, set(vocabulary["tokens"]))
    kind = vocabulary.get("pre_tokenizer_type")
    if kind in _SINGLE_DIGITS:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
        )
    if kind in _NFC:
        backend.normalizer = normalizers.NFC()
    length = file.metadata.get(f"{architecture}.context_length")
    fast: Any = PreTrainedTokenizerFast  # its constructor has no types
    tokenizer: PreTrainedTokenizerBase = fast(
        tokenizer_object=backend, model_max_length=length, clean_up_tokenization_spaces=False,
        **settings,
    )  # fmt: skip
    return tokenizer


def _without_foreign_tokens(backend: Tokenizer, known: set[str]) -> Tokenizer:
    """Drop special tokens that the conversion adds although the file does not list them."""
    added = backend.get_added_tokens_decoder().values()
    if all(token.content in known for token in added):
        return backend
    data = json.loads(backend.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in known]
    return Tokenizer.from_str(json.dumps(data))


def read_model(file: GgufFile, config: PreTrainedConfig) -> PreTrainedModel:
    """The model with float32 weights; an embedding stored twice is tied again.

    Raises:
        SourceError: a tensor is missing, damaged or of another shape than the configuration says.
        UnsupportedModelError: the file holds tensors that the model has no place for.
    """
    skipped = _tie(file, config)
    empty = skeleton(file.path, config)
    architecture = str(file.metadata["general.architecture"])
    kind: Any = TENSOR_PROCESSORS.get(architecture, TensorProcessor)
    processor = kind(config=config.to_dict())
    expected = {name: tuple(value.shape) for name, value in empty.state_dict().items()}
    targets = _targets(architecture, config.num_hidden_layers, list(expected))
    if skipped == _EMBEDDING:
        targets[_HEAD] = targets[_EMBEDDING]
    names = [name for name in file.tensors if name != skipped]
    if unknown := [name for name in names if name not in targets]:
        raise UnsupportedModelError(
            f"{file.path.name}: {len(unknown)} tensors have no place in a {config.model_type} "
            f"model ({', '.join(unknown[:3])}); give the safetensors checkpoint"
        )
    state = _read_weights(file, names, targets, processor)
    tied = set(empty.all_tied_weights_keys) if config.tie_word_embeddings else set()
    for name in sorted(expected.keys() - tied):
        found = tuple(state[name].shape) if name in state else "nothing"
        if found != expected[name]:
            raise SourceError(
                f"{file.path.name}: {name}: got {found}, expected {expected[name]}; the file is "
                "incomplete or damaged, download it again"
            )
    return assemble(file.path, empty, state)


def _targets(architecture: str, layers: int, parameters: list[str]) -> dict[str, str]:
    """Parameter of the model by tensor of the file."""
    identifier = next(key for key, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(identifier, layers)
    targets = {}
    for parameter in parameters:
        stem, _, suffix = parameter.rpartition(".")
        if tensor := names.get_name(stem):
            targets[f"{tensor}.{suffix}"] = parameter
    return targets


def _read_weights(
    file: GgufFile, names: list[str], targets: dict[str, str], processor: Any
) -> dict[str, torch.Tensor]:
    def load(name: str) -> tuple[str, torch.Tensor]:
        weights = processor.process(weights=file.read(name), name=name).weights
        return name, torch.from_numpy(np.ascontiguousarray(weights, np.float32))

    state = {}
    total = sum(file.tensors[name].nbytes for name in names)
    with progress("Loading weights", total, "bytes") as task, ThreadPoolExecutor(2) as pool:
        for name, weights in pool.map(load, names):
            state[targets[name]] = weights
            task.advance(file.tensors[name].nbytes)
    return state


def _tie(file: GgufFile, config: PreTrainedConfig) -> str | None:
    """Find an output matrix that is the embedding in another quantisation, as in Qwen's files.

    Then the more precise of the two serves as both, as in the original checkpoint.

    Returns:
        Name of the tensor that is not needed, or None.
    """
    if _HEAD not in file.tensors:
        return None
    embedding, head = file.tensors[_EMBEDDING], file.tensors[_HEAD]
    if embedding.shape != head.shape or _difference(file) > _SAME_WEIGHTS:
        return None
    kept, dropped = sorted((embedding, head), key=lambda tensor: -tensor.bits)
    logger.info(
        "%s: the embedding is stored twice (%s and %s); both uses share %s",
        file.path.name, embedding.type.name, head.type.name, kept.name,
    )  # fmt: skip
    config.tie_word_embeddings = True
    return dropped.name


def _difference(file: GgufFile) -> float:
    """Relative difference of embedding and output matrix over eight runs of 64 rows."""
    rows = file.tensors[_EMBEDDING].shape[0]
    error = norm = 0.0
    for start in np.linspace(0, max(rows - 64, 0), 8, dtype=int).tolist():
        span = {"start": start, "stop": min(start + 64, rows)}
        first, second = file.read(_EMBEDDING, **span), file.read(_HEAD, **span)
        error += float(np.square(first - second).sum())
        norm += float(np.square(first).sum())
    return (error / norm) ** 0.5 if norm else float("inf")
