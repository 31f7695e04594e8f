"""The ONNX Runtime engine and the driver over it, on real artifacts of tiny models."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from tiny_models import CONTEXT, D_FF, LAYERS, MAIN, STOCK, VARIED, every, tiny_model

from glass_export.artifact import Artifact
from glass_export.errors import ArtifactError, GenerationError
from glass_export.runtime import SamplingParams, Session
from glass_export.runtime.onnxruntime import OnnxRuntimeBackend

Exported = Callable[[str], Path]
CHAT = [{"role": "user", "content": "the quick brown fox"}]


@pytest.fixture
def session(exported: Exported) -> Session:
    with Session.open(exported("llama")) as session:
        yield session


def eager_greedy(family: str, ids: list[int], count: int) -> list[int]:
    model, tokens = tiny_model(family), list(ids)
    for _ in range(count):
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(ids) :]


@pytest.mark.parametrize("family", every(*MAIN, *VARIED, of=STOCK))
def test_dense_greedy_generation_is_that_of_the_eager_model(
    exported: Exported, family: str
) -> None:
    with Session.open(exported(family)) as session:
        ids, _ = session.text.encode_text("the quick brown fox")
        got = session.generate("the quick brown fox", max_new_tokens=12, density=1.0)
    wanted = eager_greedy(family, list(ids), 12)
    stop = wanted.index(1) if 1 in wanted else len(wanted)
    assert list(got.token_ids) == wanted[:stop]


def test_all_neurons_packed_are_the_dense_model(session: Session) -> None:
    ids, _ = session.text.encode_text("the lazy dog")
    session.prefill(ids)
    session.set_neurons(np.tile(np.arange(D_FF, dtype=np.int32), (LAYERS, 1)))
    packed = session.decode(5).copy()
    session.reset()
    session.prefill(ids)
    session.set_neurons(None)
    np.testing.assert_allclose(packed, session.decode(5), atol=1e-5)


def test_a_second_turn_reuses_the_cache_and_answers_like_a_fresh_session(
    exported: Exported, session: Session
) -> None:
    first = session.generate(CHAT, max_new_tokens=6, density=1.0)
    talk = [
        *CHAT,
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "over the dog"},
    ]
    second = session.generate(talk, max_new_tokens=6, density=1.0)
    with Session.open(exported("llama")) as other:
        fresh = other.generate(talk, max_new_tokens=6, density=1.0)
    assert second.token_ids == fresh.token_ids
    assert second.stats.reused_tokens > 0 and fresh.stats.reused_tokens == 0


def test_sparse_generation_keeps_the_asked_share_and_is_repeatable(session: Session) -> None:
    sampling = SamplingParams(temperature=0.8, top_p=0.9, seed=3)
    runs = [
        session.generate(CHAT, max_new_tokens=8, density=0.25, sampling=sampling, reset=True)
        for _ in range(2)
    ]
    assert runs[0].token_ids == runs[1].token_ids
    assert runs[0].stats.kept_neurons == round(0.25 * D_FF)


def test_a_prompt_longer_than_the_context_is_refused_and_loses_nothing(session: Session) -> None:
    with pytest.raises(GenerationError, match=str(CONTEXT)):
        session.generate("the " * 3 * CONTEXT)
    assert session.generate(CHAT, max_new_tokens=3).token_ids


def test_generation_stops_where_the_context_is_full(session: Session) -> None:
    got = session.generate(CHAT, max_new_tokens=10 * CONTEXT, density=1.0)
    assert got.finish_reason in ("context", "stop")
    assert got.prompt_tokens + len(got.token_ids) <= CONTEXT + 1


def test_a_shorter_context_takes_less_memory_and_is_kept(exported: Exported) -> None:
    with Session.open(exported("llama"), max_length=32) as session:
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
def test_options_out_of_range(exported: Exported, options: dict[str, int], message: str) -> None:
    with pytest.raises(GenerationError, match=message):
        Session.open(exported("llama"), **options)


def test_an_old_onnx_runtime_is_named(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "__version__", "1.17.3")
    with pytest.raises(ArtifactError, match=r"ONNX Runtime 1\.17\.3 is too old, expected .*pip"):
        OnnxRuntimeBackend(Artifact.open(exported("llama")))


def test_a_graph_that_does_not_load_is_named(exported: Exported, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported("llama"), tmp_path / "copy"))
    graph = copy / "decode.onnx"
    graph.write_bytes(graph.read_bytes().replace(b"MatMul", b"MatMux"))
    with pytest.raises(ArtifactError, match=r"decode\.onnx: ONNX Runtime .* cannot load"):
        OnnxRuntimeBackend(Artifact.open(copy))


def test_old_rows_are_free_before_those_of_another_density_are_there(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = OnnxRuntimeBackend(Artifact.open(exported("llama")))
    every = np.tile(np.arange(D_FF, dtype=np.int32), (LAYERS, 1))
    backend.select(every[:, :7])
    decoder = backend._decoder
    old = [weakref.ref(buffer.array) for buffer in decoder.rows.values()]
    allocate, alive = decoder.allocate_rows, []

    def watched(kept: int) -> object:
        gc.collect()
        alive.append(sum(array() is not None for array in old))
        return allocate(kept)

    monkeypatch.setattr(decoder, "allocate_rows", watched)
    backend.select(every[:, :5])
    assert len(old) == 2 * LAYERS and alive == [0]
    backend.close()


def test_weights_are_mapped_not_copied(exported: Exported) -> None:
    artifact = Artifact.open(exported("llama"))
    backend = OnnxRuntimeBackend(artifact)
    entry = next(t for t in artifact.manifest.target.tensors if t.name == "ffn.0.down")
    with Path("/proc/self/maps").open() as maps:
        ranges = [
            tuple(int(x, 16) for x in line.split()[0].split("-"))
            for line in maps
            if str(artifact.path / "weights.bin") in line
        ]
    address = backend._prefill.weights[entry.name].value.data_ptr()
    assert any(begin <= address < end for begin, end in ranges)
    backend.close()
