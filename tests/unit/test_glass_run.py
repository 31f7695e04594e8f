"""glass_run on programs of tiny models: the Session's answers, and its messages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
import runner
import torch
from executorch.exir import to_edge
from tiny_models import CONTEXT

from glass_export.artifact.reader import checksum_line
from glass_export.runtime import SamplingParams, Session
from glass_export.runtime.refresh import AUTO_INTERVAL

Exported = Callable[..., Path]

PROMPTS = {
    "words": "the quick brown fox",
    "one token": "q",
    "longer than a prefill chunk": "the lazy dog jumps over " * 10,
    "special tokens": "<s>the fox</s><|user|> jumps",
    "bytes outside the merges": "é😀 你好\n\tx",
}


@pytest.fixture(scope="module")
def opened(exported: Exported) -> Iterator[Callable[[str], Session]]:
    """``opened(family)``: the Python session over the artifact that glass_run gets."""
    sessions: list[Session] = []

    @cache
    def of(family: str) -> Session:
        sessions.append(Session.open(exported(family, "executorch")))
        return sessions[-1]

    yield of
    for session in sessions:
        session.close()


@pytest.mark.parametrize("density", [1.0, 0.5])
@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text", "qwen2_moe"])
def test_answers_as_the_session(
    glass_run: Path,
    exported: Exported,
    opened: Callable[[str], Session],
    family: str,
    prompt: str,
    density: float,
) -> None:
    expected = opened(family).generate(prompt, max_new_tokens=12, density=density, reset=True)
    actual = runner.answer(
        glass_run, exported(family, "executorch"), "--prompt", prompt, "--max-new-tokens", "12",
        "--density", str(density),
    )  # fmt: skip
    assert actual["token_ids"] == list(expected.token_ids)
    assert actual["text"] == expected.text
    assert actual["finish_reason"] == expected.finish_reason
    for name in ("prompt_tokens", "new_tokens", "density", "kept_neurons"):
        assert actual["stats"][name] == getattr(expected.stats, name), name


@pytest.mark.parametrize("fusion", ["borda", "shrinkage", "local", "global"])
def test_chooses_neurons_as_the_session(
    glass_run: Path, exported: Exported, opened: Callable[[str], Session], fusion: str
) -> None:
    prompt = "the dog"
    expected = opened("llama").generate(
        prompt, max_new_tokens=12, reset=True,
        density=0.25, fusion=fusion, local="squared", prior="G", lam=0.25, tau=8.0,
    )  # fmt: skip
    actual = runner.answer(
        glass_run, exported("llama", "executorch"), f"--prompt={prompt}", "--max-new-tokens=12",
        "--density=0.25", f"--fusion={fusion}", "--local=squared", "--prior=G", "--lam=0.25",
        "--tau=8",
    )  # fmt: skip
    assert actual["token_ids"] == list(expected.token_ids)


@pytest.mark.parametrize("density", [1.0, 0.25])
@pytest.mark.parametrize(
    ("refresh", "dense_start"),
    [("3", 0), ("8", 0), ("40", 0), ("8", 5), ("off", 4), ("auto", 0), ("auto", 5)],
)
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_refreshes_as_the_session(
    glass_run: Path,
    exported: Exported,
    opened: Callable[[str], Session],
    family: str,
    refresh: str,
    dense_start: int,
    density: float,
) -> None:
    """40 tokens and the next are more than a prefill call takes."""
    prompt = "the quick brown fox"
    expected = opened(family).generate(
        prompt, max_new_tokens=60, reset=True, density=density,
        refresh=int(refresh) if refresh.isdigit() else refresh, dense_start=dense_start,
    )  # fmt: skip
    actual = runner.answer(
        glass_run, exported(family, "executorch"), f"--prompt={prompt}", "--max-new-tokens=60",
        f"--density={density}", f"--refresh={refresh}", f"--dense-start={dense_start}",
    )  # fmt: skip
    assert actual["token_ids"] == list(expected.token_ids)
    assert actual["stats"]["refreshes"] == expected.stats.refreshes
    assert (actual["stats"]["refresh_ms"] > 0) == (expected.stats.refreshes > 0)
    assert (expected.stats.refreshes > 0) == (density < 1.0)


def test_a_program_that_says_how_to_refresh(
    glass_run: Path, exported: Exported, opened: Callable[[str], Session]
) -> None:
    """Its metadata has the recipe's settings, which an option replaces."""
    settings = ("selection.refresh=4", "selection.dense_start=2", "selection.density=0.25")
    artifact = exported("llama", "executorch", *settings)
    arguments = ["--prompt=the dog", "--max-new-tokens=16"]
    expected = opened("llama").generate(
        "the dog", max_new_tokens=16, reset=True, density=0.25, refresh=4, dense_start=2
    )
    actual = runner.answer(glass_run, artifact, *arguments)
    assert actual["token_ids"] == list(expected.token_ids)
    assert actual["stats"]["refreshes"] == expected.stats.refreshes > 0
    never = runner.answer(glass_run, artifact, *arguments, "--refresh=off", "--dense-start=0")
    assert never["stats"]["refreshes"] == 0


def test_a_program_that_says_auto(glass_run: Path, exported: Exported) -> None:
    artifact = exported("llama", "executorch", "selection.refresh=auto", "selection.density=0.25")
    with Session.open(artifact) as session:
        assert session.defaults.refresh == "auto"
        expected = session.generate("the dog", max_new_tokens=60)
    actual = runner.answer(glass_run, artifact, "--prompt=the dog", "--max-new-tokens=60")
    assert actual["token_ids"] == list(expected.token_ids)
    assert actual["stats"]["refreshes"] == expected.stats.refreshes > 0


@pytest.mark.parametrize(("fusion", "refreshes"), [("global", 1), ("local", 2)])
def test_auto_ends_where_the_session_ends_it(
    glass_run: Path,
    exported: Exported,
    opened: Callable[[str], Session],
    fusion: Literal["global", "local"],
    refreshes: int,
) -> None:
    """A choice by the prior alone has settled at once."""
    prompt = PROMPTS["words"]
    expected = opened("llama").generate(
        prompt, max_new_tokens=80, reset=True, density=0.5, refresh="auto", fusion=fusion
    )
    actual = runner.answer(
        glass_run, exported("llama", "executorch"), f"--prompt={prompt}", "--max-new-tokens=80",
        "--density=0.5", "--refresh=auto", f"--fusion={fusion}",
    )  # fmt: skip
    assert actual["token_ids"] == list(expected.token_ids)
    assert expected.stats.new_tokens > 2 * (AUTO_INTERVAL + 1)
    assert actual["stats"]["refreshes"] == expected.stats.refreshes == refreshes


@pytest.mark.parametrize("local_tokens", ["user", "all"])
def test_scores_the_tokens_that_the_session_scores(
    glass_run: Path,
    exported: Exported,
    opened: Callable[[str], Session],
    local_tokens: Literal["user", "all"],
) -> None:
    """As an option, and as metadata say it."""
    arguments = [f"--prompt={PROMPTS['special tokens']}", "--max-new-tokens=24", "--density=0.25"]
    wanted: dict[str, Any] = {"max_new_tokens": 24, "density": 0.25, "fusion": "local"}
    session, prompt = opened("llama"), PROMPTS["special tokens"]
    expected = session.generate(prompt, reset=True, local_tokens=local_tokens, **wanted)
    other = "all" if local_tokens == "user" else "user"
    differs = session.generate(prompt, reset=True, local_tokens=other, **wanted)
    assert differs.token_ids != expected.token_ids
    actual = runner.answer(
        glass_run, exported("llama", "executorch"), *arguments, "--fusion=local",
        f"--local-tokens={local_tokens}",
    )  # fmt: skip
    assert actual["token_ids"] == list(expected.token_ids)
    rule = ("selection.fusion=local", f"selection.local_tokens={local_tokens}")
    said = runner.answer(glass_run, exported("llama", "executorch", *rule), *arguments)
    assert said["token_ids"] == list(expected.token_ids)


SENSITIVE = {"fusion": "shrinkage", "local": "squared", "prior": "G", "tau": 8.0}


@pytest.mark.parametrize("sensitivity", [0.0, 0.25, 0.5, 1.0])
def test_weighs_by_sensitivity_as_the_session(
    glass_run: Path, exported: Exported, opened: Callable[[str], Session], sensitivity: float
) -> None:
    expected = opened("llama").generate(
        "the dog", max_new_tokens=16, reset=True, density=0.25, sensitivity=sensitivity, **SENSITIVE
    )
    actual = runner.answer(
        glass_run, exported("llama", "executorch"), "--prompt=the dog", "--max-new-tokens=16",
        "--density=0.25", f"--sensitivity={sensitivity}",
        *(f"--{name}={value}" for name, value in SENSITIVE.items()),
    )  # fmt: skip
    assert actual["token_ids"] == list(expected.token_ids)


@pytest.mark.parametrize("refresh", [0, 4])
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_keeps_dense_layers_as_the_session(
    glass_run: Path,
    exported: Exported,
    opened: Callable[[str], Session],
    family: str,
    refresh: int,
) -> None:
    session, wanted = opened(family), {"density": 0.5, "dense_layers": [2], "refresh": refresh}
    expected = session.generate("the dog", max_new_tokens=24, reset=True, **wanted)
    assert (session.select(density=0.5, dense_layers=[2]) == -1).any()
    actual = runner.answer(
        glass_run, exported(family, "executorch"), "--prompt=the dog", "--max-new-tokens=24",
        "--density=0.5", "--dense-layers=2", f"--refresh={refresh}",
    )  # fmt: skip
    assert actual["token_ids"] == list(expected.token_ids)
    assert actual["stats"]["kept_neurons"] == expected.stats.kept_neurons == 24


def test_a_program_that_says_its_rule(glass_run: Path, exported: Exported) -> None:
    """Its metadata has the sensitivity and the dense layers, which options replace."""
    rule = (*(f"{name}={value}" for name, value in SENSITIVE.items()), "dense_layers=[2]")
    settings = (f"selection.{setting}" for setting in ("sensitivity=0.5", *rule))
    artifact = exported("llama", "executorch", *settings)
    arguments = ["--prompt=the dog", "--max-new-tokens=16"]
    with Session.open(artifact) as session:
        assert session.defaults.mode == "fixed" and session.defaults.dense_layers == (2,)
        expected = session.generate("the dog", max_new_tokens=16)
        plain = session.generate(
            "the dog", max_new_tokens=16, reset=True, fusion="local", dense_layers=()
        )
    actual = runner.answer(glass_run, artifact, *arguments)
    assert actual["token_ids"] == list(expected.token_ids)
    actual = runner.answer(glass_run, artifact, *arguments, "--fusion=local", "--dense-layers=none")
    assert actual["token_ids"] == list(plain.token_ids)
    both = [*arguments, "--fusion=local", "--sensitivity=0.5"]
    assert "sensitivity: got 0.5" in runner.refusal(glass_run, artifact, *both, code=1)
    other = [*arguments, "--dense-layers=3"]
    assert "expected layers 0 to 2" in runner.refusal(glass_run, artifact, *other, code=1)


SAMPLED: list[dict[str, float | int]] = [
    {"temperature": 1.0, "seed": 0},
    {"temperature": 0.7, "top_k": 20, "seed": 123456789012345},
    {"temperature": 1.5, "top_p": 0.8, "seed": 2},
    {"temperature": 2.0, "min_p": 0.2, "seed": 3},
    {"temperature": 1.0, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.3, "seed": 4},
    {"repetition_penalty": 1.5},
]


@pytest.mark.parametrize("settings", SAMPLED, ids=lambda settings: ",".join(settings))
def test_samples_as_the_session(
    glass_run: Path,
    exported: Exported,
    opened: Callable[[str], Session],
    settings: dict[str, float | int],
) -> None:
    """The same seed gives the same tokens."""
    sampling = SamplingParams(**settings)  # type: ignore[arg-type]
    expected = opened("llama").generate(
        "the quick", max_new_tokens=40, sampling=sampling, density=0.5, reset=True
    )
    actual = runner.answer(
        glass_run, exported("llama", "executorch"), "--prompt=the quick", "--max-new-tokens=40",
        "--density=0.5",
        *(f"--{name.replace('_', '-')}={value}" for name, value in settings.items()),
    )  # fmt: skip
    assert actual["token_ids"] == list(expected.token_ids)


def test_chats_and_stops_as_the_session(
    glass_run: Path, exported: Exported, opened: Callable[[str], Session]
) -> None:
    messages = [{"role": "user", "content": "the lazy dog"}]
    session, artifact = opened("llama"), exported("llama", "executorch")
    wanted = {"max_new_tokens": 24, "density": 0.25, "fusion": "local", "reset": True}
    whole = session.generate(messages, **wanted)  # type: ignore[arg-type]
    arguments = ["--chat=the lazy dog", "--max-new-tokens=24", "--density=0.25", "--fusion=local"]
    actual = runner.answer(glass_run, artifact, *arguments)
    assert actual["token_ids"] == list(whole.token_ids)
    stop = whole.text[len(whole.text) // 2 :][:3]
    expected = session.generate(messages, stop=stop, **wanted)  # type: ignore[arg-type]
    actual = runner.answer(glass_run, artifact, *arguments, f"--stop={stop}")
    assert actual["text"] == expected.text != whole.text
    assert actual["finish_reason"] == expected.finish_reason == "stop"


def test_stops_where_the_context_ends(
    glass_run: Path, exported: Exported, opened: Callable[[str], Session]
) -> None:
    prompt = "the lazy dog jumps over " * 10
    expected = opened("llama").generate(prompt, max_new_tokens=CONTEXT, reset=True)
    actual = runner.answer(
        glass_run, exported("llama", "executorch"), "--prompt", prompt, "--max-new-tokens", "96"
    )
    assert actual["token_ids"] == list(expected.token_ids)
    assert actual["finish_reason"] == expected.finish_reason


def test_ids_in_text_and_ids_out(glass_run: Path, exported: Exported, tmp_path: Path) -> None:
    artifact, limit = exported("llama", "executorch"), "--max-new-tokens=8"
    ids = [12, 90, 33, 7]
    (tmp_path / "ids.txt").write_text("\n".join(map(str, ids)))
    by_file = runner.answer(glass_run, artifact, "--ids", tmp_path / "ids.txt", limit)
    typed, figures = runner.call(
        glass_run, artifact, "--ids=-", "--print-ids", limit, typed="12 90\n33 7"
    )
    assert [int(word) for word in typed.split()] == by_file["token_ids"]
    assert by_file["stats"]["prompt_tokens"] == 4 and "tok/s" in figures
    streamed, _ = runner.call(glass_run, artifact, "--ids", tmp_path / "ids.txt", limit)
    assert streamed == by_file["text"] + "\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got no artifact directory"),
        (["DIR"], "expected one of --prompt TEXT, --chat TEXT and --ids FILE"),
        (["DIR", "--prompt=x", "--ids=y"], "expected one of --prompt TEXT"),
        (["DIR", "--prompt"], "--prompt: expected a value"),
        (["DIR", "--prompt="], "--prompt: it is empty"),
        (["DIR", "other", "--prompt=x"], "second directory, 'other'"),
        (["DIR", "--prompt=x", "--prompt=y"], "--prompt: given twice"),
        (["DIR", "--prompt=x", "--top-q=3"], "'--top-q=3' is not an option"),
        (["DIR", "--prompt=x", "--top-k=some"], "--top-k: got 'some'"),
        (["DIR", "--prompt=x", "--top-p=1.5"], "sampling: top_p is 1.5"),
        (["DIR", "--prompt=x", "--threads=0"], "--threads: got '0'"),
        (["DIR", "--prompt=x", "--max-new-tokens=1.5"], "--max-new-tokens: got '1.5'"),
        (["DIR", "--prompt=x", "--density=0"], "--density"),
        (["DIR", "--prompt=x", "--density=nan"], "--density"),
        (["DIR", "--prompt=x", "--lam=2"], "--lam"),
        (["DIR", "--prompt=x", "--refresh=often"], "--refresh: got 'often'"),
        (
            ["DIR", "--prompt=x", "--local-tokens=x"],
            "--local-tokens: got 'x', expected one of user",
        ),
        (["DIR", "--prompt=x", "--dense-start=-1"], "--dense-start: got '-1'"),
        (["DIR", "--prompt=x", "--sensitivity=0.3"], "--sensitivity: got '0.3'"),
        (["DIR", "--prompt=x", "--dense-layers=1,1"], "--dense-layers: got '1,1'"),
        (["DIR", "--prompt=x", "--fusion=cold"], "one of borda, shrinkage, local, global"),
        (["DIR", "--prompt=x", "--json", "--print-ids"], "exclude each other"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(glass_run: Path, arguments: list[str], message: str) -> None:
    assert message in runner.refusal(glass_run, *arguments, code=2)


def test_help(glass_run: Path) -> None:
    shown, _ = runner.call(glass_run, "--help")
    assert shown.startswith("usage: glass_run DIR") and "--density" in shown


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--prompt", "the fox " * 200], f"the context holds {CONTEXT}"),
        (["--prompt", b"\xff\xfe"], "not valid UTF-8"),
        (["--ids", "no-such-file"], "cannot read no-such-file"),
        (["--ids", __file__], "expected whole numbers"),
    ],
    ids=["too long", "not UTF-8", "no ids file", "not ids"],
)
def test_unusable_prompts(
    glass_run: Path, exported: Exported, option: list[str | bytes], message: str
) -> None:
    artifact = exported("llama", "executorch")
    assert message in runner.refusal(glass_run, artifact, *option, code=1)


@pytest.mark.parametrize("ids", ["320", "-1", ""])
def test_ids_outside_the_vocabulary(
    glass_run: Path, exported: Exported, ids: str, tmp_path: Path
) -> None:
    (tmp_path / "ids").write_text(ids)
    told = runner.refusal(
        glass_run, exported("llama", "executorch"), "--ids", tmp_path / "ids", code=1
    )
    assert "vocabulary, expected 0 to 319" in told or "got no tokens" in told


def test_directory_that_does_not_exist(glass_run: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    assert f"{missing}/" in runner.refusal(glass_run, missing, "--prompt=x", code=1)
    (tmp_path / "ids").write_text("1")
    assert f"{missing}/" in runner.refusal(glass_run, missing, "--ids", tmp_path / "ids", code=1)


@pytest.fixture
def altered(exported: Exported, tmp_path: Path) -> Callable[[bytes], Path]:
    """``altered(program)``: the tiny artifact with another model.pte, which its manifest knows."""

    def make(program: bytes) -> Path:
        shutil.copytree(exported("llama", "executorch"), tmp_path / "altered")
        folder = tmp_path / "altered"
        (folder / "model.pte").write_bytes(program)
        manifest = json.loads((folder / "glass.json").read_text())
        (entry,) = (entry for entry in manifest["files"] if entry["path"] == "model.pte")
        entry["size"] = len(program)
        content = json.dumps(manifest).encode()
        (folder / "glass.json").write_bytes(content)
        (folder / "glass.json.sha256").write_bytes(checksum_line(content))
        return folder

    return make


class Twice(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x


def test_program_of_somebody_else(glass_run: Path, altered: Callable[[bytes], Path]) -> None:
    program = to_edge(torch.export.export(Twice(), (torch.ones(2),))).to_executorch()
    told = runner.refusal(glass_run, altered(program.buffer), "--prompt=x", code=1)
    assert "model.pte: it has no method 'prefill'" in told and "--target executorch" in told


def test_damaged_program(
    glass_run: Path, exported: Exported, altered: Callable[[bytes], Path]
) -> None:
    program = (exported("llama", "executorch") / "model.pte").read_bytes()
    told = runner.refusal(glass_run, altered(program[: len(program) // 2]), "--prompt=x", code=1)
    assert "model.pte" in told and "export the model again" in told


@pytest.mark.parametrize(("field", "other"), [(b"abi_version", b"9"), (b"format_version", b"9")])
def test_program_of_another_version(
    glass_run: Path,
    exported: Exported,
    altered: Callable[[bytes], Path],
    field: bytes,
    other: bytes,
) -> None:
    program = (exported("llama", "executorch") / "model.pte").read_bytes()
    start = program.index(field + b"=") + len(field) + 1
    changed = program[:start] + other + program[start + 1 :]
    told = runner.refusal(glass_run, altered(changed), "--prompt=x", code=1)
    assert f"{field.decode()} is 9" in told and "export the model again" in told


def test_artifact_without_its_tokenizer(glass_run: Path, altered: Callable[[bytes], Path]) -> None:
    artifact = altered(b"")
    (artifact / "tokenizer.json").unlink()
    told = runner.refusal(glass_run, artifact, "--prompt=x", code=1)
    assert "tokenizer.json: missing" in told


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (("schema_version",), 2, "schema_version is 2, this program reads 1; update it"),
        (("schema_version",), None, "this is not a glass-export artifact"),
        (("model", "dims", "d_ff"), 0, "d_ff is 0, expected a whole number of at least 1"),
        (("model", "dims", "layers"), 4, "missing or not float32 [4,48]"),
        (("model", "eos_token_ids"), [320], "token id 320 is outside the vocabulary"),
        (("selection", "density"), 2, "selection.density: got '2'"),
        (("selection", "prior"), "B", "selection.prior: got 'B'"),
        (("prior", "statistics"), ["G"], "selection.prior is 'A', not among prior.statistics"),
        (("target", "graphs", "decode"), "other.pte", "'other.pte' is used but not in files"),
        (("files", 0, "path"), "../evil", "'../evil' is not a plain relative path"),
        (("files", 0, "size"), 1, "bytes, expected 1"),
        (("target", "signatures", "prefill", "outputs", 1, "shape"), [3, 47], "'abs_sum' is not"),
        (("target", "signatures", "decode", "inputs"), [], "glass.json says 0 and 1"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_manifest_that_cannot_be(
    glass_run: Path,
    exported: Exported,
    tmp_path: Path,
    field: tuple[str | int, ...],
    value: object,
    message: str,
) -> None:
    """Of a signature: what the graph itself has."""
    folder = tmp_path / "altered"
    shutil.copytree(exported("llama", "executorch"), folder)
    manifest = json.loads((folder / "glass.json").read_text())
    inner = manifest
    for name in field[:-1]:
        inner = inner[name]
    inner[field[-1]] = value
    content = json.dumps(manifest).encode()
    (folder / "glass.json").write_bytes(content)
    assert "glass.json: altered" in runner.refusal(glass_run, folder, "--prompt=x", code=1)
    (folder / "glass.json.sha256").write_bytes(checksum_line(content))
    assert message in runner.refusal(glass_run, folder, "--prompt=x", code=1)


def test_damaged_prior(glass_run: Path, exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "altered"
    shutil.copytree(exported("llama", "executorch"), folder)
    sound = (folder / "prior.safetensors").read_bytes()
    nan = b"\x00\x00\xc0\x7f"
    for damaged in (b"\xff" * len(sound), sound.replace(b'"A"', b'"B"'), sound[:-4] + nan):
        (folder / "prior.safetensors").write_bytes(damaged)
        told = runner.refusal(glass_run, folder, "--prompt=x", code=1)
        assert "prior.safetensors: " in told and "again" in told
