"""What is refused before anything is measured, and what the workload is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import CONTEXT, tiny_tokenizer

from glass_export.bench.contestants import (
    PEERS,
    Contestant,
    Settings,
    artifact_contestant,
    peer_contestant,
    require_distinct,
    require_one_text,
)
from glass_export.bench.workers import KINDS
from glass_export.bench.workload import Workload
from glass_export.errors import BenchError, GenerationError
from glass_export.runtime.text import TextCodec

Make = Callable[..., Contestant]


@pytest.fixture
def text() -> TextCodec:
    return TextCodec(tiny_tokenizer().backend_tokenizer)


def test_settings_are_sorted_without_repetition() -> None:
    settings = Settings(densities=(1.0, 0.5, 1.0), threads=(2, 1, 2), contexts=(8, 4)).checked()
    assert settings.densities == (0.5, 1.0) and settings.contexts == (4, 8)
    assert settings.threads == (2, 1)
    assert len(Settings().checked().threads) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"densities": (0.0,)}, {"threads": (0,)}, {"contexts": (0,)}, {"repeats": 0}, {"tokens": 0}],
    ids=str,
)
def test_settings_out_of_range(wrong: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(GenerationError):
        Settings(**wrong).checked()


def test_an_artifact_must_hold_context_and_tokens(exported: Callable[[str], Path]) -> None:
    folder = exported("llama")
    fits = Settings(contexts=(CONTEXT - 5,), tokens=4)
    contestant = artifact_contestant(folder, fits)
    assert contestant.max_length == CONTEXT and contestant.about["model"]
    assert contestant.about["bytes"] == sum(f.stat().st_size for f in listed(folder))
    with pytest.raises(BenchError, match=f"need {CONTEXT + 1} positions, .* has {CONTEXT}"):
        artifact_contestant(folder, replace(fits, tokens=5))


def listed(folder: Path) -> list[Path]:
    return [f for f in folder.iterdir() if not f.name.startswith("glass.json")]


def test_peers_are_known_by_name(contestant: Make, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"1234567")
    peer = peer_contestant("llama.cpp", model, contestant("ours"))
    assert (peer.kind, peer.densities, peer.about["bytes"]) == ("llama_cpp", (None,), 7)
    assert not peer.is_artifact
    workers = {known.kind for known in PEERS.values() if known.package} | {"artifact"}
    assert workers == set(KINDS)


def test_only_peers_with_own_packages_get_the_other_python(
    contestant: Make, tmp_path: Path
) -> None:
    python = tmp_path / "python3"
    python.touch()
    for name, expected in (("llama.cpp", python), ("xnnpack", None)):
        assert (
            peer_contestant(name, tmp_path, contestant("ours"), python=python).program == expected
        )


def test_what_a_peer_lacks_is_named(contestant: Make, tmp_path: Path) -> None:
    ours, nothing = contestant("ours"), tmp_path / "nothing"
    cases = [
        ("llamacpp", tmp_path, None, "did you mean 'llama.cpp'?"),
        ("llama.cpp", None, None, "--against llama.cpp needs --peer-model PATH: a .gguf file"),
        ("xnnpack", nothing, None, "nothing: no such path; expected a dense .pte"),
        ("llama.cpp", tmp_path, nothing, "nothing: no such file; expected a Python"),
    ]
    for name, model, python, message in cases:
        with pytest.raises(BenchError, match=message):
            peer_contestant(name, model, ours, python=python)


def test_one_tokenizer_and_one_name_each(contestant: Make, text: TextCodec) -> None:
    first, second = contestant("first"), contestant("second")
    require_one_text(first, second)
    require_distinct([first, second])
    with pytest.raises(BenchError, match="second: its tokenizer or context differs from first"):
        require_one_text(first, replace(second, workload=Workload.of(text, 64)))
    with pytest.raises(BenchError, match="first: given twice"):
        require_distinct([first, second, first])


def test_the_text_is_long_enough_and_has_words_and_code(text: TextCodec) -> None:
    workload = Workload.of(text, 10_000)
    assert len(workload.passages) == 3
    assert sum(len(p.continuation) for p in workload.passages) > 200
    shown = [text.decode([*p.tokens, *p.continuation]) for p in workload.passages]
    assert any("def moving_average" in passage for passage in shown)
    assert all("\\\n" not in passage for passage in shown)


def test_passages_are_cut_where_the_context_ends(text: TextCodec) -> None:
    whole, cut = Workload.of(text, 10_000), Workload.of(text, CONTEXT)
    for long, short in zip(whole.passages, cut.passages, strict=True):
        assert len(short.tokens) + len(short.continuation) == CONTEXT
        assert long.tokens[: len(short.tokens)] == short.tokens
        assert len(short.mask) == len(short.tokens)


def test_a_prompt_has_any_length(text: TextCodec) -> None:
    workload = Workload.of(text, 64)
    prompt = workload.prompt(1000)
    assert len(prompt) == 1000 and workload.prompt(5) == prompt[:5]
    assert prompt[:5] == list(workload.passages[0].tokens[:5])
