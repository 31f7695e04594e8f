"""The command line: help, errors, exit codes, and what goes to stdout and stderr."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_artifact
from typer.testing import CliRunner

import glass_export
from glass_export import pipeline
from glass_export.artifact import ArtifactWriter
from glass_export.cli.app import app
from glass_export.manifest import JudgedRule, Manifest, SearchInfo
from glass_export.recipe import Recipe, recipe_names
from glass_export.targets import known_targets

COMMANDS = [
    "plan", "run", "compare", "bench", "eval", "tune", "inspect", "verify", "recipes",
    "build-native",
]  # fmt: skip
Exported = Callable[[str], Path]
Outcome = subprocess.CompletedProcess[str]


def glass(*args: str | Path, cwd: Path | None = None, code: int = 0) -> Outcome:
    """Run the real command line in its own process and check its exit code."""
    command = [sys.executable, "-m", "glass_export", *map(str, args)]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)
    assert outcome.returncode == code, outcome
    return outcome


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return tiny_artifact.write(tmp_path / "tiny")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout and command in result.stdout


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_root_help_lists_commands_and_export_options(args: list[str]) -> None:
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0
    for word in (*COMMANDS, "--model", "--target", "--dtype", "--set"):
        assert word in result.stdout


def test_version() -> None:
    assert glass("--version").stdout == f"glass-export {glass_export.__version__}\n"


@pytest.mark.parametrize(
    "command", ["--help", "run --help", "recipes", "inspect {artifact}", "run {artifact} hello"]
)
def test_heavy_libraries_stay_out(artifact: Path, command: str) -> None:
    """Help and running an artifact import none of what only an export needs."""
    code = (
        "import sys; from glass_export.cli import run; run(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'onnx', 'onnx_ir', 'gguf', 'huggingface_hub'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    args = command.format(artifact=artifact).split()
    outcome = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr


def test_unknown_model_suggests_the_nearest(tmp_path: Path) -> None:
    outcome = glass("--model", "smolm2", cwd=tmp_path, code=2)
    assert "'smolm2': not a recipe (did you mean 'smollm2'?)" in outcome.stderr
    assert outcome.stdout == "" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["nothing.gguf", "nothing.toml", "./nothing"])
def test_model_path_that_does_not_exist(tmp_path: Path, model: str) -> None:
    assert model in glass("--model", model, cwd=tmp_path, code=2).stderr


def test_unknown_target_lists_the_known(tmp_path: Path) -> None:
    for args in (["--target", "tpu"], ["--set", "target.name=tpu"]):
        outcome = glass("--model", "smollm2", *args, cwd=tmp_path, code=2)
        assert "tpu" in outcome.stderr and "does not exist" in outcome.stderr
        assert all(name in outcome.stderr for name in known_targets())
    assert "onnx" in known_targets()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("calibration.token=1", "did you mean 'tokens'?"),
        ("calibration.tokens=many", "expected int"),
        ("calibration.tokens=0", "expected at least 1"),
        ("selection.density=1.5", "at most 1"),
        ("nonsense", "expected section.key=value"),
        ("model.name.x=1", "not a section"),
    ],
)
def test_bad_override(tmp_path: Path, override: str, message: str) -> None:
    outcome = glass("--model", "smollm2", "--set", override, cwd=tmp_path, code=2)
    assert message in outcome.stderr and "Traceback" not in outcome.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["--nonsense"],
        ["nonsense"],
        ["--target", "onnx"],
        ["--model", "smollm2", "inspect", "x"],
        ["--json", "inspect", "x"],
        ["inspect"],
        ["run", "x", "y", "--density", "much"],
        ["run", "x", "y", "--fusion", "cold"],
    ],
    ids=" ".join,
)
def test_usage_errors(args: list[str]) -> None:
    outcome = glass(*args, code=2)
    assert outcome.stderr and outcome.stdout == ""


def test_export_refuses_a_foreign_directory(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    outcome = glass("--model", model, "--output", tmp_path, code=1)
    assert "not empty and not an artifact" in outcome.stderr
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_inspect(artifact: Path) -> None:
    shown = glass("inspect", artifact).stdout
    for word in ("tiny", "llama", "decode.onnx", "logits", "passed", "density 0.5"):
        assert word in shown
    assert json.loads(glass("inspect", artifact, "--json").stdout)["model"]["name"] == "tiny"


@pytest.mark.parametrize(
    "command", ["inspect", "verify", "run", "compare", "bench", "eval", "tune"]
)
def test_broken_artifact(artifact: Path, command: str) -> None:
    (artifact / "weights.bin").write_bytes(b"short")
    more = ["hello"] if command in ("run", "compare") else []
    outcome = glass(command, artifact, *more, code=1)
    assert "weights.bin: got 5 bytes, expected 64" in outcome.stderr
    assert "Traceback" not in outcome.stderr and outcome.stdout == ""


def test_verify_checks_hashes(artifact: Path) -> None:
    (artifact / "weights.bin").write_bytes(b"x" * 64)
    assert "weights.bin: altered" in glass("verify", artifact, code=1).stderr


def test_recipes() -> None:
    shown = glass("recipes").stdout
    listed = [entry["name"] for entry in json.loads(glass("recipes", "--json").stdout)]
    assert listed == recipe_names() and {"smollm2", "qwen2", "gemma3"} <= set(listed)
    assert all(name in shown for name in listed)


def test_closed_pipe_ends_quietly(artifact: Path) -> None:
    command = f"{sys.executable} -m glass_export inspect {artifact} --json | head -c 1"
    outcome = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert outcome.stdout == "{" and "Traceback" not in outcome.stderr


def test_interrupt_ends_with_130(artifact: Path) -> None:
    code = (
        "import sys; from glass_export import artifact; from glass_export.cli import run\n"
        "def interrupted(*_, **__): raise KeyboardInterrupt\n"
        "artifact.Artifact.open = interrupted\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "inspect", str(artifact)]
    outcome = subprocess.run(command, capture_output=True, text=True)
    assert outcome.returncode == 130 and "Traceback" not in outcome.stderr


def test_unexpected_error_is_short_unless_verbose(artifact: Path) -> None:
    code = (
        "import sys; from glass_export import artifact; from glass_export.cli import run\n"
        "def broken(*_, **__): raise ZeroDivisionError('bug')\n"
        "artifact.Artifact.open = broken\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    for flags, traceback in (([], False), (["-v"], True)):
        command = [sys.executable, "-c", code, *flags, "inspect", str(artifact)]
        outcome = subprocess.run(command, capture_output=True, text=True)
        assert outcome.returncode == 1 and "ZeroDivisionError: bug" in outcome.stderr
        assert ("Traceback" in outcome.stderr) is traceback


def test_missing_extra_tells_how_to_install_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from glass_export.cli import run; sys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "--model", "smollm2"]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert outcome.returncode == 1
    assert "torch is not installed; run: pip install 'glass-export[export]'" in outcome.stderr


def test_run_streams_the_answer(exported: Exported) -> None:
    folder = exported("llama")
    outcome = glass("run", folder, "the quick fox", "--max-new-tokens", "8", "--stats")
    assert outcome.stdout.strip() and "decode tps" in outcome.stderr
    plain = glass("run", folder, "the quick fox", "--max-new-tokens", "8", "--json")
    result = json.loads(plain.stdout)
    assert result["text"].strip() == outcome.stdout.strip()
    assert result["stats"]["density"] == 0.5 and len(result["token_ids"]) <= 8


def test_run_passes_every_setting_on(exported: Exported) -> None:
    settings = (
        "--density 0.25 --fusion shrinkage --local squared --prior G --tau 16 --temperature 0.8 "
        "--top-k 9 --top-p 0.9 --min-p 0.01 --repetition-penalty 1.1 --seed 3 --threads 1 --json"
    )
    args = ["run", exported("llama"), "the fox", "--max-new-tokens", "6", *settings.split()]
    first, again = json.loads(glass(*args).stdout), json.loads(glass(*args).stdout)
    assert first["stats"]["kept_neurons"] == 12
    assert first["token_ids"] == again["token_ids"]
    other = json.loads(glass(*[a if a != "3" else "4" for a in args]).stdout)
    assert first["token_ids"] != other["token_ids"]


def test_run_takes_a_rule_by_name_or_by_its_parts(exported: Exported) -> None:
    args = ["run", exported("llama"), "the fox", "--max-new-tokens", "6", "--density", "0.5"]

    def tokens(*options: str) -> list[int]:
        return json.loads(glass(*args, "--json", *options).stdout)["token_ids"]

    griffin = ["--fusion=local", "--local=griffin", "--local-tokens=all"]
    assert tokens("--mode=griffin") == tokens(*griffin)
    parts = ["--fusion=shrinkage", "--local=squared", "--prior=G", "--sensitivity=1"]
    ragged = tokens(*parts, "--dense-layers=2")
    assert ragged == tokens(*parts, "--dense-layers=2") and len(ragged) > 0
    assert tokens(*parts, "--dense-layers=none") == tokens(*parts)
    told = glass(*args, "--mode=griffin", "--fusion=borda", code=2).stderr
    assert "mode 'griffin'" in told


def test_raw_prompt_has_no_template(exported: Exported) -> None:
    args = ["run", exported("llama"), "the fox", "--max-new-tokens", "4", "--json"]
    chat, raw = json.loads(glass(*args).stdout), json.loads(glass(*args, "--raw").stdout)
    assert raw["prompt_tokens"] < chat["prompt_tokens"]
    assert "--raw is given" in glass(*args, "--raw", "--system", "short", code=2).stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--density=0", "density"),
        ("--density=-1", "density"),
        ("--density=1.01", "density"),
        ("--lam=2", "lam"),
        ("--sensitivity=0.3", "sensitivity"),
        ("--dense-layers=9", "expected layers 0 to 2"),
        ("--dense-layers=all", "joined by commas"),
        ("--temperature=-1", "temperature"),
        ("--max-new-tokens=0", "max_new_tokens"),
    ],
)
def test_run_refuses_bad_settings(exported: Exported, option: str, message: str) -> None:
    outcome = glass("run", exported("llama"), "the fox", option, code=2)
    assert message in outcome.stderr and outcome.stdout == ""


@pytest.mark.parametrize("prompt", ["", "the fox " * 200])
def test_run_refuses_empty_and_too_long_prompts(exported: Exported, prompt: str) -> None:
    outcome = glass("run", exported("llama"), prompt, "--raw", code=2)
    assert "prompt" in outcome.stderr and outcome.stdout == ""


def test_chat_remembers_resets_and_survives_errors(exported: Exported) -> None:
    typed = "the fox\nthe dog\n" + "the fox " * 200 + "\n/reset\nthe fox\n/exit\nnot read\n"
    command = [sys.executable, "-m", "glass_export", "run", str(exported("llama"))]
    outcome = subprocess.run(
        [*command, "--max-new-tokens", "4", "--json"], input=typed, capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome
    first, second, fresh = map(json.loads, outcome.stdout.splitlines())
    assert second["prompt_tokens"] > first["prompt_tokens"] == fresh["prompt_tokens"]
    assert fresh["token_ids"] == first["token_ids"]
    assert "the context holds" in outcome.stderr


def test_compare_shows_both_answers(exported: Exported) -> None:
    args = ["compare", exported("llama"), "the fox", "--max-new-tokens", "6", "--density", "0.25"]
    shown = glass(*args).stdout
    assert "--- dense" in shown and "--- density 0.25" in shown and "as fast as dense" in shown
    dense, sparse = json.loads(glass(*args, "--json").stdout)
    assert (dense["stats"]["density"], sparse["stats"]["density"]) == (1.0, 0.25)


def test_compare_takes_several_densities(exported: Exported) -> None:
    args = ["compare", exported("llama"), "the fox", "--max-new-tokens", "4", "--repeat", "1"]
    rows = json.loads(glass(*args, "--density", "0.75,0.5", "--json").stdout)
    assert [row["stats"]["density"] for row in rows] == [1.0, 0.75, 0.5]
    assert "joined by commas" in glass(*args, "--density", "half", code=2).stderr


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


SMALL = ["--limit", "2", "--tokens", "16", "--temperature", "1.5", "--threads", "1"]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Three prompts that fit the context of a tiny model, in two domains."""
    lines = [("the quick fox", "fast"), ("the lazy dog", "slow"), ("jumps over", "fast")]
    entries = [json.dumps({"prompt": text, "domain": domain}) for text, domain in lines]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(entries))
    return path


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


def test_eval_of_what_is_neither_model_nor_artifact(tmp_path: Path) -> None:
    assert "not a recipe" in glass("eval", "nothing", cwd=tmp_path, code=2).stderr


@pytest.fixture
def own_copy(exported: Exported, tmp_path: Path) -> Path:
    """An artifact that may be written to."""
    return shutil.copytree(exported("llama"), tmp_path / "llama")


def tuning(folder: Path, prompts: Path, *options: str) -> list[str | Path]:
    small = ["--limit", "2", "--tokens", "16", "--threads", "1", "--prompts", prompts]
    sweep = ["--densities", "0.75,0.25", "--refresh", "off,8", "--dense-start", "0"]
    return ["tune", folder, *small, *sweep, *options]


def profiles(folder: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(glass("inspect", folder, "--json").stdout)
    return found["profiles"]


def test_tune_keeps_what_it_picked_as_a_profile(own_copy: Path, prompts: Path) -> None:
    before = profiles(own_copy)
    outcome = glass(*tuning(own_copy, prompts, "--max-kl", "1000", "--name", "mine"))
    assert "profile 'mine' written" in outcome.stdout and "x dense" in outcome.stdout
    assert "4 settings and the dense form on 2 answers" in outcome.stderr
    (added,) = profiles(own_copy).keys() - before.keys()
    found = profiles(own_copy)["mine"]
    assert added == "mine" and found["kl"] > 0 and found["device"].endswith(", 1 thread")
    shown = glass("inspect", own_copy).stdout
    assert "profiles" in shown and "mine" in shown and "balanced" in shown
    args = ["run", own_copy, "the fox", "--max-new-tokens", "4", "--json", "--profile", "mine"]
    assert json.loads(glass(*args).stdout)["stats"]["density"] == found["density"]
    assert json.loads(glass(*args, "--density", "0.5").stdout)["stats"]["density"] == 0.5


def test_tune_prints_one_json_line(own_copy: Path, prompts: Path) -> None:
    before = (own_copy / "glass.json").read_bytes()
    outcome = glass(*tuning(own_copy, prompts, "--max-kl", "1000", "--dry-run", "--json"))
    found = json.loads(outcome.stdout)
    assert len(found["points"]) == 4 and found["dense"]["speedup"] == 1.0
    assert found["picked"]["speedup"] == max(point["speedup"] for point in found["points"])
    assert any(point["front"] for point in found["points"] if point["speedup"] > 1) or all(
        point["speedup"] <= 1 for point in found["points"]
    )
    assert found["profile"] is None and (own_copy / "glass.json").read_bytes() == before


def test_tune_without_a_goal_shows_the_front_and_writes_nothing(
    own_copy: Path, prompts: Path
) -> None:
    before = (own_copy / "glass.json").read_bytes()
    shown = glass(*tuning(own_copy, prompts)).stdout
    assert "dense" in shown and "written" not in shown
    assert (own_copy / "glass.json").read_bytes() == before


def test_tune_tells_the_closest_when_nothing_fits(own_copy: Path, prompts: Path) -> None:
    before = (own_copy / "glass.json").read_bytes()
    outcome = glass(*tuning(own_copy, prompts, "--min-speedup", "1000"), code=1)
    assert (
        "no setting has a speed-up of at least 1000" in outcome.stderr
        and "the closest is density" in outcome.stderr
    )
    assert (own_copy / "glass.json").read_bytes() == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--max-kl", "0"], "max_kl: got 0, expected a number above 0"),
        (["--min-speedup", "-1"], "min_speedup: got -1"),
        (["--densities", "0.5,1"], "densities: got 1, expected values below 1"),
        (["--densities", "0.5,0"], "selection.density: got 0.0"),
        (["--densities", "half"], "--densities 'half': expected numbers joined by commas"),
        (["--refresh", "off,often"], "got 'often', expected a whole number, auto or off"),
        (["--dense-start", "-1"], "selection.dense_start: got -1"),
        (["--name", " "], "--name: got nothing"),
        (["--tokens", "4"], "tokens: got 4"),
        (["--prompts", "no.jsonl"], "no such file"),
    ],
    ids=str,
)
def test_tune_refuses_before_it_measures(exported: Exported, args: list[str], message: str) -> None:
    outcome = glass("tune", exported("llama"), *args, code=2)
    shown = " ".join(outcome.stderr.replace("│", " ").split())
    assert message in shown and outcome.stdout == "" and "dense answers" not in shown


def test_run_refuses_a_profile_that_does_not_exist(exported: Exported) -> None:
    outcome = glass("run", exported("llama"), "the fox", "--profile", "balanecd", code=2)
    assert "did you mean 'balanced'? known: balanced, faithful, fast" in outcome.stderr


def test_verify_passes_and_inspect_shows_it(exported: Exported) -> None:
    assert "verification: passed" in glass("verify", exported("llama")).stdout
    assert json.loads(glass("verify", exported("llama"), "--json").stdout)["passed"] is True
    assert "verification: passed" in glass("inspect", exported("llama")).stdout


def test_inspect_shows_the_best_rules_of_the_search(tmp_path: Path) -> None:
    rules = tuple(
        JudgedRule(rule=f"rule-{number}", text="mixed", kl=0.1 * number, error=0.01)
        for number in range(1, 8)
    )
    search = SearchInfo(
        density=0.4, texts=12, steps=1440, seconds=61.2, layer_kl=(0.1, 0.2), rules=rules
    )
    with ArtifactWriter(tmp_path / "searched") as writer:
        tiny_artifact.fill(writer.path)
        writer.commit(dataclasses.replace(tiny_artifact.manifest(), search=search))
    shown = glass("inspect", tmp_path / "searched").stdout
    assert "best of 7, found at density 0.4 on 12 texts (1,440 tokens) in 61 s" in shown
    assert "0.500 ± 0.010" in shown and "rule-5" in shown and "rule-6" not in shown
    assert "mixed" in shown


def test_export_reports_the_artifact(checkpoint: Exported, tmp_path: Path) -> None:
    small = (
        "export.max_length=96",
        "calibration.tokens=256",
        "calibration.sequence_length=32",
        "selection.mode=fixed",
    )
    sets = [word for value in small for word in ("--set", value)]
    args = ["--model", checkpoint("llama"), *sets, "--no-verify", "--json"]
    result = json.loads(glass(*args, cwd=tmp_path).stdout)
    folder = tmp_path / result["artifact"]
    assert folder.parent == tmp_path / "artifacts" and folder.name.endswith("-onnx")
    assert result["verification"] is None and result["target"] == "onnx"
    glass("inspect", folder)


@pytest.mark.parametrize(("dtype", "name"), [("int4", "-int4"), ("int8", "-int8"), ("fp32", "")])
def test_dtype_goes_to_the_recipe_and_the_name(
    dtype: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports: list[tuple[Recipe, Path]] = []

    def export(recipe: Recipe, folder: Path) -> Manifest:
        exports.append((recipe, folder))
        return tiny_artifact.manifest()

    monkeypatch.setattr(pipeline, "export", export)
    args = ["--model", "smollm2", "--target", "executorch", "--dtype", dtype]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    ((recipe, folder),) = exports
    assert (recipe.target.name, recipe.target.dtype) == ("executorch", dtype)
    assert folder == Path(f"artifacts/smollm2-executorch{name}")


def test_unknown_dtype_lists_the_known(tmp_path: Path) -> None:
    outcome = glass("--model", "smollm2", "--dtype", "fp16", cwd=tmp_path, code=2)
    assert "got 'fp16', expected one of 'fp32', 'int8', 'int4'" in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def test_build_native_prints_where_the_library_is() -> None:
    path = Path(glass("build-native").stdout.removesuffix("\n"))
    assert path.is_file() and path.stem == "libglass_executorch"


def test_build_native_finds_no_library_in_the_chosen_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASS_EXPORT_NATIVE", str(tmp_path))
    assert "GLASS_EXPORT_NATIVE must name the folder" in glass("build-native", code=1).stderr


def test_build_native_without_a_compiler_tells_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASS_EXPORT_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    outcome = glass("build-native", code=1)
    assert "no C++ compiler: looked for no-such-compiler" in outcome.stderr
    assert "apt install g++" in outcome.stderr and outcome.stdout == ""
