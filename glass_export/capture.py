"""Trace a model once into its prefill and decode graphs of semantic operators."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from transformers import PreTrainedModel

from glass_export.errors import LoweringError
from glass_export.graph import CapturedGraph, Weight
from glass_export.nn.ffn import ScoringFfn, SparseFfn
from glass_export.nn.graphs import DecodeModule, PrefillModule
from glass_export.nn.streamed import Matrix, matrices
from glass_export.nn.swap import semantic_ops
from glass_export.spec import FfnSite

_EXAMPLE_TOKENS = 7
_EXAMPLE_ROWS = 3


def capture(
    model: PreTrainedModel, sites: list[FfnSite], *, max_length: int
) -> tuple[CapturedGraph, CapturedGraph]:
    """Trace prefill and decode with torch.export; weights are referred to, not copied.

    Args:
        model: A decoder model in eval mode, float32.
        sites: Its FFNs.
        max_length: Context length C in tokens.

    Returns:
        The prefill and the decode graph. Inputs and outputs are those of nn.graphs.

    Raises:
        LoweringError: torch.export cannot trace the model.
        UnsupportedModelError: a part of the model has no semantic operator.
    """
    keys_values = caches(model, max_length)
    with torch.no_grad():
        with semantic_ops(model, sites, ScoringFfn, max_length):
            prefill = _trace("prefill", PrefillModule(model), *_prefill_example(keys_values))
            behind = matrices(model)
        with semantic_ops(model, sites, SparseFfn, max_length):
            decode = _trace("decode", DecodeModule(model), *_decode_example(sites, keys_values))
            behind |= matrices(model)
    layers = range(len(keys_values[0]))
    cache_names = tuple(f"{kind}_cache.{i}" for kind in ("key", "value") for i in layers)
    return (
        _captured("prefill", prefill, ("logits", "abs_sum", "sq_sum", *cache_names), behind),
        _captured("decode", decode, ("logits", *cache_names), behind),
    )


def caches(model: PreTrainedModel, max_length: int) -> tuple[list[Tensor], list[Tensor]]:
    """Key and value caches of a model, L x [1,G,C,E] each, not filled."""
    config = model.config
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    shape = (1, groups, max_length, width)
    keys, values = ([torch.empty(shape) for _ in range(config.num_hidden_layers)] for _ in range(2))
    return keys, values


def _prefill_example(
    caches: tuple[list[Tensor], list[Tensor]],
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    tokens, rows = Dim("T"), Dim("N")
    inputs = (
        torch.ones(1, _EXAMPLE_TOKENS, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
        torch.ones(_EXAMPLE_TOKENS),
        torch.arange(_EXAMPLE_ROWS),
        *caches,
    )
    fixed = [None] * len(caches[0])
    return inputs, ({1: tokens}, None, {0: tokens}, {0: rows}, fixed, fixed)


def _decode_example(
    sites: list[FfnSite], caches: tuple[list[Tensor], list[Tensor]]
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    kept = max(2, sites[0].d_ff // 2)
    inputs = (
        torch.ones(1, 1, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
        torch.arange(kept, dtype=torch.int32).repeat(sum(site.rows for site in sites), 1),
        *caches,
    )
    fixed = [None] * len(caches[0])
    return inputs, (None, None, {1: Dim("K")}, fixed, fixed)


def _trace(
    name: str, module: nn.Module, inputs: tuple[Any, ...], dynamic: tuple[Any, ...]
) -> ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.export").setLevel(logging.ERROR)
        try:
            return torch.export.export(module.eval(), inputs, dynamic_shapes=dynamic, strict=False)
        except Exception as problem:
            raise LoweringError(
                f"{name}: torch.export could not trace the model: {problem}"
            ) from problem


def _captured(
    name: str, program: ExportedProgram, outputs: tuple[str, ...], streamed: Mapping[int, Matrix]
) -> CapturedGraph:
    """Lift an exported program: one weight per distinct tensor, so that tied weights stay tied.

    ``streamed``: what is behind stand-ins; see nn.streamed.matrices.
    """
    signature = program.graph_signature
    held: dict[str, Tensor] = {**program.state_dict, **program.constants}
    owners = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    graph = CapturedGraph(name, program.graph, tuple(signature.user_inputs), outputs)
    first_of: dict[tuple[int, torch.Size], Any] = {}
    for node in list(graph.graph.nodes):
        if node.op != "placeholder" or node.name not in owners:
            continue
        tensor = held[owners[node.name]]
        key = (tensor.data_ptr(), tensor.shape)
        if key in first_of and tensor.numel() > 1:
            node.replace_all_uses_with(first_of[key])
            graph.graph.erase_node(node)
            continue
        first_of[key] = node
        label = owners[node.name].removeprefix("model.")
        matrix = streamed.get(tensor.data_ptr())
        graph.weights[node.name] = (
            Weight.of(label, tensor) if matrix is None else Weight.streamed(label, matrix)
        )
    graph.prune()
    return graph
