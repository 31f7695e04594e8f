"""Positions of the tokens of a call, for models that learn an embedding for each."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("glass_ir::positions", mutates_args=())
def positions(input_ids: Tensor, position: Tensor) -> Tensor:
    """The cache position of every token, where the first one has ``position``.

    Shape: input_ids int64 [B,S], position int64 [1] -> int64 [1,S].
    """
    return (torch.arange(input_ids.shape[1], device=input_ids.device) + position)[None]


@positions.register_fake
def _(input_ids: Tensor, position: Tensor) -> Tensor:
    return input_ids.new_empty(1, input_ids.shape[1])
