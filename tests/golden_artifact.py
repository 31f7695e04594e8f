"""Writes the golden artifacts of schema v1, which every later version has to read.

``python tests/golden_artifact.py`` makes tests/golden/artifact_v1 anew. That is for a new target or
a new schema alone: what lies there was written by version 0.1 and stays as it is.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent / "golden" / "artifact_v1"
PROMPT, TOKENS = "the quick brown", 12
TARGETS = ("onnx", "executorch")
OPTIONS = (
    "calibration.tokens=256", "calibration.sequence_length=32", "calibration.batch=8",
    "export.max_length=48", "export.prefill_chunk=8", "verify.enabled=false",
    "selection.mode=fixed", "target.custom_ops=false",
)  # fmt: skip


def answer(artifact: Path) -> list[int]:
    """The tokens that an artifact answers the prompt with."""
    from glass_export.runtime import Session

    with Session.open(artifact) as session:
        return list(session.generate(PROMPT, max_new_tokens=TOKENS, density=0.5).token_ids)


def write() -> None:
    """Export a tiny random model for each target, and note what it answers."""
    from tiny_models import tiny_config, tiny_model, tiny_tokenizer

    from glass_export.pipeline import export
    from glass_export.recipe import resolve

    with tempfile.TemporaryDirectory() as folder:
        config = tiny_config("llama", 2)
        config.hidden_size, config.intermediate_size = 32, 32
        config.num_attention_heads, config.num_key_value_heads, config.head_dim = 2, 1, 16
        tiny_model(config).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        for target in TARGETS:
            export(resolve(folder, [*OPTIONS, f"target.name={target}"]), FOLDER / target)
    for lock in FOLDER.glob(".*.lock"):
        lock.unlink()
    answers = {target: answer(FOLDER / target) for target in TARGETS}
    (FOLDER / "answers.json").write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
