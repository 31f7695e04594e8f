"""Fuzzes all readers of artifacts: ``python tests/fuzz.py SECONDS``, or ``make fuzz``.

The C++ targets of tests/cpp/fuzz, instrumented by ASan and UBSan, run one on each processor, each
for so many seconds from the seeds that are made here; then the Python readers do, by Hypothesis.
What libFuzzer finds ends the run with its output and a file in the folder that is printed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import golden_artifact
import native_build

from glass_export import llama_cpp

TARGETS = ("manifest", "prior", "graph", "index", "template", "tokenizer")
ENDLESS, MEMORY_MB, LONGEST = 60, 1024, 20_000
"""Seconds on the wall and memory that one input may take, and its bytes. Of processor time the
targets allow a second."""


def seeds(target: str) -> list[bytes]:
    """Sound inputs of a target, for libFuzzer to change."""
    onnx = golden_artifact.FOLDER / "onnx"
    if target == "manifest":
        return [
            (golden_artifact.FOLDER / name / "glass.json").read_bytes()
            for name in golden_artifact.TARGETS
        ]
    if target == "prior":
        return [(onnx / "prior.safetensors").read_bytes()]
    if target == "graph":
        return [path.read_bytes() for path in onnx.glob("*.onnx")]
    if target == "tokenizer":
        prompt = b"hello world"
        return [bytes([len(prompt)]) + (onnx / "tokenizer.json").read_bytes() + prompt]
    if target == "template":
        folder = llama_cpp.fetch() / "models" / "templates"
        return [path.read_bytes() for path in sorted(folder.glob("*.jinja"))]
    return [bytes(range(64))]


def run_target(build: Path, folder: Path, target: str, seconds: int, seed: int) -> int:
    """Run one C++ target; how many inputs it was given. Fails at what it finds."""
    corpus = folder / target
    corpus.mkdir(parents=True)
    for index, content in enumerate(seeds(target)):
        (corpus / f"seed-{index}").write_bytes(content)
    command = [
        str(build / "fuzz" / f"fuzz_{target}"), f"-max_total_time={seconds}", f"-timeout={ENDLESS}",
        f"-seed={seed}", f"-rss_limit_mb={MEMORY_MB}", f"-max_len={LONGEST}",
        "-print_final_stats=1", f"-artifact_prefix={folder}/{target}-", str(corpus),
    ]  # fmt: skip
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert done.returncode == 0, f"{target}: see {folder}\n{done.stdout[-5000:]}"
    figures = {name: int(value) for name, value in re.findall(r"stat::(\w+): +(\d+)", done.stdout)}
    inputs = figures["number_of_executed_units"]
    sys.stdout.write(f"{target}: {inputs} inputs, at most {figures['peak_rss_mb']} MB\n")
    return inputs


def run(build: Path, folder: Path, seconds: int, seed: int = 0) -> dict[str, int]:
    """Run all C++ targets, one on each processor at a time; how many inputs each was given.

    A ``seed`` gives the same inputs each time, as far as the seconds go; 0 others each time.
    """

    def given(target: str) -> int:
        return run_target(build, folder, target, seconds, seed)

    with ThreadPoolExecutor(os.cpu_count()) as processors:
        return dict(zip(TARGETS, processors.map(given, TARGETS), strict=True))


def main() -> None:
    """Run everything; print how many inputs each C++ target was given."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    folder = Path(tempfile.mkdtemp(prefix="glass-fuzz-"))
    sys.stdout.write(json.dumps(run(native_build.fuzzers(), folder, seconds)) + "\n")
    tests = Path(__file__).parent / "property" / "test_hostile_files.py"
    environment = os.environ | {"FUZZ_RUNS": str(20 * seconds)}
    subprocess.run([sys.executable, "-m", "pytest", "-q", tests], env=environment, check=True)


if __name__ == "__main__":
    main()
