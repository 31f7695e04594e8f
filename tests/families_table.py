"""Verify every family in every form and write docs/families.md.

    PYTHONPATH=tests python -m families_table [CONFIGURATION...]

exports the tiny model of each configuration (tiny_models.CONFIGS) for each target, with and without
the project's operators, in each number format, by the pipeline, whose own verification decides.
What has a result already is left out, unless its configuration is named. A result is kept as soon
as it is there, so the run, which takes many minutes, can be stopped and goes on from there.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import get_args

from tiny_models import CONFIGS, CONTEXT, SHALLOW, tiny_checkpoint

from glass_export.errors import GlassError
from glass_export.pipeline import export
from glass_export.recipe import Dtype, resolve

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "tests" / "golden" / "families.json"
PAGE = ROOT / "docs" / "families.md"
FORMS = {
    "ONNX": ("onnx", False),
    "ONNX, our operators": ("onnx", True),
    "ExecuTorch": ("executorch", True),
    "ExecuTorch, stock operators": ("executorch", False),
}
DTYPES: tuple[str, ...] = get_args(Dtype)
SPECIAL = {
    "llama": "grouped queries",
    "llama3": "scaled rotary embedding of Llama 3.1 and later; tied embeddings",
    "qwen2": "biases of query, key and value; tied embeddings",
    "qwen3": "norms of query and key heads, YaRN",
    "mistral": "sliding window in all layers",
    "gemma2": "caps of attention and output logits, alternating windows, four norms a layer",
    "gemma3_text": "sliding windows with a rotary embedding of their own, norms of heads",
    "granite": "multipliers of embedding, attention, residual and logits; attention biases",
    "olmo2": "norms after attention and FFN, norms of the whole query and key",
    "smollm3": "layers without rotary embedding, with a sliding window",
    "phi3": "gate and up in one linear, also query, key and value; LongRoPE, partial rotary",
    "stablelm": "layer norms, partial rotary, biases of query, key and value",
    "stablelm_parallel": "attention and FFN side by side, layer norms of heads (StableLM 2 12B)",
    "gpt_neox": "plain FFN with biases, side by side with attention; partial rotary (Pythia)",
    "phi": "plain FFN with biases, side by side with attention; partial rotary, a bias of the head",
    "opt": "plain FFN with biases and ReLU in the layer itself, learned positions",
    "qwen2_moe": "experts, one of them for every token, beside a layer without experts",
    "qwen3_moe": "experts with weights of sum 1 behind a dense layer of another width",
    "mixtral": "experts with weights of sum 1",
    "olmoe": "experts, norms of the whole query and key; tied embeddings",
}
Results = dict[str, dict[str, dict[str, str]]]
"""By configuration, form and number format: an empty text, or what went wrong."""


def settings_of(form: str, dtype: str) -> list[str]:
    """The recipe of a form, small."""
    target, custom_ops = FORMS[form]
    return [
        f"target.name={target}", f"target.dtype={dtype}",
        f"target.custom_ops={str(custom_ops).lower()}", f"export.max_length={CONTEXT}",
        "calibration.tokens=256", "calibration.sequence_length=32",
        "export.prefill_chunk=32", "verify.tokens=16", "selection.mode=fixed",
    ]  # fmt: skip


def verify(results: Results, folder: Path) -> None:
    """Fill in what ``results`` lack, a form of all configurations after another."""
    for name, form, dtype in missing(results):
        checkpoint = folder / name
        if not checkpoint.exists():
            tiny_checkpoint(name, checkpoint, SHALLOW[name])
        problem = problem_of(checkpoint, settings_of(form, dtype), folder / "artifact")
        results.setdefault(name, {}).setdefault(form, {})[dtype] = problem
        write(results)
        print(name, form, dtype, problem or "verified", flush=True)


def missing(results: Results) -> Iterator[tuple[str, str, str]]:
    """Configuration, form and number format of what has no result."""
    for form, dtype, name in product(FORMS, DTYPES, CONFIGS):
        if dtype not in results.get(name, {}).get(form, {}):
            yield name, form, dtype


def problem_of(checkpoint: Path, settings: list[str], output: Path) -> str:
    """What an export says went wrong; empty: nothing."""
    try:
        export(resolve(str(checkpoint), settings), output)
    except GlassError as problem:
        return f"{type(problem).__name__}: {problem}".splitlines()[0]
    return ""


def page(results: Results) -> str:
    """docs/families.md."""
    lines = [
        "# Families",
        "",
        "Written by `tests/families_table.py`; do not edit. Each number format in the table was "
        "exported from a tiny random model of the family and verified against transformers: "
        "prefill, prefill in chunks, decode, sparse decode, scores. A format that is neither "
        "there nor in a note has not been tried. How to add a family: "
        "[add_a_family.md](add_a_family.md).",
        "",
        f"| family | `model_type` | what the tiny model has | {' | '.join(FORMS)} |",
        "|---|---|---|" + "---|" * len(FORMS),
    ]
    problems: list[str] = []
    for name, config in CONFIGS.items():
        cells = [cell(results.get(name, {}).get(form, {}), problems) for form in FORMS]
        module = importlib.import_module(f"glass_export.families.{config.model_type}")
        family = str(module.__doc__).partition(":")[0]
        row = (family, f"`{config.model_type}`", SPECIAL[name], *cells)
        lines.append(f"| {' | '.join(row)} |")
    lines += ["", *(f"{i}. {text}" for i, text in enumerate(problems, 1))] if problems else []
    return "\n".join(lines) + "\n"


def cell(outcome: dict[str, str], problems: list[str]) -> str:
    """The verified formats, and numbers of the notes on the others."""
    for problem in filter(None, outcome.values()):
        if problem not in problems:
            problems.append(problem)
    notes = sorted({problems.index(problem) + 1 for problem in outcome.values() if problem})
    verified = [dtype for dtype in DTYPES if outcome.get(dtype) == ""]
    return ", ".join(verified) + "".join(f" ({note})" for note in notes)


def write(results: Results) -> None:
    """Keep the results and write the page."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results))


def main() -> None:
    """Forget the results of the configurations that are named, then fill in what is missing."""
    results: Results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in sys.argv[1:]:
        results.pop(name, None)
    with tempfile.TemporaryDirectory() as scratch:
        verify(results, Path(scratch))
    write(results)


if __name__ == "__main__":
    main()
