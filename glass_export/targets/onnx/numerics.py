"""The eager model with the numbers of an integer artifact of this target.

ONNX Runtime's ``MatMulNBits`` rounds its input as the project's ``Linear`` does, block by block, so
both forms share everything but the down projection. Legend: D model width, F FFN width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from glass_export.bundles import Bytes, FloatArray
from glass_export.recipe import TargetRecipe
from glass_export.spec import FfnSite
from glass_export.targets.integer import rounded_ffns, rounded_linears
from glass_export.targets.onnx.nbits import CHANNEL_BLOCK, dequantise_channels, quantise_channels
from glass_export.targets.rounding import Codec, rounded


@contextmanager
def rounded_model(
    model: PreTrainedModel, sites: list[FfnSite], options: TargetRecipe
) -> Iterator[None]:
    """Inside the block ``model`` computes as an artifact of these options does.

    Raises:
        LoweringError: see integer.rounded_ffns and integer.rounded_linears.
    """
    if options.dtype == "fp32":
        yield
        return
    down = None if options.custom_ops else by_channels
    with (
        rounded_linears(model, sites, options.dtype),
        rounded_ffns(model, sites, options.dtype, down=down),
    ):
        yield


def by_channels(layer: nn.Module, scratch: BinaryIO) -> nn.Module:
    """The portable form's down projection: see nbits.quantise_channels."""
    codec = _channel_codec(layer.get_parameter("weight").shape[1])
    return nn.Sequential(_RoundedBlocks(), rounded(layer, codec, scratch))


def _channel_codec(width: int) -> Codec:
    """Rows as bytes: integers | scale."""

    def encode(rows: FloatArray) -> Bytes:
        integers, scales = quantise_channels(rows)
        return np.concatenate([integers.reshape(len(rows), -1), scales.view(np.uint8)], axis=1)

    def decode(stored: Bytes) -> FloatArray:
        integers, scales = stored[:, :-4], np.ascontiguousarray(stored[:, -4:]).view(np.float32)
        return dequantise_channels(integers, scales, width)

    return Codec(encode, decode)


class _RoundedBlocks(nn.Module):
    """The activation h as MatMulNBits sees it: int8 with one scale for each block of neurons."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Shape: [..,F] -> [..,F]."""
        width = hidden.shape[-1]
        padded = functional.pad(hidden, (0, -width % CHANNEL_BLOCK)).unflatten(
            -1, (-1, CHANNEL_BLOCK)
        )
        largest = padded.abs().amax(-1, keepdim=True).clamp_min(1e-30)
        meant: Tensor = torch.round(padded * (127 / largest)) * (largest / 127)
        return meant.flatten(-2)[..., :width]
