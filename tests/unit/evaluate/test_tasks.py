"""Tasks of lm-eval on tiny models, from local files; what is refused needs no lm-eval."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_checkpoint

from glass_export.errors import EvaluationError
from glass_export.evaluate import tasks
from glass_export.evaluate.sweep import Sweep
from glass_export.evaluate.tasks import (
    TaskEvaluation,
    TaskSettings,
    evaluate_artifact_tasks,
    evaluate_model_tasks,
)
from glass_export.recipe import SelectionRecipe

Make = Callable[..., Any]
QUESTIONS = [
    {"question": "the quick brown", "choices": ["fox jumps", "lazy dog", "the"], "label": 0},
    {"question": "over the", "choices": ["lazy dog", "quick fox", "brown"], "label": 0},
    {"question": "the lazy", "choices": ["fox", "dog jumps over", "quick"], "label": 1},
    {"question": "fox jumps", "choices": ["the dog", "brown", "over the lazy"], "label": 2},
]
SHARED = {"dataset_path": "json", "test_split": "test", "doc_to_text": "{{question}}"}
CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{label}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
ANSWER = {
    "output_type": "generate_until",
    "doc_to_target": "{{choices[label]}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6},
    "metric_list": [{"metric": "exact_match"}],
}
ROLLING = {
    "output_type": "loglikelihood_rolling",
    "doc_to_target": "{{question}}",
    "metric_list": [{"metric": "word_perplexity"}],
}


@pytest.fixture
def lm_eval() -> None:
    pytest.importorskip("lm_eval", reason="needs pip install 'glass-export[tasks]'")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with tasks, as JSON, which is YAML, too."""
    data = tmp_path / "questions.jsonl"
    data.write_text("\n".join(map(json.dumps, QUESTIONS)))
    here = {**SHARED, "dataset_kwargs": {"data_files": {"test": str(data)}}}
    sampled = {**ANSWER, "generation_kwargs": {"until": ["\n"], "do_sample": True}}
    missing = {**SHARED, **CHOICE, "dataset_path": "no-one/has-this"}
    digits = {**CHOICE, "doc_to_choice": ["0", "1", "2"], "target_delimiter": ""}
    made = {
        "tiny_choice": {**here, **CHOICE},
        "tiny_shots": {**here, **CHOICE, "num_fewshot": 1, "fewshot_split": "test"},
        "tiny_answer": {**here, **ANSWER},
        "tiny_digits": {**here, **digits},
        "tiny_sampled": {**here, **sampled},
        "tiny_rolling": {**here, **ROLLING},
        "tiny_missing": missing,
    }
    for name, task in made.items():
        (tmp_path / f"{name}.yaml").write_text(json.dumps({"task": name, **task}))
    return tmp_path


def settings(folder: Path | None, *names: str, limit: int | None = None, **sweep: Any) -> Any:
    wanted = {"methods": ("griffin", "a-glass", "random"), "density": (0.25,), **sweep}
    return TaskSettings(tasks=names, sweep=Sweep(**wanted), limit=limit, folder=folder)


def values(outcome: TaskEvaluation) -> dict[str, list[float]]:
    return {row.label: [score.value for score in row.scores] for row in outcome.methods}


@pytest.mark.usefixtures("lm_eval")
def test_model_and_artifact_have_the_same_scores(
    exported: Make, recipe_of: Make, checkpoint: Make, folder: Path
) -> None:
    names = ("tiny_choice", "tiny_shots", "tiny_answer")
    wanted = settings(folder, *names)
    model = evaluate_model_tasks(recipe_of(checkpoint("llama")), wanted, threads=1)
    artifact = evaluate_artifact_tasks(exported("llama"), wanted, threads=1)
    assert values(model) == values(artifact)
    assert [*values(model)] == ["dense", "griffin 0.25", "a-glass 0.25", "random 0.25"]
    assert model.questions == artifact.questions == dict.fromkeys(names, 4)
    assert model.decoded == artifact.decoded and 0.3 < (model.decoded or 0) < 1
    dense = model.methods[0]
    assert [(s.task, s.metric, s.filter) for s in dense.scores] == [
        ("tiny_choice", "acc", "none"), ("tiny_choice", "acc_norm", "none"),
        ("tiny_shots", "acc", "none"), ("tiny_shots", "acc_norm", "none"),
        ("tiny_answer", "exact_match", "none"),
    ]  # fmt: skip
    for score in dense.scores:
        spread = math.sqrt(score.value * (1 - score.value) / 3)
        assert score.error == pytest.approx(spread)
    assert artifact.versions["lm_eval"] and "dense is its own dense form" in artifact.where


@pytest.mark.usefixtures("lm_eval")
def test_accuracy_is_that_of_the_most_likely_choice(
    recipe_of: Make, checkpoint: Make, folder: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = checkpoint("llama")
    outcome = evaluate_model_tasks(
        recipe_of(path), settings(folder, "tiny_choice", limit=3, methods=("dense",)), threads=1
    )
    model, tokenizer = (
        kind.from_pretrained(path) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    right = 0
    for question in QUESTIONS[:3]:
        start = len(tokenizer(question["question"]).input_ids)
        likelihoods = []
        for choice in question["choices"]:
            ids = tokenizer(f"{question['question']} {choice}", return_tensors="pt").input_ids
            log_p = model(ids).logits[0, start - 1 : -1].log_softmax(-1)
            likelihoods.append(float(log_p.gather(1, ids[0, start:, None]).sum().detach()))
        right += int(torch.tensor(likelihoods).argmax()) == question["label"]
    assert values(outcome)["dense"][0] == pytest.approx(right / 3)
    assert outcome.questions == {"tiny_choice": 3}


@pytest.mark.usefixtures("lm_eval")
def test_what_prefill_alone_answers_is_said_so(
    exported: Make, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = evaluate_artifact_tasks(exported("llama"), settings(folder, "tiny_digits"))
    assert outcome.decoded == 0 and len({tuple(row) for row in values(outcome).values()}) == 1
    assert "all answers are single tokens" in caplog.text


@pytest.mark.usefixtures("lm_eval")
def test_refreshes_of_an_own_rule_are_left_out(
    recipe_of: Make, tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_of(tiny_checkpoint("llama", tmp_path / "model"), "selection.refresh=auto")
    own = SelectionRecipe(fusion="local", local="A", refresh="auto", dense_start=2)
    outcome = evaluate_model_tasks(
        recipe,
        settings(folder, "tiny_choice", methods=("auto",), limit=1),
        find_auto=lambda *_: (own, "null"),
        threads=1,
    )
    assert [*values(outcome)] == ["dense", "auto 0.25"]
    assert "without refresh and dense start" in caplog.text


@pytest.mark.usefixtures("lm_eval")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny_chioce", "'tiny_chioce', which lm-eval does not know; did you mean 'tiny_choice'"),
        (
            "tiny_missing",
            "task 'tiny_missing': it cannot be loaded: .*HF_HUB_OFFLINE=0 to fetch it",
        ),
        ("tiny_rolling", "task 'tiny_rolling': it measures the likelihood of whole texts"),
        ("tiny_sampled", "task 'tiny_sampled': it samples answers, expected greedy ones"),
    ],
)
def test_tasks_that_cannot_be_measured(
    exported: Make, folder: Path, name: str, message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        evaluate_artifact_tasks(exported("llama"), settings(folder, name))


@pytest.mark.usefixtures("lm_eval")
def test_data_is_not_fetched_unless_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config
    import huggingface_hub.constants

    from glass_export.evaluate import harness

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    switches: tuple[Any, ...] = (huggingface_hub.constants, datasets.config)
    for switch in switches:
        monkeypatch.setattr(switch, "HF_HUB_OFFLINE", False)
    seen: list[list[bool]] = []

    def look(**_: Any) -> None:
        seen.append([switch.HF_HUB_OFFLINE for switch in switches])
        raise KeyboardInterrupt

    monkeypatch.setattr(harness, "TaskManager", look)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            harness.load_tasks(["arc_easy"], None)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert seen == [[True, True], [False, False]]
    assert not any(switch.HF_HUB_OFFLINE for switch in switches)


def test_lm_eval_that_is_not_installed(exported: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "glass_export.evaluate.harness", raising=False)
    monkeypatch.delattr("glass_export.evaluate.harness", raising=False)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    with pytest.raises(EvaluationError, match=r"run: pip install 'glass-export\[tasks\]'"):
        evaluate_artifact_tasks(exported("llama"), settings(None, "arc_easy"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("griffin", "oracle")}, "'oracle' knows the answer"),
        ({"refresh": (8,)}, "refresh, dense_start: the answers of tasks"),
        ({"dense_start": (8,)}, "refresh, dense_start: the answers of tasks"),
    ],
)
def test_what_tasks_do_not_have(changes: Any, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        settings(None, "arc_easy", **changes)


def test_bad_names_and_folders(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="tasks: got 'arc_easy,', expected names"):
        settings(None, "arc_easy", "")
    with pytest.raises(EvaluationError, match="expected a folder with tasks"):
        settings(tmp_path / "none", "arc_easy")


def test_methods_are_refused_before_anything_is_loaded(
    exported: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_harness", None)
    for method, message in (("magnitude", "needs the model's weights"), ("grifin", "griffin")):
        with pytest.raises(EvaluationError, match=message):
            evaluate_artifact_tasks(exported("llama"), settings(None, "x", methods=(method,)))
