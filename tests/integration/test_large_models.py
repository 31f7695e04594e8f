"""Peak memory of the export of a model that is larger than everything else in the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from random_checkpoint import write_checkpoint
from transformers import Qwen2Config

from glass_export.plan import make_plan
from glass_export.recipe import resolve

pytestmark = pytest.mark.slow

SHAPE = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 16,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 32768,
    "max_position_embeddings": 256, "tie_word_embeddings": True, "bos_token_id": 0,
    "eos_token_id": 1,
}  # fmt: skip
SETTINGS = [
    "target.dtype=int4", "calibration.tokens=256", "calibration.sequence_length=32",
    "calibration.batch=8", "selection.mode=fixed", "export.max_length=128",
    "export.prefill_chunk=32", "verify.prompts=2", "verify.tokens=2",
]  # fmt: skip
EXPORT = """
import json, resource, sys
from pathlib import Path
from glass_export.pipeline import export
from glass_export.recipe import resolve
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
before = peak()
manifest = export(resolve(sys.argv[1], sys.argv[3:]), Path(sys.argv[2]), streamed=True)
verifying = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps([before, peak(), verifying, sum(f.size for f in manifest.files),
                  manifest.verification["passed"]]))
"""


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random bfloat16 checkpoint of 280 million weights in three files."""
    folder = tmp_path_factory.mktemp("medium")
    write_checkpoint(folder, Qwen2Config(**SHAPE), shard_bytes=200 << 20)
    assert len([*folder.glob("*.safetensors")]) == 3
    return folder


@pytest.mark.parametrize("target", ["onnx", "executorch"])
def test_an_int4_export_holds_a_fraction_of_the_model(
    medium: Path, tmp_path: Path, target: str
) -> None:
    settings = [*SETTINGS, f"target.name={target}", "target.custom_ops=true"]
    command = [sys.executable, "-c", EXPORT, str(medium), str(tmp_path / "out"), *settings]
    outcome = subprocess.run(
        command, capture_output=True, text=True, timeout=1800,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    before, exporting, verifying, artifact, passed = json.loads(outcome.stdout.splitlines()[-1])
    plan = make_plan(resolve(str(medium), settings), tmp_path / "out", streamed=True)
    assert passed
    assert artifact == pytest.approx(plan.artifact, rel=0.05)
    assert max(exporting, verifying) < 1.15 * plan.peak_memory
    # The largest that is held: the artifact on its runtime, or 16 million weights in float32 a few
    # times. All weights in float32, twice with the rounded ones, would be 2.2 GB.
    assert exporting - before < artifact + 5 * 4 * (1 << 24)
    assert verifying - before < 1.6 * artifact + 5 * 4 * (1 << 24)
    assert 4 * plan.weights > 2 * (exporting - before)
