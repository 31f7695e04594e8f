"""``bench``."""

from __future__ import annotations

import json

import pytest
from command import Exported, glass


def test_bench_ends_with_one_line_of_json(exported: Exported) -> None:
    folder = exported("llama")
    size = ["--context", "16", "--tokens", "2", "--repeats", "1", "--threads", "1"]
    args = ["bench", folder, "--density", "0.5,1.0", *size]
    *table, line = glass(*args).stdout.splitlines()
    assert "decode" in table[1] and "KL" in table[1] and len(table) == 4
    result = json.loads(line)
    sparse, dense = sorted(result["runs"], key=lambda run: run["density"])
    assert (sparse["density"], dense["density"]) == (0.5, 1.0)
    assert dense["kl"] == 0.0 < sparse["kl"] and dense["speedup"] == 1.0
    assert all(run["artifact"] == str(folder) and run["decode_tps"] > 0 for run in result["runs"])
    alone = glass(*args, "--json", "--reference", folder).stdout
    assert json.loads(alone)["reference"] == str(folder)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--density", "half"], "expected numbers joined by commas"),
        (["--threads", "1.5"], "expected whole numbers joined by commas"),
        (["--density", "2"], "density: got 2.0"),
        (["--context", "96"], "lower --context or --tokens"),
        (["--against", "llama.cpp"], "needs --peer-model PATH: a .gguf file"),
        (["--peer-model", "x"], "each --against takes one model"),
        (["--llama-bench", "x"], "it takes part with --against llama-bench"),
        (["--chart", "picture.jpeg"], "expected .png"),
    ],
    ids=str,
)
def test_bench_refuses_before_it_measures(
    exported: Exported, args: list[str], message: str
) -> None:
    outcome = glass("bench", exported("llama"), "--context", "16", *args, code=2)
    shown = " ".join(outcome.stderr.replace("│", " ").split())
    assert message in shown and outcome.stdout == ""
