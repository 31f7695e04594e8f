"""What of transformers' ``generate`` an artifact can do: one sequence, one token after the other.

Legend: B sequences of a batch, S tokens of a sequence.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.configuration_utils import GenerationMode

from glass_export.errors import GenerationError

_MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)
_SETTINGS: dict[str, tuple[object, ...]] = {
    "num_return_sequences": (None, 1),
    "use_cache": (None, True),
    "cache_implementation": (None, "dynamic"),
    "prefill_chunk_size": (None,),
    "output_attentions": (None, False),
    "output_hidden_states": (None, False),
    "guidance_scale": (None, 1, 1.0),
}
"""Fields of a GenerationConfig, and the values that an artifact can serve."""
_WHY = {
    "num_return_sequences": "call generate() for each sequence",
    "use_cache": "an artifact always decodes over its own key/value cache",
    "cache_implementation": "an artifact always decodes over its own key/value cache",
    "prefill_chunk_size": "the artifact's own chunk size is used",
    "output_attentions": "an artifact returns logits alone",
    "output_hidden_states": "an artifact returns logits alone",
    "guidance_scale": "guidance needs a second conversation, an artifact holds one",
}
_ARGUMENTS = {
    "assistant_model": "an artifact decodes one token after the other",
    "custom_generate": "use logits_processor or stopping_criteria",
    "inputs_embeds": "pass input_ids",
    "past_key_values": (
        "pass the ids of the whole conversation: what the artifact's cache holds of it is reused"
    ),
}
"""Arguments of ``generate`` that are refused, and what to do instead."""


def check_request(
    own: GenerationConfig, given: GenerationConfig | None, arguments: Mapping[str, Any]
) -> None:
    """Check what ``generate`` is asked for, before any work is done.

    Args:
        own: The model's defaults.
        given: The caller's, in place of these.
        arguments: All else, which goes before both.

    Raises:
        GenerationError: something that an artifact cannot do.
    """
    for name, instead in _ARGUMENTS.items():
        if arguments.get(name) is not None:
            raise GenerationError(f"generate: {name} cannot be used with an artifact; {instead}")
    asked = copy.deepcopy(given or own)
    for name in arguments.keys() & vars(asked).keys():
        setattr(asked, name, arguments[name])
    if (mode := asked.get_generation_mode()) not in _MODES:
        raise GenerationError(
            f"generate: got {mode.value}, expected greedy search or sampling; leave out num_beams "
            "and what else asks for it"
        )
    for name, served in _SETTINGS.items():
        if (value := getattr(asked, name, None)) not in served:
            raise GenerationError(f"generate: got {name}={value!r}; {_WHY[name]}, so leave it out")


def check_batch(input_ids: torch.Tensor) -> None:
    """Raise GenerationError unless ``input_ids`` is one sequence, [1,S] with S at least 1."""
    shape = list(input_ids.shape)
    if len(shape) != 2 or min(shape) < 1:
        raise GenerationError(f"input_ids: got shape {shape}, expected [1, tokens]")
    if shape[0] > 1:
        raise GenerationError(
            f"input_ids: got a batch of {shape[0]}, expected one sequence: each has neurons of its "
            "own; call generate() for one after the other (a pipeline does with batch_size=1)"
        )


def unpadded(input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> list[int]:
    """The tokens of a sequence [1,S] without the padding at its left.

    Raises:
        GenerationError: the mask leaves out tokens elsewhere, or has another shape.
    """
    tokens: list[int] = input_ids[0].tolist()
    if attention_mask is None:
        return tokens
    if attention_mask.shape != input_ids.shape:
        raise GenerationError(
            f"attention_mask: got shape {list(attention_mask.shape)}, expected that of input_ids, "
            f"{list(input_ids.shape)}"
        )
    seen = [bool(value) for value in attention_mask[0].tolist()]
    padding = len(seen) - sum(seen)
    if any(seen[:padding]) or padding == len(seen):
        raise GenerationError(
            "attention_mask: it masks tokens in the middle or at the end, or all; expected padding "
            "at the left alone: set tokenizer.padding_side = 'left', or do not pad"
        )
    return tokens[padding:]
