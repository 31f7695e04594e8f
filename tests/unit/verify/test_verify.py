"""The gate lets a right artifact pass and stops a wrong one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import CONTEXT, D_FF, LAYERS, MAIN, tiny_model

from glass_export.artifact import Artifact
from glass_export.errors import ArtifactError, VerificationError
from glass_export.families import find_ffns
from glass_export.pipeline import export
from glass_export.recipe import VERIFY_PROMPTS, resolve
from glass_export.targets.executorch import quantize
from glass_export.verify import require_passed, verify_artifact
from glass_export.verify.compare import _mismatches
from glass_export.verify.eager import PROMPTS, SMOOTH_TOLERANCE, make_reference, masked
from glass_export.verify.reference import REFERENCE_NAME, Reference, Tolerance

Exported = Callable[..., Path]


@pytest.mark.parametrize("family", MAIN)
@pytest.mark.parametrize("target", ["onnx", "executorch"])
def test_a_fresh_artifact_passes_and_its_manifest_says_so(
    exported: Exported, family: str, target: str
) -> None:
    report = verify_artifact(exported(family, target))
    assert report["passed"] and len(report["checks"]) == 9 * len(PROMPTS) == 9 * VERIFY_PROMPTS
    assert report["tolerance"] == {"logits": SMOOTH_TOLERANCE, "scores": SMOOTH_TOLERANCE}
    manifest = Artifact.open(exported(family, target)).manifest
    assert manifest.verification is not None and manifest.verification["passed"]


def test_masked_lets_the_neurons_of_a_row_act_and_its_padding_stand_for_none() -> None:
    model, ids = tiny_model("llama"), torch.tensor([[0, 5, 9, 200]])
    rows = np.array([[*range(D_FF)], [1, 4, *[-1] * (D_FF - 2)], [D_FF - 1, *[-1] * (D_FF - 1)]])
    with masked(model, find_ffns(model), rows.astype(np.int32), first=0):
        got = model(ids).logits
    for layer, row in zip(model.model.layers, rows, strict=True):
        others = np.setdiff1d(np.arange(D_FF), row)
        layer.mlp.down_proj.weight[:, others] = 0
    assert torch.allclose(got, model(ids).logits, atol=1e-5)


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
    replace(reference, prompts=(first, *reference.prompts[1:])).save(copy / REFERENCE_NAME)


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


INT8 = ("llama", "executorch", "target.dtype=int8")


@pytest.fixture(scope="module")
def rounded(exported: Exported) -> Path:
    return exported(*INT8, layers=2)


def reference_of(dtype: str, **options: object) -> Reference:
    """The reference of a tiny model, whose text is its characters."""
    model = tiny_model("llama")
    sites = find_ffns(model)
    every = np.tile(np.arange(D_FF, dtype=np.int32), (LAYERS, 1))
    with quantize.quantized(model, sites, dtype):
        return make_reference(
            model,
            sites,
            lambda text: [ord(letter) for letter in text],
            lambda statistics: every,
            tokens=4,
            max_length=CONTEXT,
            **options,
        )


def test_a_smooth_model_has_the_fixed_tolerance() -> None:
    assert reference_of("fp32").tolerance == Tolerance(SMOOTH_TOLERANCE, SMOOTH_TOLERANCE)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_the_tolerance_of_a_rounding_model_is_measured(dtype: str) -> None:
    tolerance = reference_of(dtype, smooth=False).tolerance
    # One flipped rounding moves the logits of this model by 1% to 5% of their spread.
    assert 0.02 < tolerance.logits < 0.5
    assert 2 * SMOOTH_TOLERANCE < tolerance.scores < 0.25
    assert reference_of(dtype, smooth=False).tolerance == tolerance


@pytest.mark.parametrize("smooth", [True, False])
def test_an_explicit_tolerance_wins(smooth: bool) -> None:
    tolerance = reference_of("int8", smooth=smooth, tolerance=0.25).tolerance
    assert tolerance == Tolerance(0.25, 0.25)


def test_a_model_that_rounds_nothing_keeps_the_usual_tolerance_when_disturbed() -> None:
    tolerance = reference_of("fp32", smooth=False).tolerance
    assert tolerance.logits < 0.02 and tolerance.scores < 0.02


def test_a_reference_survives_its_file(tmp_path: Path) -> None:
    reference = reference_of("int8", smooth=False)
    reference.save(tmp_path / "r.safetensors")
    loaded = Reference.load(tmp_path / "r.safetensors")
    assert loaded.tolerance == reference.tolerance
    assert len(loaded.prompts) == len(reference.prompts) == len(PROMPTS)
    for got, wanted in zip(loaded.prompts, reference.prompts, strict=True):
        for name in wanted.__slots__:
            assert np.array_equal(getattr(got, name), getattr(wanted, name))


def test_the_artifact_is_held_to_the_tolerance_it_carries(rounded: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(rounded, tmp_path / "copy"))
    reference = Reference.load(copy / REFERENCE_NAME)
    limit = reference.tolerance.logits
    assert limit > SMOOTH_TOLERANCE
    report = verify_artifact(copy, check_hashes=False)
    limits = {c["limit"] for c in report["checks"] if c["name"].endswith("prefill logits")}
    assert report["passed"] and limits == {limit}
    wanted = reference.prompts[0].prefill_logits
    changed(copy, prefill_logits=wanted + np.float32(2 * limit) * wanted.std())
    with pytest.raises(VerificationError, match="prompt 0: prefill logits: got"):
        require_passed(verify_artifact(copy, check_hashes=False))
