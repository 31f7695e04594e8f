"""Tables in the place of rotary embeddings. Legend: C context length, R rotated width."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from glass_export.errors import UnsupportedModelError


class RotaryTables(nn.Module):
    """Stands for a rotary embedding: returns whole tables [C,R/2] instead of the current rows."""

    def __init__(self, original: nn.Module, name: str, length: int, layer_types: list[str]) -> None:
        super().__init__()
        self.keys = {kind: f"cos_sin_{kind}" for kind in layer_types} or {"": "cos_sin"}
        for kind, key in self.keys.items():
            for part, table in zip(
                ("cos", "sin"), _tables(original, name, length, kind), strict=True
            ):
                self.register_buffer(key.replace("cos_sin", part), table, persistent=False)

    def forward(self, x: Tensor, position_ids: Tensor, layer_type: str = "") -> tuple[Any, Any]:
        """The cosine and sine tables of a layer type."""
        key = self.keys[layer_type]
        return getattr(self, key.replace("cos_sin", "cos")), getattr(
            self, key.replace("cos_sin", "sin")
        )


def check_context(model: PreTrainedModel, max_length: int) -> None:
    """Raise UnsupportedModelError when the model rotates a long text by other angles than a short
    one, and ``max_length`` tokens are a long one.
    """
    for name, module in model.named_modules():
        if type(module).__name__.endswith("RotaryEmbedding"):
            RotaryTables(_in_memory(module), name, max_length, rotary_kinds(model, module))


def _in_memory(rotary: Any) -> nn.Module:
    """The module itself, or one like it where the model is on the meta device."""
    if not any(buffer.is_meta for buffer in rotary.buffers()):
        return cast(nn.Module, rotary)
    with torch.device("cpu"):
        return cast(nn.Module, type(rotary)(rotary.config))


def rotary_kinds(model: PreTrainedModel, module: nn.Module) -> list[str]:
    """The layer types that a rotary embedding tells apart."""
    if not hasattr(module, "layer_types"):
        return []
    return sorted(set(getattr(model.config, "layer_types", None) or []))


def _tables(original: nn.Module, name: str, length: int, kind: str) -> tuple[Tensor, Tensor]:
    positions, arguments = torch.arange(length)[None], [kind] if kind else []
    short = original(torch.zeros(1), positions[:, :2], *arguments)
    whole = original(torch.zeros(1), positions, *arguments)
    if not all(torch.equal(a, b[:, :2]) for a, b in zip(short, whole, strict=True)):
        raise UnsupportedModelError(
            f"{name}: a text of {length} tokens is rotated by other angles than a short one, which "
            f"keys in a cache cannot follow; set export.max_length to at most {_short(original)}"
        )
    halves = []
    for table in whole:
        first, second = table[0].float().chunk(2, dim=-1)
        if not torch.equal(first, second):
            raise UnsupportedModelError(
                f"{name}: {type(original).__name__} is not of the two-halves layout"
            )
        halves.append(first.contiguous())
    return halves[0], halves[1]


def _short(rotary: Any) -> object:
    """Up to which length the angles stay the same."""
    return rotary.config.rope_parameters.get(
        "original_max_position_embeddings", rotary.config.max_position_embeddings
    )
