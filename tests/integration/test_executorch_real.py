"""SmolLM2 and the other recipes on ExecuTorch: by the Session and by glass_run, against ONNX."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path

import conversation
import host_jvm
import numpy as np
import pytest
import runner
from real_models import glass_export

from glass_export.artifact import Artifact
from glass_export.runtime import Session

pytestmark = pytest.mark.slow

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
PROMPTS = {
    "English": "The lighthouse keeper looked at the storm and",
    "code": "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "emoji and CJK": "🎉 Party time 👨‍👩‍👧! 你好，世界。",
    "longer than a prefill chunk": "one two three four five six, " * 45,
    "one token": "Hello",
}
LIMIT = 24
TIE = 2e-3  # logits this close may change places between two engines


@pytest.fixture(scope="module")
def artifact(smollm2: Callable[[str], Path]) -> Path:
    return smollm2("executorch")


@pytest.fixture(scope="module")
def session(artifact: Path) -> Iterator[Session]:
    with Session.open(artifact) as opened:
        yield opened


def test_the_manifest_tells_size_and_verification(artifact: Path) -> None:
    manifest = Artifact.open(artifact, check="full").manifest
    assert (manifest.target.name, manifest.target.custom_ops) == ("executorch", True)
    tied_embedding = 49152 * 576  # for look-up and, packed otherwise, for the logits
    assert (artifact / "model.pte").stat().st_size < 1.01 * 4 * (134.6e6 + tied_embedding)
    checks = manifest.verification["checks"]
    assert max(check["value"] for check in checks if check["limit"]) < 1e-3


def test_the_rule_is_found_once_for_all_targets(
    artifact: Path, smollm2: Callable[[str], Path]
) -> None:
    one, other = (Artifact.open(path).manifest for path in (artifact, smollm2("onnx")))
    assert one.search is not None and one.search == other.search  # its seconds, too
    assert (one.selection, one.prior) == (other.selection, other.prior)


def test_dense_and_sparse_answers(session: Session) -> None:
    dense = session.generate(QUESTION, max_new_tokens=LIMIT, density=1.0)
    half = session.generate(QUESTION, max_new_tokens=LIMIT, density=0.5)
    assert "Paris" in dense.text
    assert half.stats.kept_neurons == 768 and half.token_ids != dense.token_ids
    assert dense.stats.decode_tps > 0


@pytest.mark.parametrize("density", [1.0, 0.5])
@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_glass_run_answers_as_the_session(
    glass_run: Path, artifact: Path, session: Session, prompt: str, density: float
) -> None:
    expected = session.generate(prompt, max_new_tokens=LIMIT, density=density, reset=True)
    actual = runner.answer(
        glass_run, artifact, "--prompt", prompt, f"--density={density}", f"--max-new-tokens={LIMIT}"
    )
    assert actual["token_ids"] == list(expected.token_ids)
    assert actual["text"] == expected.text
    assert actual["stats"]["prompt_tokens"] == expected.prompt_tokens


def test_prompts_are_what_they_are_called(session: Session) -> None:
    tokens = {name: len(session.text.encode_text(text)[0]) for name, text in PROMPTS.items()}
    assert tokens["one token"] == 1
    assert session.backend.prefill_chunk < tokens["longer than a prefill chunk"] < 512 - LIMIT


def test_glass_run_takes_token_ids(glass_run: Path, artifact: Path, session: Session) -> None:
    prompt = PROMPTS["English"]
    ids = session.text.encode_text(prompt)[0]
    expected = session.generate(prompt, max_new_tokens=LIMIT, density=0.5, reset=True)
    printed, _ = runner.call(
        glass_run, artifact, "--ids=-", "--print-ids", "--density=0.5", f"--max-new-tokens={LIMIT}",
        typed=" ".join(map(str, ids)),
    )  # fmt: skip
    assert tuple(map(int, printed.split())) == expected.token_ids


def test_glass_run_refuses_what_the_context_cannot_hold(glass_run: Path, artifact: Path) -> None:
    told = runner.refusal(glass_run, artifact, "--prompt", "one two three " * 300, code=1)
    assert "the context holds 512" in told and "shorten the prompt" in told


@pytest.mark.skipif(host_jvm.find_jdk() is None, reason=host_jvm.NO_JDK)
@pytest.mark.parametrize("density", [1.0, 0.5])
def test_java_holds_the_same_conversation(
    jni_test: Callable[..., str], artifact: Path, density: float
) -> None:
    expected = conversation.greedy_lines(artifact, LIMIT, density)
    arguments = (str(LIMIT), str(density), *conversation.QUESTIONS)
    assert jni_test("converse", artifact, *arguments).splitlines() == expected


@pytest.mark.parametrize("density", [1.0, 0.5])
def test_onnx_gives_the_same_tokens(
    smollm2: Callable[[str], Path], session: Session, density: float
) -> None:
    with Session.open(smollm2("onnx")) as other:
        for name, prompt in PROMPTS.items():
            answers = [
                each.generate(prompt, max_new_tokens=LIMIT, density=density, reset=True).token_ids
                for each in (session, other)
            ]
            require_same_or_tie(session, prompt, density, *answers, name)


def require_same_or_tie(
    session: Session,
    prompt: str,
    density: float,
    first: tuple[int, ...],
    second: tuple[int, ...],
    name: str,
) -> None:
    """Where two answers part, the two tokens have to be equally likely."""
    pairs = zip_longest(first, second)
    parting = next((i for i, (one, other) in enumerate(pairs) if one != other), None)
    if parting is None:
        return
    assert parting < min(len(first), len(second)), (name, "one answer ends before the other")
    session.reset()
    logits = session.prefill(*session.text.encode(prompt, "user")).logits
    session.select(density=density)
    for token in first[:parting]:
        logits = session.decode(token)
    gap = float(np.abs(logits[first[parting]] - logits[second[parting]]))
    assert gap < TIE, (name, parting, gap)


@pytest.mark.skipif(
    not os.environ.get("GLASS_TEST_ALL_MODELS"),
    reason="takes minutes a model; set GLASS_TEST_ALL_MODELS=1 to run it",
)
@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
def test_the_other_recipes_export_and_verify(name: str, glass_run: Path, tmp_path: Path) -> None:
    output = tmp_path / name
    report = glass_export(
        "--model", name, "--target", "executorch", "--output", str(output), "--json",
        "--set", "calibration.tokens=256", "--set", "export.max_length=256",
        "--set", "verify.tokens=16", "--set", "selection.mode=paper-a",
    )  # fmt: skip
    assert json.loads(report)["verification"]["passed"]
    prompt = "The capital of France is"
    with Session.open(output) as session:
        expected = session.generate(prompt, max_new_tokens=8, density=0.5)
    actual = runner.answer(
        glass_run, output, "--prompt", prompt, "--density=0.5", "--max-new-tokens=8"
    )
    assert actual["token_ids"] == list(expected.token_ids)
    assert actual["text"] == expected.text
