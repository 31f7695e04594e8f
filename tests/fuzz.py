"""Fuzzes all readers of artifacts: ``python tests/fuzz.py SECONDS``, or ``make fuzz``.

The C++ targets of tests/cpp/fuzz run side by side, instrumented by ASan and UBSan, each for so many
seconds from the seeds that are made here; then the Python readers do, by Hypothesis. What libFuzzer
finds ends the run with its output and a file in the folder that is printed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import golden_artifact
import native_build

from glass_export import llama_cpp

TARGETS = ("manifest", "prior", "graph", "index", "template", "tokenizer")
SLOWEST, MEMORY_MB, LONGEST = 1, 1024, 20_000
"""Seconds and memory that one input may take, and its bytes."""


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


def log_of(folder: Path, target: str) -> Path:
    """What libFuzzer said of a target."""
    return folder / f"{target}.log"


def run(build: Path, folder: Path, seconds: int, seed: int = 0) -> dict[str, int]:
    """Run all C++ targets side by side; how many inputs each was given. Fails at what they find.

    A ``seed`` gives the same inputs each time, as far as the seconds go; 0 others each time.
    """
    running = {}
    for target in TARGETS:
        corpus = folder / target
        corpus.mkdir(parents=True)
        for index, content in enumerate(seeds(target)):
            (corpus / f"seed-{index}").write_bytes(content)
        command = [
            build / "fuzz" / f"fuzz_{target}", f"-max_total_time={seconds}", f"-timeout={SLOWEST}",
            f"-seed={seed}", f"-rss_limit_mb={MEMORY_MB}", f"-max_len={LONGEST}",
            "-print_final_stats=1",
            f"-artifact_prefix={folder}/{target}-", corpus,
        ]  # fmt: skip
        with log_of(folder, target).open("wb") as log:  # a pipe that nobody reads would fill up
            running[target] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    inputs = {}
    for target, process in running.items():
        status = process.wait()
        output = log_of(folder, target).read_text(errors="replace")
        assert status == 0, f"{target}: see {folder}\n{output[-5000:]}"
        found = re.search(r"number_of_executed_units: (\d+)", output)
        assert found is not None, output[-2000:]
        inputs[target] = int(found[1])
    return inputs


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
