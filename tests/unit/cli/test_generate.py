"""``run`` and ``chat``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from command import Exported, glass


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


def test_run_refuses_a_profile_that_does_not_exist(exported: Exported) -> None:
    outcome = glass("run", exported("llama"), "the fox", "--profile", "balanecd", code=2)
    assert "did you mean 'balanced'? known: balanced, faithful, fast" in outcome.stderr
