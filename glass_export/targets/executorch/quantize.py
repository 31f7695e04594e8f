"""Number formats of the linears and embeddings, by torchao; FFN weights stay float32.

``int8``: linears with 8-bit rows and 8-bit activations per token (8da8w), embeddings with 8-bit
rows. ``int4``: linears and embeddings with 4-bit groups of 32 (8da4w).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torchao.quantization.granularity import Granularity, PerAxis, PerGroup
from torchao.quantization.quant_api import (
    Int8DynamicActivationIntxWeightConfig,
    IntxWeightOnlyConfig,
    quantize_,
)
from torchao.utils import unwrap_tensor_subclass
from transformers import PreTrainedModel

from glass_export.errors import LoweringError
from glass_export.recipe import Dtype
from glass_export.spec import FfnSite
from glass_export.targets.base import FP32_TOLERANCE

GROUP = 32
TOLERANCES: dict[Dtype, float] = {"fp32": FP32_TOLERANCE, "int8": 5e-2, "int4": 5e-2}
"""Quantised activations are rounded: a last-bit difference before it becomes a step of 1/127."""

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
    if dtype == "fp32":
        yield
        return
    ffns = tuple(f"{site.path}." for site in sites)
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    for name, module in list(model.named_modules()):
        if isinstance(module, (nn.Linear, nn.Embedding)) and not name.startswith(ffns):
            parent, leaf = model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
            replaced.append((parent, leaf, module))
    try:
        for parent, leaf, module in replaced:
            clone = copy.copy(module)  # shares the weights, which quantisation replaces
            clone._parameters = dict(module._parameters)
            setattr(parent, leaf, nn.Sequential(clone))
            _apply(getattr(parent, leaf), dtype)
        yield
    finally:
        for parent, leaf, module in replaced:
            setattr(parent, leaf, module)


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
