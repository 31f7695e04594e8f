"""The dense program that a careful ExecuTorch user would export: the bar for ours.

    python tests/bench/dense_xnnpack.py smollm2 smollm2-int4-dense.pte --dtype int4

It is the model of ``glass-export bench --against xnnpack``: linears and everything else that
XNNPACK takes in its delegates, ``llama.update_cache`` and ``llama.custom_sdpa`` for attention, one
static one-token method.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.passes import MemoryPlanningPass
from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  (registers llama::*)
from torch import Tensor, fx, nn

from glass_export.capture import capture
from glass_export.families import find_ffns
from glass_export.graph import Weight
from glass_export.load import load_model
from glass_export.log import third_party_silence
from glass_export.ops.ffn import ACTIVATIONS
from glass_export.passes import default_passes
from glass_export.recipe import Dtype, resolve
from glass_export.targets.executorch import quantize
from glass_export.targets.executorch.constants import ConstantStore
from glass_export.targets.executorch.module import Dialect, LoweredModule
from glass_export.targets.executorch.portable import PORTABLE
from glass_export.targets.executorch.program import trace


def _matrices(gate: Weight, up: Weight, down: Weight) -> dict[str, Weight]:
    return {"gate": gate, "up": up, "down": down}


def _ffn(m: LoweredModule, node: fx.Node) -> Tensor:
    x, layer, activation = m.value(node.args[0]), node.args[-2], node.args[-1]
    gate, up, down = (m.get_submodule(f"ffn_{layer}_{part}") for part in ("gate", "up", "down"))
    return down(ACTIVATIONS[str(activation)](gate(x)) * up(x))


def _linears_for_ffns(m: LoweredModule) -> None:
    """FFN weights as modules like every other linear, for quantisation and XNNPACK."""
    for site in m.sites:
        for part in ("gate", "up", "down"):
            name = f"ffn_{site.layer}_{part}"
            weight = m.get_buffer(name)
            delattr(m, name)
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
            layer.weight = nn.Parameter(weight, requires_grad=False)
            m.add_module(name, layer)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = cos.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def _attention(m: LoweredModule, node: fx.Node) -> Any:
    query, key, value, keys, values, position, cos, sin, heads, scale, window, softcap = map(
        m.value, node.args
    )
    if window or softcap:
        raise NotImplementedError("llama.custom_sdpa has no window and no soft cap")
    _, groups, width = keys.shape[1:]
    length = keys.shape[1]
    if key is None:
        query, key, value = query.split([heads * width, groups * width, groups * width], -1)
    if "start" not in m.memo:
        start = position[0].item()
        torch._check(start >= 0)
        torch._check(start < length)
        tables = (torch.cat([t, t], -1).narrow(0, start, 1)[None, :, None] for t in (cos, sin))
        m.memo["start"] = start, *tables
    start, cos, sin = m.memo["start"]
    query = _rotate(query.view(1, 1, heads, width), cos, sin)
    key = _rotate(key.view(1, 1, groups, width), cos, sin)
    torch.ops.llama.update_cache(key, keys, start)
    torch.ops.llama.update_cache(value.view(1, 1, groups, width), values, start)
    out = torch.ops.llama.custom_sdpa(query, keys, values, start, None, 0.0, True, scale)
    return [out.reshape(1, 1, heads * width), None, None]


DENSE = Dialect(
    {
        **PORTABLE.translators,
        torch.ops.glass_ir.rotary_attention.default: _attention,
        torch.ops.glass_ir.sparse_ffn.default: _ffn,
    },
    ffn_weights=_matrices,
)


class _Decode(nn.Module):
    """The decode graph without its neuron indices; caches are [1,C,G,E] as the llm ops want."""

    def __init__(self, lowered: LoweredModule) -> None:
        super().__init__()
        for name, cache in list(lowered.named_buffers()):
            if name.startswith(("key_cache", "value_cache")):
                lowered.register_buffer(name, torch.zeros(cache.transpose(1, 2).shape))
        self.lowered, self.source = lowered, lowered.source

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.lowered(*inputs, None)[0]


def export(model: str, dtype: Dtype, max_length: int, path: Path) -> None:
    """Write the dense program of a recipe's model with the single method ``forward``.

    Args:
        model: A recipe, a hub id, or a folder, as ``glass-export --model``.
        dtype: Of all linears, those of FFNs too, and of the embedding.
        max_length: Context in tokens; that of the artifact which it is compared with.
        path: File to write.
    """
    loaded = load_model(resolve(model).model)
    sites = find_ffns(loaded.model)
    graph = default_passes()(capture(loaded.model, sites, max_length=max_length)[1]).graph
    module = LoweredModule(graph, tuple(sites), ConstantStore(), DENSE)
    _linears_for_ffns(module)
    quantize.quantize(module, dtype)
    inputs = (torch.ones(1, 1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    program = trace(_Decode(module), inputs, (None, None))
    with torch.no_grad(), third_party_silence():
        edge = to_edge_transform_and_lower(
            program,
            partitioner=[XnnpackPartitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
        )
        lowered = edge.to_executorch(
            ExecutorchBackendConfig(
                memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False),
                extract_delegate_segments=True,
                do_quant_fusion_and_const_prop=True,
            )
        )
        with path.open("wb") as file:
            lowered.write_to_file(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="as of glass-export --model")
    parser.add_argument("output", type=Path, help="the .pte file to write")
    parser.add_argument("--dtype", choices=get_args(Dtype), default="fp32")
    parser.add_argument("--max-length", type=int, help="context in tokens; default: the recipe's")
    options = parser.parse_args()
    length = options.max_length or resolve(options.model).export.max_length
    export(options.model, options.dtype, length, options.output)


if __name__ == "__main__":
    main()
