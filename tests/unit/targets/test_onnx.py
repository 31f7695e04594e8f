"""The ONNX target on a tiny model of every family: structure, sharing, and numbers."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from tiny_models import (
    CONTEXT,
    D_FF,
    LAYERS,
    MAIN,
    STOCK,
    VARIED,
    VOCABULARY,
    every,
    tiny_model,
)
from torch import nn

from glass_export.artifact import Artifact
from glass_export.capture import capture
from glass_export.errors import LoweringError, RecipeError
from glass_export.families import find_ffns
from glass_export.passes import default_passes
from glass_export.recipe import TargetRecipe
from glass_export.runtime.base import PrefillResult
from glass_export.runtime.onnxruntime import OnnxRuntimeBackend
from glass_export.targets import known_targets, load_target
from glass_export.targets.base import LoweringInput
from glass_export.targets.onnx.weights import ALIGNMENT
from glass_export.verify.eager import masked, score_sums

Exported = Callable[[str], Path]
ROLES = ("prefill", "decode", "pack")


@pytest.fixture(params=every(*MAIN, *VARIED, of=STOCK))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def graph_of(folder: Path, role: str) -> onnx.ModelProto:
    return onnx.load(folder / f"{role}.onnx", load_external_data=False)


def test_graphs_are_valid_onnx(exported: Exported, family: str) -> None:
    for role in ROLES:
        onnx.checker.check_model(exported(family) / f"{role}.onnx")


def test_at_most_20_nodes_a_layer(exported: Exported, family: str) -> None:
    for role in ("prefill", "decode"):
        nodes = graph_of(exported(family), role).graph.node
        attention = [i for i, n in enumerate(nodes) if n.op_type == "GroupQueryAttention"]
        assert len(attention) == LAYERS
        # Two reshapes more where heads have a norm; those of StableLM have scales of their own.
        # OPT joins batch and sequence for its FFN, and scales queries by itself.
        limit = {"gemma3_text": 22, "stablelm_parallel": 24, "opt": 23}.get(family, 20)
        assert attention[-1] - attention[-2] <= limit


def test_every_weight_is_stored_once_and_aligned(exported: Exported, family: str) -> None:
    artifact = Artifact.open(exported(family))
    tensors = artifact.manifest.target.tensors
    assert all(t.offset % ALIGNMENT == 0 for t in tensors)
    model = tiny_model(family)
    parameters = {id(p): p.numel() for p in model.parameters()}
    ours = ("rotary", "prior", ".unit")  # computed; what heads are normalised by before scales
    tables = sum(np.prod(t.shape) for t in tensors if any(part in t.name for part in ours))
    stored = sum(np.prod(t.shape) for t in tensors) - tables
    assert 0 <= stored - sum(parameters.values()) <= 8  # a scalar or so


def test_all_graphs_refer_to_the_one_weights_file(exported: Exported, family: str) -> None:
    where: dict[str, set[str]] = collections.defaultdict(set)
    for role in ROLES:
        for tensor in graph_of(exported(family), role).graph.initializer:
            entry = {e.key: e.value for e in tensor.external_data}
            if entry:
                assert entry["location"] == "weights.bin"
                where[tensor.name].add(entry["offset"])
    assert all(len(offsets) == 1 for offsets in where.values())


def test_the_prior_is_embedded_in_both_graphs(exported: Exported, family: str) -> None:
    prior = Artifact.open(exported(family)).prior()
    for role in ("prefill", "decode"):
        session = ort.InferenceSession(exported(family) / f"{role}.onnx")
        outputs = {o.name for o in session.get_outputs()}
        assert {f"prior.{name}" for name in prior} <= outputs
    for name, got in embedded_prior(exported(family), list(prior)).items():
        assert np.array_equal(got, prior[name])


def embedded_prior(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(folder / "prefill.onnx")
    feeds = {}
    for spec in session.get_inputs():
        shape = [d if isinstance(d, int) else {"C": CONTEXT}.get(d, 1) for d in spec.shape]
        feeds[spec.name] = np.zeros(shape, np.float32 if "float" in spec.type else np.int64)
    return dict(zip(names, session.run([f"prior.{n}" for n in names], feeds), strict=True))


@pytest.fixture
def backend(exported: Exported, family: str) -> OnnxRuntimeBackend:
    backend = OnnxRuntimeBackend(Artifact.open(exported(family)))
    yield backend
    backend.close()


def run(
    backend: OnnxRuntimeBackend,
    tokens: np.ndarray,
    position: int,
    weights: np.ndarray | None = None,
) -> PrefillResult:
    ones = np.ones(len(tokens), np.float32)
    return backend.prefill(
        tokens, position, ones if weights is None else weights, np.arange(len(tokens))
    )


TOKENS = np.random.default_rng(0).integers(2, VOCABULARY, 40)


def eager_logits(family: str, tokens: np.ndarray) -> np.ndarray:
    return tiny_model(family)(torch.from_numpy(tokens)[None]).logits[0].numpy()


@pytest.mark.parametrize("cuts", [[], [1], [1, 2, 17], [31]])
def test_prefill_of_any_length_and_position(
    backend: OnnxRuntimeBackend, family: str, cuts: list[int]
) -> None:
    ends = [*cuts, len(TOKENS)]
    parts = [
        run(backend, TOKENS[begin:end], begin).logits
        for begin, end in zip([0, *cuts], ends, strict=True)
    ]
    np.testing.assert_allclose(np.concatenate(parts), eager_logits(family, TOKENS), atol=2e-5)


def test_scores_count_the_weighted_tokens_alone(backend: OnnxRuntimeBackend, family: str) -> None:
    model = tiny_model(family)
    sites = find_ffns(model)
    weights = np.zeros(len(TOKENS), np.float32)
    weights[5:9] = 1
    got = run(backend, TOKENS, 0, weights).statistics
    with score_sums(model, sites) as sums:
        model(torch.from_numpy(TOKENS[:9])[None])
        after = sums()
        model(torch.from_numpy(TOKENS[:5])[None])
        before = sums()
    assert got.tokens == 4
    np.testing.assert_allclose(got.abs_sum, after[0] - before[0], atol=1e-4)
    np.testing.assert_allclose(got.sq_sum, after[1] - before[1], atol=1e-4)


def test_only_the_wanted_logit_rows_come_out(backend: OnnxRuntimeBackend, family: str) -> None:
    rows = np.array([0, 7, 39])
    got = backend.prefill(TOKENS, 0, np.ones(40, np.float32), rows).logits
    np.testing.assert_allclose(got, eager_logits(family, TOKENS)[rows], atol=2e-5)


def test_dense_decode_continues_prefill_and_prefill_continues_decode(
    backend: OnnxRuntimeBackend, family: str
) -> None:
    wanted = eager_logits(family, TOKENS)
    run(backend, TOKENS[:10], 0)
    for position in range(10, 20):
        got = backend.decode(int(TOKENS[position]), position)
        np.testing.assert_allclose(got, wanted[position], atol=2e-5)
    np.testing.assert_allclose(run(backend, TOKENS[20:], 20).logits, wanted[20:], atol=2e-5)


def test_rewinding_overwrites_the_cache(backend: OnnxRuntimeBackend, family: str) -> None:
    run(backend, TOKENS[::-1].copy(), 0)
    run(backend, TOKENS[:10], 0)
    got = backend.decode(int(TOKENS[10]), 10)
    np.testing.assert_allclose(got, eager_logits(family, TOKENS)[10], atol=2e-5)


@pytest.mark.parametrize("kept", [1, 20, D_FF])
def test_sparse_decode_is_the_eager_model_with_other_neurons_masked(
    backend: OnnxRuntimeBackend, family: str, kept: int
) -> None:
    model, rng = tiny_model(family), np.random.default_rng(kept)
    indices = np.stack([np.sort(rng.permutation(D_FF)[:kept]) for _ in range(LAYERS)]).astype(
        np.int32
    )
    with masked(model, find_ffns(model), indices, first=10):
        wanted = model(torch.from_numpy(TOKENS)[None]).logits[0].numpy()
    run(backend, TOKENS[:10], 0)
    backend.select(indices)
    for position in range(10, len(TOKENS)):
        got = backend.decode(int(TOKENS[position]), position)
        np.testing.assert_allclose(got, wanted[position], atol=2e-5)


def test_another_choice_replaces_the_packed_rows(backend: OnnxRuntimeBackend, family: str) -> None:
    run(backend, TOKENS[:10], 0)
    every = np.tile(np.arange(D_FF, dtype=np.int32), (LAYERS, 1))
    for indices in (every[:, :5], every, every[:, ::2].copy(), None, every):
        backend.select(indices)
    got = backend.decode(int(TOKENS[10]), 10)
    np.testing.assert_allclose(got, eager_logits(family, TOKENS)[10], atol=2e-5)


def test_known_targets_and_the_error_for_another() -> None:
    assert "onnx" in known_targets()
    with pytest.raises(RecipeError, match=r"'onix'.*did you mean 'onnx'"):
        load_target("onix")


def lower(model: nn.Module, folder: Path) -> None:
    sites = find_ffns(model)
    graphs = capture(model, sites, max_length=CONTEXT)
    prefill, decode = (default_passes()(g).graph for g in graphs)
    source = LoweringInput(
        prefill=prefill,
        decode=decode,
        sites=tuple(sites),
        prior={},
        prefill_chunk=8,
        options=TargetRecipe(),
        metadata={},
    )
    load_target("onnx").lower(source, folder)


def test_an_operator_without_translation_is_named(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.erfinv(x)

    model = tiny_model("llama")
    model.model.embed_tokens = nn.Sequential(model.model.embed_tokens, Odd())
    with pytest.raises(LoweringError, match=r"prefill: operator aten\.erfinv.*no ONNX translation"):
        lower(model, tmp_path)


def test_operators_of_the_graphs_are_the_recorded_ones(
    exported: Exported, golden: Callable[[str, Any], Any], family: str
) -> None:
    counts = {
        role: dict(
            sorted(
                collections.Counter(
                    n.op_type for n in graph_of(exported(family), role).graph.node
                ).items()
            )
        )
        for role in ROLES
    }
    assert counts == golden(f"onnx_operators/{family}.json", counts)
