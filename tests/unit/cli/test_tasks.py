"""``eval --tasks``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import Exported, glass


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--prompts", "tuning"], "--prompts: it is about the dense model's answers"),
        (["--report", "report.html"], "--report: it is about the dense model's answers"),
        (["--refresh", "off"], "--refresh: it is about the dense model's answers"),
        (["--dense-start", "8"], "--dense-start: it is about the dense model's answers"),
        (["--tokens", "128"], "--tokens: it is about the dense model's answers"),
        (["--baseline", "griffin"], "--baseline: it is about the dense model's answers"),
        (["--methods", "oracle"], "'oracle' knows the answer"),
        (["--methods", "magnitude"], "needs the model's weights"),
        (["--tasks-path", "no-such-folder"], "expected a folder with tasks as .yaml files"),
    ],
    ids=str,
)
def test_eval_refuses_what_tasks_do_not_have(
    exported: Exported, args: list[str], message: str
) -> None:
    outcome = glass("eval", exported("llama"), "--tasks", "arc_easy", *args, code=2)
    assert message in " ".join(outcome.stderr.replace("│", " ").split()) and outcome.stdout == ""


def test_tasks_path_belongs_to_tasks(exported: Exported, tmp_path: Path) -> None:
    outcome = glass("eval", exported("llama"), "--tasks-path", tmp_path, code=2)
    assert "it needs --tasks" in " ".join(outcome.stderr.replace("│", " ").split())


def test_eval_on_tasks_shows_a_table_or_one_json_line(exported: Exported, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="needs pip install 'glass-export[tasks]'")
    data = tmp_path / "data.jsonl"
    lines = [{"text": "the quick", "options": ["brown fox", "lazy dog"], "right": 0}] * 3
    data.write_text("\n".join(map(json.dumps, lines)))
    task = {
        "task": "tiny",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_choice": "{{options}}",
        "doc_to_target": "{{right}}",
        "metric_list": [{"metric": "acc"}],
    }
    (tmp_path / "tiny.yaml").write_text(json.dumps(task))
    args = ["--tasks", "tiny", "--tasks-path", tmp_path, "--limit", "2", "--threads", "1"]
    shown = glass("-q", "eval", exported("llama"), *args, "--density", "0.25")
    for word in ("tiny acc", "dense", "a-glass 0.25", " ± 0.000", "questions: 2 of tiny"):
        assert word in shown.stdout
    assert shown.stderr == ""
    (line,) = glass("eval", exported("llama"), *args, "--json").stdout.splitlines()
    result = json.loads(line)
    assert [row["method"] for row in result["methods"]] == [
        "dense", "griffin", "a-glass", "i-glass", "shrinkage", "auto",
    ]  # fmt: skip
    assert result["questions"] == {"tiny": 2} and result["decoded"] > 0
    assert result["methods"][0]["scores"][0].keys() == {
        "task", "metric", "filter", "value", "error",
    }  # fmt: skip
