"""SmolLM2 from its wheel to a verified ONNX artifact and answers, by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from real_models import fetched_or_skip, glass_export

from glass_export.artifact import Artifact
from glass_export.runtime import Session
from glass_export.search.candidates import describe

pytestmark = pytest.mark.slow

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def artifact(smollm2: Callable[[str], Path]) -> Path:
    return smollm2("onnx")


def test_the_manifest_tells_source_size_and_verification(artifact: Path) -> None:
    manifest = Artifact.open(artifact, check="full").manifest
    assert manifest.model.source.kind in ("wheels", "hub")
    assert (manifest.model.dims.layers, manifest.model.dims.d_ff) == (30, 1536)
    weights = sum(t.nbytes for t in manifest.target.tensors)
    assert weights < 1.01 * 4 * 134.6e6  # every parameter once
    checks = manifest.verification["checks"]
    assert max(c["value"] for c in checks if c["limit"]) < 1e-3
    assert sum("greedy tokens" in c["name"] for c in checks) == 4


def test_the_rule_found_is_the_best_and_better_than_the_papers(artifact: Path) -> None:
    manifest = Artifact.open(artifact).manifest
    search, selection = manifest.search, manifest.selection
    assert search is not None and len(search.layer_kl) == 30 and search.texts >= 8
    kl = {(judged.rule, judged.text): judged.kl for judged in search.rules}
    found = kl[describe(selection), manifest.prior.text]
    assert selection.mode == "auto" and found == min(kl.values()) > 0
    paper_a, paper_i = (kl[f"borda A {prior} lam 0.5", "null"] for prior in "AI")
    assert found < min(paper_a, paper_i)


def test_few_nodes(artifact: Path) -> None:
    for role in ("prefill", "decode"):
        graph = onnx.load(artifact / f"{role}.onnx", load_external_data=False).graph
        assert len(graph.node) / 30 < 20


def test_dense_and_sparse_answers(artifact: Path) -> None:
    with Session.open(artifact) as session:
        dense = session.generate(QUESTION, max_new_tokens=24, density=1.0)
        half = session.generate(QUESTION, max_new_tokens=24, density=0.5)
    assert "Paris" in dense.text
    assert half.stats.kept_neurons == 768 and half.token_ids != dense.token_ids
    assert dense.stats.decode_tps > 0 and dense.stats.peak_rss_mb > 500


def test_a_long_prompt_goes_in_chunks_and_scores_as_a_whole(artifact: Path) -> None:
    with Session.open(artifact) as session:
        ids = list(session.text.encode_text("one two three four five six " * 60)[0])[:400]
        whole = session.prefill(ids)
        session.reset()
        session.backend.prefill_chunk = 33
        parts = session.prefill(ids)
    np.testing.assert_allclose(parts.logits, whole.logits, atol=2e-3)
    np.testing.assert_allclose(
        parts.statistics.abs_sum, whole.statistics.abs_sum, rtol=1e-3, atol=1e-3
    )


def test_run_inspect_verify_and_compare(artifact: Path) -> None:
    answer = json.loads(
        glass_export("run", str(artifact), "Say hello.", "--max-new-tokens", "8", "--json")
    )
    assert answer["text"] and answer["stats"]["density"] == 0.5
    assert json.loads(glass_export("inspect", str(artifact), "--json"))["schema_version"] == 1
    assert json.loads(glass_export("verify", str(artifact), "--json"))["passed"]
    rows = json.loads(
        glass_export("compare", str(artifact), "Hi", "--max-new-tokens", "8", "--json")
    )
    assert [row["stats"]["density"] for row in rows] == [1.0, 0.5, 0.5, 0.75]


@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
def test_the_other_recipes_export_and_verify(name: str, tmp_path: Path) -> None:
    fetched_or_skip(name)
    report = glass_export(
        "--model", name, "--target", "onnx", "--output", str(tmp_path / name), "--json",
        "--set", "calibration.tokens=256", "--set", "verify.tokens=24",
        "--set", "selection.mode=paper-a",
    )  # fmt: skip
    assert json.loads(report)["verification"]["passed"]
    for role in ("prefill", "decode"):
        graph = onnx.load(tmp_path / name / f"{role}.onnx", load_external_data=False).graph
        attention = [i for i, n in enumerate(graph.node) if n.op_type == "GroupQueryAttention"]
        assert attention[-1] - attention[-2] <= 20
    with Session.open(tmp_path / name, max_length=256) as session:
        answer = session.generate("The capital of France is", max_new_tokens=8, density=1.0)
    assert answer.token_ids


def test_a_longer_greedy_text_is_the_eager_models(artifact: Path) -> None:
    from glass_export.verify.reference import REFERENCE_NAME, Reference

    reference = Reference.load(artifact / REFERENCE_NAME)
    assert all(len(prompt.greedy) == 64 for prompt in reference.prompts)
