"""Loading a model for export: float32 weights, tokenizer, and the tokens that end a text."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from glass_export import gguf_model, hf_folder
from glass_export.errors import UnsupportedModelError
from glass_export.gguf_file import GgufFile
from glass_export.log import logger
from glass_export.manifest import SourceInfo
from glass_export.recipe import ModelRecipe
from glass_export.sources import FetchedModel, fetch

_TEXT_ENDS = ("<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<|end|>", "<|endoftext|>")
"""Special tokens that end a turn or a text. A GGUF file names only one of a model's."""


@dataclass(slots=True)
class LoadedModel:
    """A model ready for calibration and capture: float32, evaluation mode, no gradients."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: SourceInfo
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None


def load_model(model: ModelRecipe | FetchedModel, *, streamed: bool = False) -> LoadedModel:
    """Fetch (unless that is done already) and load a model.

    Args:
        model: What to load.
        streamed: Leave the weights of linears and embeddings in the files and read them each time
            that they are used: slow, but of little memory. Of a GGUF file this cannot be done.

    Raises:
        SourceError: no source can be used, or the model's files are damaged or incomplete.
        UnsupportedModelError: it needs its own code, is quantised, or its GGUF file cannot be
            converted.
    """
    fetched = fetch(model) if isinstance(model, ModelRecipe) else model
    with _quiet_transformers():
        is_gguf = fetched.path.is_file()
        if is_gguf:
            network, tokenizer = _load_gguf(fetched.path, streamed=streamed)
        else:
            network, tokenizer = _load_folder(fetched.path, streamed=streamed)
    network.train(False).requires_grad_(False)
    network.config.name_or_path = ""  # a path of this machine otherwise
    if hasattr(network.config, "output_router_logits"):
        network.config.output_router_logits = False  # of use for training alone
    release_memory()
    ends = _text_ends(network, tokenizer, guess=is_gguf)
    begin = tokenizer.bos_token_id
    loaded = LoadedModel(
        model=network,
        tokenizer=tokenizer,
        source=fetched.info,
        eos_token_ids=ends,
        bos_token_id=begin if isinstance(begin, int) else network.config.bos_token_id,
    )
    if network.generation_config is not None:
        network.generation_config.eos_token_id = list(ends)
    logger.info(
        "loaded %s: %.0f M parameters", network.config.model_type, network.num_parameters() / 1e6
    )
    return loaded


def _load_gguf(path: Path, *, streamed: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if streamed:
        raise UnsupportedModelError(
            f"{path.name}: the weights of a GGUF file cannot be streamed; give the safetensors "
            "checkpoint, or export on a machine with more memory"
        )
    file = GgufFile.open(path)
    config = gguf_model.read_config(file)
    tokenizer = gguf_model.read_tokenizer(file)
    release_memory()
    return gguf_model.read_model(file, config), tokenizer


def _load_folder(path: Path, *, streamed: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    config = hf_folder.read_config(path)
    tokenizer = hf_folder.read_tokenizer(path)
    release_memory()
    read = hf_folder.stream_model if streamed else hf_folder.read_model
    return read(path, config), tokenizer


def _text_ends(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, guess: bool
) -> tuple[int, ...]:
    """Ids that end generation, from everything that names one, in ascending order.

    Args:
        network: Its configuration and generation configuration are read.
        tokenizer: Its end-of-text token counts too.
        guess: Also take the well-known turn ends among the special tokens.
    """
    settings = (network.generation_config, network.config, tokenizer)
    named = [getattr(setting, "eos_token_id", None) for setting in settings]
    ends = {one for ids in named for one in (ids if isinstance(ids, list) else [ids])}
    if guess:
        special = tokenizer.added_tokens_decoder
        ends |= {id_ for id_, token in special.items() if token.content in _TEXT_ENDS}
    return tuple(sorted(one for one in ends if isinstance(one, int)))


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep transformers' own bars and notices off the terminal: this library never prints."""
    settings: Any = transformers_logging  # its functions have no types
    level, bars = (
        settings.get_verbosity(),
        settings.is_progress_bar_enabled(),
    )
    settings.set_verbosity_error()
    settings.disable_progress_bar()
    try:
        yield
    finally:
        settings.set_verbosity(level)
        if bars:
            settings.enable_progress_bar()


def release_memory() -> None:
    """Give freed heap memory back to the system, which glibc keeps otherwise."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # absent from other C libraries
        if trim is not None:
            trim(0)
