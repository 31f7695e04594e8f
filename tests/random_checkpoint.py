"""Checkpoints of real sizes with random bfloat16 weights, for what does not depend on their values.

They are written a file at a time, so that a model may be larger than memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_models import tiny_tokenizer
from torch import Tensor
from transformers import PreTrainedConfig

from glass_export.hf_folder import skeleton

SHARD_BYTES = 1 << 30
"""A file has at most so much, or a single weight."""
_DRAWN = 1 << 22
"""Random numbers; a weight is filled with runs of them, drawing billions would take minutes."""


def write_checkpoint(
    folder: Path, config: PreTrainedConfig, *, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write config.json, a tokenizer and sharded weights as the configuration draws them."""
    config.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    empty = skeleton(folder, config)
    empty.tie_weights()
    random = torch.Generator().manual_seed(0)
    drawn = torch.randn(_DRAWN, generator=random).mul_(config.initializer_range).bfloat16()
    shapes = {name: parameter.shape for name, parameter in empty.named_parameters()}
    shards, placed = list(_shards(shapes, shard_bytes)), {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {name: _weight(name, shapes[name], drawn, random) for name in names}
        save_file(tensors, folder / file, {"format": "pt"})
        placed |= dict.fromkeys(tensors, file)
    index = {"metadata": {}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _shards(shapes: dict[str, torch.Size], limit: int) -> Iterator[list[str]]:
    names: list[str] = []
    room = limit
    for name, shape in shapes.items():
        size = 2 * shape.numel()
        if size > room and names:
            yield names
            names, room = [], limit
        names.append(name)
        room -= size
    yield names


def _weight(name: str, shape: torch.Size, drawn: Tensor, random: torch.Generator) -> Tensor:
    if "norm" in name:
        return torch.ones(shape, dtype=torch.bfloat16)
    weight = torch.empty(shape, dtype=torch.bfloat16)
    for run in weight.view(-1).split(_DRAWN // 2):
        start = int(torch.randint(_DRAWN - len(run), (), generator=random))
        run.copy_(drawn[start : start + len(run)])
    return weight
