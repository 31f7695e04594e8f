"""Swap a Hugging Face model's attention, norms, rotary embedding and FFNs for semantic operators.

Nothing here knows a family: norms and rotary embeddings are recognised by class name and checked
numerically against the operator that takes their place.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from glass_export import ops
from glass_export.errors import UnsupportedModelError
from glass_export.nn.ffn import ScoringFfn, SparseFfn, replaced_ffns
from glass_export.nn.state import current
from glass_export.spec import FfnSite

ATTENTION_NAME = "glass"


class SemanticNorm(nn.Module):
    """Stands for any RMS norm; the effective weight is the original's own parameter or 1 + it."""

    def __init__(self, original: nn.Module, name: str) -> None:
        super().__init__()
        self.eps = float(getattr(original, "variance_epsilon", getattr(original, "eps", 0.0)))
        parameter = original.get_parameter("weight")
        probe = torch.linspace(-2.0, 3.0, parameter.numel(), device=parameter.device)
        expected = original(probe[None])[0]
        for weight in (parameter, nn.Parameter(1.0 + parameter.detach(), requires_grad=False)):
            got = ops.rms_norm(probe[None], weight, self.eps)[0]
            if torch.allclose(got, expected, rtol=1e-5, atol=1e-6):
                self.weight = weight
                return
        raise UnsupportedModelError(
            f"{name}: {type(original).__name__} is not an RMS norm with weight w or 1 + w"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape: x [..., D] -> [..., D]."""
        out: Tensor = ops.rms_norm(x, self.weight, self.eps)
        return out


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


def _tables(original: nn.Module, name: str, length: int, kind: str) -> tuple[Tensor, Tensor]:
    positions = torch.arange(length)[None]
    arguments = (torch.zeros(1), positions, *([kind] if kind else []))
    halves = []
    for table in original(*arguments):
        first, second = table[0].float().chunk(2, dim=-1)
        if not torch.equal(first, second):
            raise UnsupportedModelError(
                f"{name}: {type(original).__name__} is not of the two-halves layout"
            )
        halves.append(first.contiguous())
    return halves[0], halves[1]


def _rotary(
    query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, Tensor]:
    position = current().position
    rotated = (ops.rope(x.transpose(1, 2), cos, sin, position) for x in (query, key))
    new_query, new_key = (x.transpose(1, 2) for x in rotated)
    return new_query, new_key


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    state, layer = current(), int(module.layer_idx)  # type: ignore[arg-type]  # set by transformers
    heads, width = query.shape[1], query.shape[3]
    out, state.key_caches[layer], state.value_caches[layer] = ops.attention(
        *(x.transpose(1, 2).flatten(2) for x in (query, key, value)),
        state.key_caches[layer],
        state.value_caches[layer],
        state.position,
        heads,
        float(scaling if scaling is not None else width**-0.5),
        int(sliding_window or 0),
        float(softcap or 0.0),
    )
    return out.unflatten(-1, (heads, width)), None


@contextmanager
def semantic_ops(
    model: PreTrainedModel,
    sites: list[FfnSite],
    ffn: type[ScoringFfn] | type[SparseFfn],
    max_length: int,
) -> Iterator[PreTrainedModel]:
    """Swap the parts of ``model`` in place; everything is put back when the block ends.

    Args:
        model: A decoder model in eval mode.
        sites: Its FFNs.
        ffn: Form of the FFN: ScoringFfn for prefill, SparseFfn for decode.
        max_length: Rows C of the rotary tables.

    Raises:
        UnsupportedModelError: a norm or rotary embedding is of an unknown form.
    """
    AttentionInterface.register(ATTENTION_NAME, _attention)
    AttentionMaskInterface.register(ATTENTION_NAME, lambda *_, **__: None)
    layer_types = sorted(set(getattr(model.config, "layer_types", None) or []))
    with ExitStack() as undo:
        for name, module in list(model.named_modules()):
            kind = type(module).__name__
            if kind.endswith("RMSNorm"):
                _replace(undo, model, name, SemanticNorm(module, name))
            elif kind.endswith("RotaryEmbedding"):
                own = layer_types if hasattr(module, "layer_types") else []
                _replace(undo, model, name, RotaryTables(module, name, max_length, own))
        undo.enter_context(replaced_ffns(model, sites, lambda site: ffn(model, site)))
        modelling = sys.modules[type(model).__module__]
        undo.enter_context(patch.object(modelling, "apply_rotary_pos_emb", _rotary))
        undo.enter_context(
            patch.object(model.config, "_attn_implementation_internal", ATTENTION_NAME)
        )
        yield model


def _replace(undo: ExitStack, model: nn.Module, path: str, new: nn.Module) -> None:
    parent = model.get_submodule(path.rpartition(".")[0])
    leaf = path.rpartition(".")[2]
    undo.callback(setattr, parent, leaf, getattr(parent, leaf))
    setattr(parent, leaf, new)
