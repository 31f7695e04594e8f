"""Capture of every family: what the graphs contain, and that the model is left as it was."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from tiny_models import CONFIGS, CONTEXT, D_FF, LAYERS, SHALLOW, tiny_model
from torch import nn

from glass_export.capture import caches, capture
from glass_export.errors import LoweringError, UnsupportedModelError
from glass_export.families import find_ffns, known_families
from glass_export.graph import CapturedGraph
from glass_export.nn.ffn import SparseFfn
from glass_export.nn.graphs import DecodeModule
from glass_export.nn.swap import semantic_ops
from glass_export.passes import default_passes
from glass_export.verify.eager import masked

glass, aten = torch.ops.glass_ir, torch.ops.aten


def captured(family: str, layers: int = LAYERS) -> tuple[CapturedGraph, CapturedGraph]:
    model = tiny_model(family, layers=layers)
    return capture(model, find_ffns(model), max_length=CONTEXT)


def calls(graph: CapturedGraph, target: object) -> int:
    return sum(1 for _ in graph.nodes(target))


def test_every_family_has_a_tiny_model() -> None:
    assert known_families() == sorted({config.model_type for config in CONFIGS.values()})


@pytest.mark.parametrize("family", CONFIGS)
def test_sites_tell_where_and_how_wide(family: str) -> None:
    sites = find_ffns(tiny_model(family))
    dense = 1 if family == "qwen3_moe" else 0  # a first layer without experts, of another width
    assert [s.layer for s in sites] == list(range(dense, LAYERS))
    assert [s.row for s in sites] == [0, *accumulate(s.rows for s in sites)][:-1]
    assert {(s.d_model, s.d_ff) for s in sites} == {(64, D_FF)}
    others = {"gpt_neox": "gelu", "opt": "relu", "phi": "gelu_tanh"}
    wanted = "gelu_tanh" if "gemma" in family else others.get(family, "silu")
    assert {s.activation for s in sites} == {wanted}
    assert {s.gate is None for s in sites} == {family in others}


def test_an_unknown_family_is_named_with_the_known_ones() -> None:
    model = tiny_model("llama")
    model.config.model_type = "lama"
    with pytest.raises(UnsupportedModelError, match=r"'lama'.*did you mean 'llama'.*qwen2"):
        find_ffns(model)


def test_an_ffn_with_biases_is_refused() -> None:
    model = tiny_model("llama")
    model.model.layers[1].mlp.up_proj.bias = nn.Parameter(torch.zeros(D_FF))
    with pytest.raises(UnsupportedModelError, match="layer 1: the FFN has biases"):
        find_ffns(model)


@pytest.mark.parametrize("family", CONFIGS)
def test_graphs_are_semantic_operators_only(family: str) -> None:
    layers = SHALLOW[family]
    sites = find_ffns(tiny_model(family, layers=layers))
    routed = sum(bool(site.experts) for site in sites)
    prefill, decode = (default_passes()(g).graph for g in captured(family, layers))
    forms = (glass.scoring_ffn, glass.scoring_experts), (glass.sparse_ffn, glass.sparse_experts)
    for graph, (ffn, experts) in zip((prefill, decode), forms, strict=True):
        assert calls(graph, glass.rotary_attention.default) == layers
        assert calls(graph, ffn.default) == len(sites) - routed
        assert calls(graph, experts.default) == calls(graph, glass.route.default) == routed
        assert not calls(graph, aten.transpose.int) and not calls(graph, glass.rope.default)
        assert sum(1 for n in graph.nodes() if "sym_size" in str(n.target)) == 0
    assert prefill.inputs[:4] == ("input_ids", "position", "score_weights", "logit_rows")
    assert decode.inputs[:3] == ("input_ids", "position", "ffn_idx")


@pytest.mark.parametrize("family", ["qwen2", "gemma3_text", "phi3"])
def test_tied_embeddings_are_one_weight(family: str) -> None:
    prefill, _ = captured(family, layers=1)
    assert sum("embed_tokens.weight" in w.name or "lm_head" in w.name
               for w in prefill.weights.values()) == 1  # fmt: skip


def test_both_graphs_name_their_common_weights_alike() -> None:
    prefill, decode = (default_passes()(g).graph for g in captured("gemma3_text"))
    names = [{w.name for w in g.weights.values()} for g in (prefill, decode)]
    assert names[0] == names[1]


def test_a_fused_projection_is_referred_to_by_halves() -> None:
    model = tiny_model("phi3")
    prefill, _ = capture(model, find_ffns(model), max_length=CONTEXT)
    held = {w.name: w.load() for w in prefill.weights.values()}
    fused = model.model.layers[1].mlp.gate_up_proj.weight
    halves = [held[f"model.layers.1.mlp.{part}.weight"] for part in ("gate", "up")]
    assert [half.data_ptr() for half in halves] == [fused.data_ptr(), fused[D_FF:].data_ptr()]
    assert torch.equal(torch.cat(halves), fused)


def test_weights_are_referred_to_not_copied() -> None:
    model = tiny_model("llama")
    prefill, _ = capture(model, find_ffns(model), max_length=CONTEXT)
    held = {w.name: w.load().data_ptr() for w in prefill.weights.values()}
    gate = model.model.layers[0].mlp.gate_proj.weight
    assert held["model.layers.0.mlp.gate_proj.weight"] == gate.data_ptr()


@pytest.mark.parametrize("family", CONFIGS)
def test_capture_leaves_the_model_as_it_was(family: str) -> None:
    model = tiny_model(family, layers=SHALLOW[family])
    tokens = torch.arange(20)[None]
    before, modules = model(tokens).logits, [type(m) for m in model.modules()]
    capture(model, find_ffns(model), max_length=CONTEXT)
    assert torch.equal(model(tokens).logits, before)
    assert [type(m) for m in model.modules()] == modules


@pytest.mark.parametrize("family", CONFIGS)
def test_semantic_decode_is_the_eager_model_with_other_neurons_masked(family: str) -> None:
    model, length = tiny_model(family), 13
    sites = find_ffns(model)
    rows = range(sum(site.rows for site in sites))
    kept = torch.stack([torch.randperm(D_FF)[:17].sort().values for _ in rows]).int()
    tokens = torch.randint(0, 300, (1, length))
    with masked(model, sites, kept.numpy(), first=0):
        wanted = model(tokens).logits
    keys, values = ([torch.zeros_like(c) for c in part] for part in caches(model, CONTEXT))
    got = []
    with semantic_ops(model, sites, SparseFfn, CONTEXT):
        decode = DecodeModule(model)
        for position in range(length):
            logits, keys, values = decode(
                tokens[:, position : position + 1], torch.tensor([position]), kept, keys, values
            )
            got.append(logits)
    assert torch.allclose(torch.cat(got, 1), wanted, atol=1e-5)


def test_an_untraceable_model_is_a_lowering_error() -> None:
    model = tiny_model("llama")

    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    model.model.embed_tokens = nn.Sequential(model.model.embed_tokens, Branches())
    with pytest.raises(LoweringError, match="prefill: torch.export could not trace"):
        capture(model, find_ffns(model), max_length=CONTEXT)
