"""Number formats of linears and embeddings in stock operators, by torchao; FFNs stay float32.

``int8``: linears with 8-bit rows and 8-bit activations per token (8da8w), embeddings with 8-bit
rows. ``int4``: linears and embeddings with 4-bit groups of 32 (8da4w).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchao.quantization.granularity import Granularity, PerAxis, PerGroup
from torchao.quantization.quant_api import (
    Int8DynamicActivationIntxWeightConfig,
    IntxWeightOnlyConfig,
    quantize_,
)
from torchao.quantization.quantize_.workflows.intx.intx_unpacked_to_int8_tensor import (
    _apply_int8_act_asym_per_token_quant_dequant,
)
from torchao.utils import unwrap_tensor_subclass
from transformers import PreTrainedModel

from glass_export.errors import LoweringError
from glass_export.recipe import Dtype
from glass_export.spec import FfnSite
from glass_export.targets.integer import swap
from glass_export.targets.rounding import with_weight

GROUP = 32
_FORMATS: dict[str, tuple[torch.dtype, Granularity]] = {
    "int8": (torch.int8, PerAxis(0)),
    "int4": (torch.int4, PerGroup(GROUP)),  # type: ignore[attr-defined]  # not in its stubs
}


def quantize(module: nn.Module, dtype: Dtype) -> None:
    """Quantise the linears and embeddings of a module in place, ready for torch.export.

    Raises:
        LoweringError: a row is not a whole number of groups.
    """
    if dtype == "fp32":
        return
    _apply(module, dtype)
    unwrap_tensor_subclass(module)


@contextmanager
def quantized(model: PreTrainedModel, sites: list[FfnSite], dtype: Dtype) -> Iterator[None]:
    """Inside the block ``model`` computes with quantised linears and embeddings outside its FFNs.

    Raises:
        LoweringError: see :func:`quantize`.
    """
    ffns = {path for site in sites for path in site.linears}
    with ExitStack() as undo:
        for name, layer in list(model.named_modules()) if dtype != "fp32" else []:
            if isinstance(layer, (nn.Linear, nn.Embedding)) and name not in ffns:
                swap(undo, model, name, _rounded(layer, dtype))
        yield


def _rounded(layer: nn.Linear | nn.Embedding, dtype: Dtype) -> nn.Module:
    """A copy of a layer whose weights, and a linear's inputs, are rounded as quantisation does."""
    quantised = with_weight(layer, layer.weight)
    _apply(nn.Sequential(quantised), dtype)
    weight: Any = quantised.weight
    if isinstance(layer, nn.Linear) and dtype == "int4":
        weight.scale = weight.scale.bfloat16().float()  # as XNNPACK stores the scales of groups
    rounded = with_weight(layer, weight.dequantize())
    return nn.Sequential(_RoundedTokens(), rounded) if isinstance(layer, nn.Linear) else rounded


class _RoundedTokens(nn.Module):
    """Activations as the 8-bit dynamic quantisation of a linear sees them, token by token."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape: x [..,D] -> [..,D]."""
        rounded: Tensor = _apply_int8_act_asym_per_token_quant_dequant(x)
        return rounded


def _apply(module: nn.Module, dtype: Dtype) -> None:
    weight_dtype, granularity = _FORMATS[dtype]
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Linear, nn.Embedding)) and dtype == "int4":
            _require_groups(name, int(layer.weight.shape[1]))
    quantize_(
        module,
        IntxWeightOnlyConfig(weight_dtype=weight_dtype, granularity=granularity),
        lambda layer, _: isinstance(layer, nn.Embedding),
    )
    quantize_(
        module,
        Int8DynamicActivationIntxWeightConfig(
            weight_dtype=weight_dtype, weight_granularity=granularity
        ),
        lambda layer, _: isinstance(layer, nn.Linear),
    )


def _require_groups(name: str, width: int) -> None:
    if width % GROUP:
        raise LoweringError(
            f"{name}: rows of {width} weights, but int4 needs a multiple of {GROUP}; "
            "use --dtype int8 or fp32"
        )
