"""The ExecuTorch engine and the driver over it, on real artifacts of tiny models."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from executorch.extension.pybindings import portable_lib
from tiny_models import CONTEXT, D_FF, LAYERS, VOCABULARY, tiny_model
from torch import nn

from glass_export import native
from glass_export.artifact import Artifact
from glass_export.errors import ArtifactError, GenerationError, NativeError
from glass_export.ops.kernels import ABI_VERSION
from glass_export.runtime import Session
from glass_export.runtime.executorch import ExecuTorchBackend
from glass_export.runtime.program_metadata import FORMAT_VERSION, encode
from glass_export.targets.executorch.constants import ConstantStore
from glass_export.targets.executorch.program import write_program

Exported = Callable[..., Path]
CHAT = [{"role": "user", "content": "the quick brown fox"}]
EVERY = torch.arange(D_FF, dtype=torch.int32).repeat(LAYERS, 1)


@pytest.fixture
def artifact(exported: Exported) -> Artifact:
    return Artifact.open(exported("llama", "executorch"))


@pytest.fixture
def portable(exported: Exported) -> Artifact:
    return Artifact.open(exported("llama", "executorch", "target.custom_ops=false", layers=1))


@pytest.fixture
def backend(artifact: Artifact) -> Iterator[ExecuTorchBackend]:
    backend = ExecuTorchBackend(artifact)
    yield backend
    backend.close()


@pytest.fixture
def unloaded() -> Iterator[None]:
    """As if no operators were loaded."""
    native.load_operators.cache_clear()
    yield
    native.load_operators.cache_clear()


def prefill(backend: ExecuTorchBackend, tokens: list[int], position: int = 0) -> np.ndarray:
    ones, last = np.ones(len(tokens), np.float32), np.array([len(tokens) - 1])
    return backend.prefill(np.array(tokens), position, ones, last).logits[0]


def test_dense_greedy_generation_is_that_of_the_eager_model(artifact: Artifact) -> None:
    with Session.open(artifact.path) as session:
        ids, _ = session.text.encode_text("the quick brown fox")
        got = session.generate("the quick brown fox", max_new_tokens=12, density=1.0)
    model, tokens = tiny_model("llama"), list(ids)
    for _ in range(12):
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    wanted = tokens[len(ids) :]
    assert list(got.token_ids) == wanted[: wanted.index(1) if 1 in wanted else None]


def test_a_second_turn_reuses_the_cache_and_answers_like_a_fresh_session(
    artifact: Artifact,
) -> None:
    with Session.open(artifact.path) as session:
        first = session.generate(CHAT, max_new_tokens=6, density=0.5)
        answer = {"role": "assistant", "content": first.text}
        talk = [*CHAT, answer, {"role": "user", "content": "over the dog"}]
        second = session.generate(talk, max_new_tokens=6, density=0.5)
        assert second.stats.reused_tokens > 0
        fresh = session.generate(talk, max_new_tokens=6, density=0.5, reset=True)
    assert fresh.stats.reused_tokens == 0 and second.token_ids == fresh.token_ids


def test_a_shorter_context_is_kept(artifact: Artifact) -> None:
    with Session.open(artifact.path, max_length=32) as session:
        assert session.backend.max_length == 32
        got = session.generate(CHAT, max_new_tokens=100, density=1.0)
    assert got.prompt_tokens + len(got.token_ids) <= 33


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": CONTEXT + 1}, rf"max_length: got {CONTEXT + 1}, expected 1 to {CONTEXT}"),
        ({"max_length": 0}, "max_length: got 0"),
        ({"threads": 0}, "threads: got 0"),
    ],
)
def test_options_out_of_range(artifact: Artifact, options: dict[str, int], message: str) -> None:
    with pytest.raises(GenerationError, match=message):
        Session.open(artifact.path, **options)


def test_threads_belong_to_the_process(artifact: Artifact) -> None:
    one = ExecuTorchBackend(artifact, threads=1)
    try:
        assert portable_lib._threadpool_get_thread_count() == 1
        with pytest.raises(GenerationError, match=r"threads: got 3, .* threads=1"):
            ExecuTorchBackend(artifact, threads=3)
        with pytest.raises(GenerationError, match="max_length"):
            ExecuTorchBackend(artifact, threads=1, max_length=0)
        logits = prefill(one, [5, 6, 7]).copy()
    finally:
        one.close()
    three = ExecuTorchBackend(artifact, threads=3)
    assert portable_lib._threadpool_get_thread_count() == 3
    np.testing.assert_allclose(prefill(three, [5, 6, 7]), logits, atol=1e-5)
    three.close()
    three.close()


def bad_neurons() -> dict[str, torch.Tensor]:
    cases = {name: EVERY[:, 3:8].clone() for name in REASONS}
    cases["large"][1, 4], cases["negative"][1, 0] = D_FF, -2
    cases["order"][1, 0], cases["twice"][1, 1] = 5, 3
    cases["hole"][1, 2], cases["none"][1] = -1, -1
    return cases


REASONS = {
    "large": "not below the FFN width",
    "negative": "a neuron index is negative",
    "order": "not strictly ascending",
    "twice": "not strictly ascending",
    "hole": r"padding \(-1\) of a row of neurons precedes an index",
    "none": "is the whole row",
}


@pytest.mark.parametrize("case", REASONS)
def test_bad_neurons_never_reach_the_operator_nor_harm_it(
    backend: ExecuTorchBackend, case: str
) -> None:
    wanted = tiny_model("llama")(torch.tensor([[5, 6, 7]])).logits[0, 2].numpy()
    prefill(backend, [5, 6])
    with pytest.raises(GenerationError, match="neurons: "):
        backend.select(bad_neurons()[case].numpy())
    backend._neurons = bad_neurons()[case]
    with pytest.raises(GenerationError, match=REASONS[case]):
        backend.decode(7, 2)
    backend.select(None)
    np.testing.assert_allclose(backend.decode(7, 2), wanted, atol=2e-5)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_copies_of_chosen_neurons_follow_the_choice(exported: Exported, dtype: str) -> None:
    artifact = Artifact.open(exported("qwen2", "executorch", f"target.dtype={dtype}"))

    def logits(backend: ExecuTorchBackend, neurons: torch.Tensor) -> np.ndarray:
        prefill(backend, [5, 6])
        backend.select(neurons.numpy())
        return backend.decode(7, 2).copy()

    choices = [EVERY[:, :24].clone(), EVERY[:, 24:].clone(), EVERY[:, ::3].clone()]
    choices[1][1] = choices[0][1]  # one layer's choice stays
    fresh = []
    for neurons in choices:
        backend = ExecuTorchBackend(artifact)
        fresh.append(logits(backend, neurons))
        backend.close()
    assert len({row.tobytes() for row in fresh}) == 3
    backend = ExecuTorchBackend(artifact)
    for index in (0, 1, 1, 2, 0):
        np.testing.assert_array_equal(logits(backend, choices[index]), fresh[index])
    native.release_packed()
    np.testing.assert_array_equal(logits(backend, choices[0]), fresh[0])
    backend.close()


@pytest.mark.parametrize("kind", ["artifact", "portable"])
def test_tokens_and_positions_out_of_range(kind: str, request: pytest.FixtureRequest) -> None:
    backend = ExecuTorchBackend(request.getfixturevalue(kind))
    wanted = prefill(backend, [5, 6, 7]).copy()
    calls: list[Callable[[], object]] = [
        lambda: prefill(backend, [5, VOCABULARY]),
        lambda: prefill(backend, [5, -1]),
        lambda: backend.decode(VOCABULARY, 3),
        lambda: backend.decode(-1, 3),
        lambda: prefill(backend, [5, 6], CONTEXT - 1),
        lambda: prefill(backend, [5, 6], -1),
        lambda: backend.decode(5, CONTEXT),
        lambda: backend.decode(5, -1),
        lambda: prefill(backend, [5] * (backend.prefill_chunk + 1)),
        lambda: backend.prefill(np.array([5]), 0, np.ones(1, np.float32), np.array([1])),
    ]
    for call in calls:
        with pytest.raises(GenerationError, match="ExecuTorch refused the call"):
            call()
    np.testing.assert_array_equal(prefill(backend, [5, 6, 7]), wanted)
    backend.close()


def with_program(artifact: Artifact, folder: Path, content: bytes | None = None) -> Artifact:
    """The artifact with another model.pte: these bytes, or what the caller puts there."""
    if content is not None:
        (folder / "model.pte").write_bytes(content)
    return replace(artifact, path=folder)


def write(folder: Path, methods: tuple[str, ...], metadata: str | None) -> None:
    """A program whose methods have the right names and nothing else in common with ours."""
    constants = {} if metadata is None else {"get_metadata": metadata}
    programs = {name: torch.export.export(nn.ReLU(), (torch.ones(2),)) for name in methods}
    write_program(programs, constants, ConstantStore(), folder / "model.pte")


def test_a_foreign_program_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    write(tmp_path, ("forward",), None)
    message = r"model\.pte: not a program of this project: it has no method decode, get_metadata, "
    with pytest.raises(ArtifactError, match=message + "prefill, only forward; export"):
        ExecuTorchBackend(with_program(artifact, tmp_path))


def test_a_program_of_another_format_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    write(tmp_path, ("prefill", "decode"), f"format_version={FORMAT_VERSION + 1}")
    message = rf"model\.pte: format_version is {FORMAT_VERSION + 1}, this program reads"
    with pytest.raises(ArtifactError, match=message):
        ExecuTorchBackend(with_program(artifact, tmp_path))


def test_a_program_for_other_operators_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    fields = {"dtype": "fp32", "custom_ops": True, "abi_version": ABI_VERSION + 1}
    write(tmp_path, ("prefill", "decode"), encode(fields))
    message = rf"operators of version {ABI_VERSION}, but .*model\.pte needs version"
    with pytest.raises(NativeError, match=message) as caught:
        ExecuTorchBackend(with_program(artifact, tmp_path))
    assert "glass-export build-native --force" in str(caught.value)
    write(tmp_path, ("prefill", "decode"), encode({**fields, "custom_ops": False}))
    ExecuTorchBackend(with_program(artifact, tmp_path)).close()


def damages(content: bytes) -> dict[str, bytes]:
    middle = slice(64, 8000)
    zeros, ones = bytearray(content), bytearray(content)
    zeros[middle], ones[middle] = bytes(8000 - 64), b"\xff" * (8000 - 64)
    return {
        "empty": b"",
        "cut": content[: len(content) // 2],
        "zeros": bytes(zeros),
        "ones": bytes(ones),
    }


@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "ones"])
def test_a_damaged_program_is_refused(artifact: Artifact, tmp_path: Path, damage: str) -> None:
    content = damages((artifact.path / "model.pte").read_bytes())[damage]
    with pytest.raises(ArtifactError, match=r"model\.pte: .*copy or export the artifact again"):
        ExecuTorchBackend(with_program(artifact, tmp_path, content))


def test_a_file_of_another_kind_is_refused_in_a_fresh_process(
    artifact: Artifact, tmp_path: Path
) -> None:
    """Where no operators are loaded, ExecuTorch ends the process over such a file."""
    copy = Path(shutil.copytree(artifact.path, tmp_path / "copy"))
    (copy / "model.pte").write_bytes(b"\xff" * (copy / "model.pte").stat().st_size)
    code = "import sys; from glass_export.runtime import Session; Session.open(sys.argv[1])"
    outcome = subprocess.run([sys.executable, "-c", code, copy], capture_output=True, text=True)
    assert outcome.returncode == 1
    assert "ArtifactError" in outcome.stderr and "not an ExecuTorch program" in outcome.stderr


def test_an_earlier_error_is_not_blamed_for_a_later_one(
    artifact: Artifact, backend: ExecuTorchBackend, tmp_path: Path
) -> None:
    content = damages((artifact.path / "model.pte").read_bytes())["cut"]
    with pytest.raises(ArtifactError, match="File size is too small"):
        ExecuTorchBackend(with_program(artifact, tmp_path, content))
    with pytest.raises(GenerationError, match=r"refused the call \(.*320"):
        prefill(backend, [VOCABULARY])


def test_a_shortened_file_is_found_by_its_size(artifact: Artifact, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artifact.path, tmp_path / "copy"))
    content = (copy / "model.pte").read_bytes()
    (copy / "model.pte").write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match=r"model\.pte"):
        Session.open(copy)


def test_without_the_operator_library_its_file_is_named(
    artifact: Artifact, unloaded: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.OVERRIDE, str(tmp_path))
    with pytest.raises(NativeError, match=r"libglass_executorch\.\w+: no such file; GLASS_EXPORT"):
        ExecuTorchBackend(artifact)


def test_a_portable_artifact_runs_without_the_operator_library(
    portable: Artifact, unloaded: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.OVERRIDE, str(tmp_path))
    backend = ExecuTorchBackend(portable)
    wanted = tiny_model("llama", layers=1)(torch.tensor([[5, 6, 7]])).logits[0, 2].numpy()
    np.testing.assert_allclose(prefill(backend, [5, 6, 7]), wanted, atol=2e-5)
    assert native.load_operators.cache_info().currsize == 0
    with pytest.raises(GenerationError, match="ExecuTorch refused the call"):
        prefill(backend, [VOCABULARY])
    backend.close()
