"""A complete artifact of a few hundred bytes, for tests of what reads and writes artifacts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import safetensors.numpy

from glass_export.artifact import ArtifactWriter
from glass_export.manifest import (
    SCHEMA_VERSION,
    Manifest,
    ModelInfo,
    PriorInfo,
    SourceInfo,
    TargetInfo,
    TensorEntry,
)
from glass_export.recipe import SelectionRecipe
from glass_export.selection import default_profiles
from glass_export.spec import STATISTICS, GraphSignature, ModelDims, TensorSpec

LAYERS, D_FF = 2, 6


def manifest() -> Manifest:
    """A manifest without files; every optional part is present."""
    dims = ModelDims(
        layers=LAYERS, d_model=4, d_ff=D_FF, heads=2, kv_heads=1, head_dim=2, vocab_size=16
    )
    source = SourceInfo(kind="local", reference="tiny", sha256="0" * 64)
    model = ModelInfo(
        name="tiny", family="llama", source=source, dims=dims, activation="silu",
        max_length=32, bos_token_id=1, eos_token_ids=(2,),
    )  # fmt: skip
    signature = GraphSignature(
        inputs=(TensorSpec(name="tokens", dtype="int64", shape=(1, "T")),),
        outputs=(TensorSpec(name="logits", dtype="float32", shape=(1, "N", 16)),),
    )
    target = TargetInfo(
        name="onnx", dtype="fp32", prefill_chunk=8, weights="weights.bin",
        graphs={"prefill": "prefill.onnx", "decode": "decode.onnx"},
        signatures={"prefill": signature, "decode": signature},
        tensors=(
            TensorEntry(name="embed", dtype="float32", shape=(4, 2), offset=0, nbytes=32),
            TensorEntry(name="norm", dtype="float32", shape=(4,), offset=48, nbytes=16),
        ),
    )  # fmt: skip
    return Manifest(
        schema_version=SCHEMA_VERSION, model=model, target=target, selection=SelectionRecipe(),
        prior=PriorInfo(statistics=STATISTICS, tokens=64, seed=0, temperature=1.0),
        recipe={"model": {"name": "tiny"}}, recipe_digest="1" * 64, tools={"glass-export": "0.1.0"},
        verification={"passed": True, "checks": []}, files=(),
        profiles=default_profiles(SelectionRecipe()),
    )  # fmt: skip


def fill(folder: Path) -> None:
    """Write the files that :func:`manifest` speaks of into ``folder``."""
    prior = {name: np.full((LAYERS, D_FF), 0.5, np.float32) for name in STATISTICS}
    (folder / "prior.safetensors").write_bytes(safetensors.numpy.save(prior))
    (folder / "weights.bin").write_bytes(bytes(range(64)))
    (folder / "prefill.onnx").write_bytes(b"\x08\x0a\x12\x07prefill")  # models of nothing
    (folder / "decode.onnx").write_bytes(b"\x08\x0a\x12\x06decode")
    (folder / "tokenizer.json").write_text(json.dumps({"model": {}}))


def write(output: Path) -> Path:
    """Write the tiny artifact to ``output`` and return it."""
    with ArtifactWriter(output) as writer:
        fill(writer.path)
        writer.commit(manifest())
    return output
