"""The gate lets a right artifact pass and stops a wrong one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glass_export.artifact import Artifact
from glass_export.errors import ArtifactError, VerificationError
from glass_export.families import known_families
from glass_export.pipeline import export
from glass_export.recipe import resolve
from glass_export.verify import require_passed, verify_artifact
from glass_export.verify.compare import _mismatches
from glass_export.verify.eager import PROMPTS
from glass_export.verify.reference import REFERENCE_NAME, Reference

Exported = Callable[[str], Path]


@pytest.mark.parametrize("family", known_families())
def test_a_fresh_artifact_passes_and_its_manifest_says_so(exported: Exported, family: str) -> None:
    report = verify_artifact(exported(family))
    assert report["passed"] and len(report["checks"]) == 9 * len(PROMPTS)
    manifest = Artifact.open(exported(family)).manifest
    assert manifest.verification is not None and manifest.verification["passed"]


@pytest.fixture
def copy(exported: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported("llama"), tmp_path / "copy"))


@pytest.mark.parametrize("name", ["ffn.1.gate_up", "model.norm.weight", "model.rotary_emb.cos"])
def test_changed_weights_fail_even_without_hashes(copy: Path, name: str) -> None:
    target = Artifact.open(copy).manifest.target
    entry = next(t for t in target.tensors if t.name == name)
    data = np.memmap(copy / "weights.bin", np.float32, "r+", entry.offset, entry.shape)
    data[...] = data[...] + 0.5
    data.flush()
    with pytest.raises(ArtifactError, match=r"weights\.bin"):
        verify_artifact(copy)
    with pytest.raises(VerificationError, match=r"prefill logits: got .* expected at most"):
        require_passed(verify_artifact(copy, check_hashes=False))


def changed(copy: Path, **fields: np.ndarray) -> None:
    reference = Reference.load(copy / REFERENCE_NAME)
    first = replace(reference.prompts[0], **fields)
    Reference((first, *reference.prompts[1:])).save(copy / REFERENCE_NAME)


@pytest.mark.parametrize(
    ("field", "check"),
    [
        ("prefill_logits", "prefill logits"),
        ("abs_sum", "scores A"),
        ("sq_sum", "scores squared"),
        ("sparse_logits", "sparse logits"),
        ("resumed_logits", "prefill after decode"),
    ],
)
def test_every_check_can_fail(copy: Path, field: str, check: str) -> None:
    array = getattr(Reference.load(copy / REFERENCE_NAME).prompts[0], field)
    changed(copy, **{field: array + np.float32(0.1) * array.std()})
    with pytest.raises(VerificationError, match=f"prompt 0: {check}: got"):
        require_passed(verify_artifact(copy, check_hashes=False))


@pytest.mark.parametrize(
    ("field", "check"), [("greedy", "greedy tokens"), ("sparse_tokens", "sparse tokens")]
)
def test_another_token_fails(copy: Path, field: str, check: str) -> None:
    array = getattr(Reference.load(copy / REFERENCE_NAME).prompts[0], field).copy()
    array[-1] = 7 if array[-1] != 7 else 8
    changed(copy, **{field: array})
    with pytest.raises(VerificationError, match=f"prompt 0: {check}: got"):
        require_passed(verify_artifact(copy, check_hashes=False))


def test_a_tie_does_not_hide_a_later_wrong_sparse_token(copy: Path) -> None:
    first = Reference.load(copy / REFERENCE_NAME).prompts[0]
    tokens, margin = first.sparse_tokens.copy(), first.sparse_margin.copy()
    margin[0] = 0.0
    for place in (0, -1):
        tokens[place] = 7 if tokens[place] != 7 else 8
    changed(copy, sparse_tokens=tokens, sparse_margin=margin)
    with pytest.raises(VerificationError, match="prompt 0: sparse tokens: got 1"):
        require_passed(verify_artifact(copy, check_hashes=False))


def test_a_difference_after_a_tie_is_no_mismatch() -> None:
    got, wanted = np.array([1, 2, 3, 4]), np.array([1, 2, 9, 9])
    assert _mismatches(got, wanted, np.array([1.0, 1.0, 1e-6, 1.0]), 1e-4) == 0
    assert _mismatches(got, wanted, np.array([1.0, 1.0, 0.5, 1.0]), 1e-4) == 2


def test_an_artifact_exported_without_verification_says_so(
    checkpoint: Exported, tmp_path: Path
) -> None:
    recipe = resolve(
        str(checkpoint("llama")),
        ["calibration.tokens=256", "calibration.sequence_length=32", "export.max_length=96",
         "verify.enabled=false"],
    )  # fmt: skip
    manifest = export(recipe, tmp_path / "bare")
    assert manifest.verification is None
    with pytest.raises(ArtifactError, match="without --no-verify"):
        verify_artifact(tmp_path / "bare")


def test_a_damaged_reference_says_so(copy: Path) -> None:
    (copy / REFERENCE_NAME).write_bytes(b"no")
    with pytest.raises(ArtifactError, match=r"reference\.safetensors"):
        verify_artifact(copy, check_hashes=False)
