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

from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from glass_export import ops
from glass_export.nn.experts import EXPERTS, SemanticRouter
from glass_export.nn.ffn import ScoringFfn, SparseFfn, replaced_ffns
from glass_export.nn.norms import SemanticHeadNorm, SemanticLayerNorm, SemanticNorm
from glass_export.nn.rotary import RotaryTables, rotary_kinds
from glass_export.nn.state import current
from glass_export.spec import FfnSite

ATTENTION_NAME = "glass"


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
    with ExitStack() as undo:
        for name, module in list(model.named_modules()):
            kind = type(module).__name__
            if kind.endswith("LayerNormPerHead"):
                _replace(undo, model, name, SemanticHeadNorm(module, name))
        for name, module in list(model.named_modules()):
            kind = type(module).__name__
            if kind.endswith("RMSNorm"):
                _replace(undo, model, name, SemanticNorm(module, name))
            elif kind.endswith("LayerNorm"):
                _replace(undo, model, name, SemanticLayerNorm(module, name))
            elif kind.endswith("TopKRouter"):
                _replace(undo, model, name, SemanticRouter(module, name))
            elif kind.endswith("RotaryEmbedding"):
                kinds = rotary_kinds(model, module)
                _replace(undo, model, name, RotaryTables(module, name, max_length, kinds))
        undo.enter_context(
            replaced_ffns(model, sites, lambda s: (EXPERTS[ffn] if s.experts else ffn)(model, s))
        )
        modelling = sys.modules[type(model).__module__]
        if hasattr(modelling, "apply_rotary_pos_emb"):
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
