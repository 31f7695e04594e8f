"""A Hugging Face model and tokenizer from a folder with safetensors weights.

The weights are read piece by piece into float32, at once or, for a model that memory cannot hold,
each time that they are used. transformers would map the whole file into memory beside the model,
which costs half as much again for a 16-bit checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from glass_export.errors import SourceError, UnsupportedModelError
from glass_export.log import progress
from glass_export.nn.streamed import Matrix, stand_in, stream, streamable
from glass_export.safetensors_file import StoredTensor, stored_tensors
from glass_export.sources.local import weight_files


def read_config(path: Path) -> PreTrainedConfig:
    """The model's configuration.

    Raises:
        UnsupportedModelError: the model brings its own code or its weights are quantised.
    """
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            path, trust_remote_code=False, local_files_only=True
        )
    except (ValueError, KeyError, OSError) as problem:
        raise UnsupportedModelError(
            f"{path}: config.json is not one that the installed transformers understands by itself "
            f"({short(problem)}); code from a model's folder is never run"
        ) from problem
    if quantised := getattr(config, "quantization_config", None):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise UnsupportedModelError(
            f"{path}: its weights are quantised ({method}); give the original checkpoint"
        )
    return config


def read_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer.

    Raises:
        SourceError: its files are missing or damaged.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, trust_remote_code=False, local_files_only=True
        )
    except Exception as problem:  # the tokenizers library raises bare Exception
        raise SourceError(
            f"{path}: the tokenizer cannot be loaded ({short(problem)}); the folder needs "
            "tokenizer.json and tokenizer_config.json"
        ) from problem
    if not getattr(tokenizer, "is_fast", False):
        raise UnsupportedModelError(
            f"{path}: its tokenizer exists in Python only ({type(tokenizer).__name__}), expected "
            "one with a tokenizer.json"
        )
    return tokenizer


def read_model(path: Path, config: PreTrainedConfig) -> PreTrainedModel:
    """The model with float32 weights.

    Raises:
        SourceError: weights are missing, damaged or of another shape than config.json says.
        UnsupportedModelError: not a causal language model.
    """
    found = stored_weights(path)
    state: dict[str, Tensor] = {}
    with progress("Loading weights", sum(t.nbytes for t in found.values()), "bytes") as task:
        for name, tensor in found.items():
            state[name] = tensor.load()
            task.advance(tensor.nbytes)
    return _with_settings(path, assemble(path, skeleton(path, config), state))


def stream_model(path: Path, config: PreTrainedConfig) -> PreTrainedModel:
    """The model whose linears and embeddings stay in the files; see nn.streamed.

    Raises:
        SourceError: as :func:`read_model`, but damaged weights are found when they are used.
        UnsupportedModelError: not a causal language model.
    """
    empty, stored = skeleton(path, config), stored_weights(path)
    streamed = _matrix_names(empty, stored)
    state: dict[str, Tensor] = {}
    by_place: dict[int, Matrix] = {}
    for name, tensor in stored.items():
        if name in streamed:
            state[name] = stand_in(tensor.shape)
            by_place[state[name].data_ptr()] = tensor
        else:
            state[name] = tensor.load()
    model = assemble(path, empty, state)
    stream(model, lambda parameter: by_place.get(parameter.data_ptr()))
    return _with_settings(path, model)


def _matrix_names(empty: PreTrainedModel, stored: Mapping[str, StoredTensor]) -> set[str]:
    """Stored weights of linears and embeddings.

    transformers renames some weights as it loads them, of these models the head alone, which is
    then told by its shape.
    """
    matrices = {id(layer.weight) for layer in streamable(empty)}
    named = dict(empty.named_parameters(remove_duplicate=False))
    names = {name for name, parameter in named.items() if id(parameter) in matrices}
    head = empty.get_output_embeddings().weight
    if any(named[name] is head for name in stored.keys() & names):
        return names
    shape = tuple(head.shape)
    return names | {name for name in stored.keys() - named.keys() if stored[name].shape == shape}


def stored_weights(path: Path) -> dict[str, StoredTensor]:
    """All weights of a folder by name; only the files' headers are read.

    Raises:
        SourceError: files are missing or damaged.
    """
    found: dict[str, StoredTensor] = {}
    for file in weight_files(path):
        found |= stored_tensors(file)
    return found


def _with_settings(path: Path, model: PreTrainedModel) -> PreTrainedModel:
    """The model, with what the folder says of generation."""
    if (path / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(path, local_files_only=True)
    return model


def skeleton(path: Path, config: PreTrainedConfig) -> PreTrainedModel:
    """The model of ``path`` without weights: every parameter is on the meta device.

    Raises:
        UnsupportedModelError: not a causal language model.
    """
    auto: Any = AutoModelForCausalLM  # its methods have no types
    try:
        with torch.device("meta"):
            model: PreTrainedModel = auto.from_config(config, trust_remote_code=False)
    except (ValueError, KeyError, TypeError) as problem:
        raise UnsupportedModelError(
            f"{path.name}: not a causal language model that transformers knows ({short(problem)})"
        ) from problem
    return model


def assemble(path: Path, empty: PreTrainedModel, state: dict[str, Tensor]) -> PreTrainedModel:
    """The model of ``path`` around ``state``, whose tensors are taken over, not copied.

    Raises:
        SourceError: weights are missing or of another shape than the configuration says.
    """
    kind: Any = type(empty)
    try:
        model, report = kind.from_pretrained(
            None, config=empty.config, state_dict=state, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except RuntimeError as problem:
        raise SourceError(
            f"{path.name}: the weights do not fit the model's configuration ({short(problem)}); "
            "download the model again"
        ) from problem
    if missing := sorted(report["missing_keys"]):
        raise SourceError(
            f"{path.name}: {len(missing)} weights are missing ({', '.join(missing[:3])}); "
            "download the model again"
        )
    loaded: PreTrainedModel = model
    return loaded


def short(problem: BaseException) -> str:
    """The first line of an exception's message, cut to a readable length."""
    return (str(problem).strip() or type(problem).__name__).splitlines()[0][:200]
