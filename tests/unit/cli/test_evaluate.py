"""``eval``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import SMALL, Exported, glass


def test_eval_of_an_artifact_shows_tables_or_one_json_line(
    exported: Exported, prompts: Path, tmp_path: Path
) -> None:
    args = ["eval", exported("llama"), *SMALL, "--methods", "griffin,auto", "--refresh", "off,8"]
    args += ["--prompts", prompts]
    shown = glass(*args, "--density", "0.25", "--report", tmp_path / "report.html").stdout
    for word in ("griffin 0.25 refresh 8", "x griffin", "tok/s", "KL by domain", "mine.jsonl"):
        assert word in shown
    assert "griffin 0.25 refresh 8" in (tmp_path / "report.html").read_text("utf-8")
    (line,) = glass(*args, "--json", "--baseline", "auto").stdout.splitlines()
    result = json.loads(line)
    assert [row["label"] for row in result["methods"]] == [
        "griffin 0.5", "griffin 0.5 refresh 8", "auto 0.5", "auto 0.5 refresh 8",
    ]  # fmt: skip
    assert result["baseline"] == "auto" and result["methods"][2]["ratio"]["value"] == 1.0
    assert all(row["decode_tps"] > 0 for row in result["methods"]) and result["texts"] == 2


def test_eval_compares_what_there_is_when_no_method_is_named(
    exported: Exported, prompts: Path
) -> None:
    args = ["eval", exported("llama"), *SMALL, "--json", "--prompts", prompts]
    names = [row["method"] for row in json.loads(glass(*args).stdout)["methods"]]
    assert names == ["griffin", "a-glass", "i-glass", "shrinkage", "auto", "oracle"]
    refreshed = json.loads(glass(*args, "--refresh", "8").stdout)["methods"]
    assert [row["method"] for row in refreshed] == names[:-1]


def test_eval_of_a_model(checkpoint: Exported, prompts: Path) -> None:
    args = [
        "eval",
        checkpoint("llama"),
        "--prompts",
        prompts,
        *SMALL,
        "--methods",
        "griffin,oracle",
    ]
    result = json.loads(glass(*args, "--every", "5", "--seed", "1", "--json").stdout)
    assert result["prompts"] == str(prompts) and result["texts"] == 2
    assert result["methods"][0]["domains"].keys() == {"fast", "slow"}
    assert (result["settings"]["every"], result["settings"]["seed"]) == (5, 1)
    assert result["dense_tps"] is None and result["methods"][0]["kl"]["value"] > 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--density", "half"], "--density 'half': expected numbers joined by commas"),
        (["--density", "2"], "selection.density: got 2.0"),
        (
            ["--refresh", "off,often"],
            "--refresh: got 'often', expected a whole number, auto or off",
        ),
        (["--methods", "grifin"], "did you mean 'griffin'?"),
        (["--methods", "griffin", "--lam", "0.3"], "lam: none of the methods griffin"),
        (["--methods", "magnitude"], "needs the model's weights"),
        (["--methods", "oracle", "--refresh", "8"], "has neither refresh nor dense start"),
        (["--prior-tokens", "512"], "an artifact has one prior"),
        (["--baseline", "oracle", "--methods", "griffin"], "--baseline 'oracle': not among"),
        (["--prompts", "no.jsonl"], "no such file"),
        (["--tokens", "4"], "tokens: got 4, expected at least"),
        (["--temperature", "0"], "temperature: got 0.0"),
        (["--every", "0"], "every: got 0"),
        (["--report", "report.pdf"], "got '.pdf', expected .html"),
    ],
    ids=str,
)
def test_eval_refuses_before_it_measures(exported: Exported, args: list[str], message: str) -> None:
    outcome = glass("eval", exported("llama"), *args, code=2)
    shown = " ".join(outcome.stderr.replace("│", " ").split())
    assert message in shown and outcome.stdout == "" and "dense answers" not in shown


def test_eval_of_what_is_neither_model_nor_artifact(tmp_path: Path) -> None:
    assert "not a recipe" in glass("eval", "nothing", cwd=tmp_path, code=2).stderr
