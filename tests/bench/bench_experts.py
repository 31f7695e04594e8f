"""Bytes and time of a decoded token of a mixture of experts, dense and sparse.

    PYTHONPATH=tests python tests/bench/bench_experts.py [--target onnx] [--dtype int8] \\
        [--density 0.5]

exports a model of random weights, so that its speed is of interest alone: 4 layers of width 512
with 32 experts of width 512, of which a token takes 4. Dense and sparse tokens take turns. Prints a
table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tiny_models import tiny_tokenizer
from transformers import AutoModelForCausalLM, Qwen3MoeConfig

from glass_export.bundles import bundle_bytes
from glass_export.pipeline import export
from glass_export.recipe import resolve
from glass_export.runtime.session import Session

LAYERS, WIDTH, EXPERTS, TAKEN, EXPERT_WIDTH = 4, 512, 32, 4, 512
PROMPT, TOKENS, ROUNDS = 64, 32, 5


def checkpoint(folder: Path) -> Path:
    """A Qwen3 MoE of random weights."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=WIDTH,
        moe_intermediate_size=EXPERT_WIDTH, num_hidden_layers=LAYERS, num_attention_heads=8,
        num_key_value_heads=4, head_dim=64, num_experts=EXPERTS, num_experts_per_tok=TAKEN,
        max_position_embeddings=512, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def expert_megabytes(dtype: str, density: float) -> float:
    """Of the experts' weights that a token reads."""
    neuron = 3 * 4 * WIDTH if dtype == "fp32" else bundle_bytes(WIDTH, dtype)  # type: ignore[arg-type]
    return LAYERS * TAKEN * round(density * EXPERT_WIDTH) * neuron / 1e6


def milliseconds(session: Session, density: float) -> float:
    """Median time of a token after one prompt."""
    random = np.random.default_rng(0)
    session.reset()
    session.prefill(random.integers(4, 200, PROMPT))
    session.select(density=density)
    times = []
    for token in random.integers(4, 200, TOKENS):
        begin = time.perf_counter()
        session.decode(int(token))
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="executorch", choices=("executorch", "onnx"))
    parser.add_argument("--dtype", default="fp32", choices=("fp32", "int8", "int4"))
    parser.add_argument("--density", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    settings = [
        f"target.name={options.target}", f"target.dtype={options.dtype}", "target.custom_ops=true",
        "selection.mode=fixed", "calibration.tokens=256", "calibration.sequence_length=64",
        "export.max_length=256", "verify.tokens=8",
    ]  # fmt: skip
    densities = (1.0, options.density)
    with tempfile.TemporaryDirectory() as scratch:
        artifact = Path(scratch) / "artifact"
        export(resolve(str(checkpoint(Path(scratch) / "model")), settings), artifact)
        with Session.open(artifact, threads=options.threads) as session:
            rounds = [[milliseconds(session, d) for d in densities] for _ in range(ROUNDS)]
    times = [statistics.median(column) for column in zip(*rounds, strict=True)]
    table = Table("density", "MB of experts a token", "ms a token")
    rows = [
        {"density": d, "expert_mb": round(expert_megabytes(options.dtype, d), 2), "ms": round(t, 3)}
        for d, t in zip(densities, times, strict=True)
    ]
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    print(json.dumps({**vars(options), "rows": rows}))


if __name__ == "__main__":
    main()
