"""A Hugging Face model and tokenizer from a folder with safetensors weights.

The weights are read piece by piece into float32: transformers maps the whole file into memory
beside the model, which costs half as much again for a 16-bit checkpoint.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
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
from glass_export.sources.local import weight_files

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_PIECE = 1 << 18  # elements converted at a time


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
    files = weight_files(path)
    for file in files:
        _check(file)
    state: dict[str, torch.Tensor] = {}
    with progress("Loading weights", sum(f.stat().st_size for f in files), "bytes") as task:
        for file in files:
            state |= _read(file)
            task.advance(file.stat().st_size)
    model = assemble(path, skeleton(path, config), state)
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


def assemble(path: Path, empty: PreTrainedModel, state: dict[str, torch.Tensor]) -> PreTrainedModel:
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


def _check(file: Path) -> None:
    try:
        with safe_open(file, framework="np") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as problem:
        raise SourceError(
            f"{file}: damaged or truncated ({short(problem)}); download it again"
        ) from problem


def _read(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checked file; floating-point ones as float32."""
    state = {}
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        base = file.tell()
        header.pop("__metadata__", None)
        for name, entry in header.items():
            if entry["dtype"] not in _FLOATS:
                continue  # index buffers, which transformers computes itself
            file.seek(base + entry["data_offsets"][0])
            tensor, finite = _read_floats(file, entry["shape"], entry["dtype"])
            if not finite:
                raise SourceError(
                    f"{path}: {name} holds NaN or infinity, so the file is damaged; "
                    "download it again"
                )
            state[name] = tensor
    return state


def _read_floats(file: BinaryIO, shape: list[int], dtype: str) -> tuple[torch.Tensor, bool]:
    """The tensor at the file's position as float32, and whether all of it is finite."""
    finite = True
    stored = np.dtype(_FLOATS[dtype])
    out = np.empty(math.prod(shape), np.float32)
    for begin in range(0, out.size, _PIECE):
        piece = out[begin : begin + _PIECE]
        raw = np.frombuffer(file.read(piece.size * stored.itemsize), stored)
        if dtype == "BF16":  # the upper half of a float32
            np.left_shift(raw, 16, out=piece.view(np.uint32), dtype=np.uint32)
        else:
            piece[:] = raw
        finite = finite and bool(np.isfinite(piece).all())
    return torch.from_numpy(out.reshape(shape)), finite


def short(problem: BaseException) -> str:
    """The first line of an exception's message, cut to a readable length."""
    return (str(problem).strip() or type(problem).__name__).splitlines()[0][:200]
