"""The forms of an ONNX artifact's FFNs under the driver: rows, sessions for a choice, bundles."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tiny_models import CONTEXT, D_FF, LAYERS

from glass_export import native
from glass_export.artifact import Artifact
from glass_export.errors import ArtifactError, NativeError
from glass_export.ops.kernels import ABI_VERSION
from glass_export.runtime import SamplingParams, Session
from glass_export.runtime.onnxruntime import OnnxRuntimeBackend, graphs
from glass_export.runtime.onnxruntime.decoders import SessionDecoder
from glass_export.runtime.onnxruntime.graphs import Graph, Loader
from glass_export.runtime.onnxruntime.model_file import metadata, resized
from glass_export.runtime.onnxruntime.operators import Operators

Exported = Callable[..., Path]
FORMS = {
    "float32 bundles": ("target.custom_ops=true",),
    "int4 bundles": ("target.custom_ops=true", "target.dtype=int4"),
    "int8 bundles": ("target.custom_ops=true", "target.dtype=int8"),
    "int4 sessions": ("target.custom_ops=false", "target.dtype=int4"),
    "int8 sessions": ("target.custom_ops=false", "target.dtype=int8"),
}
EVERY = np.tile(np.arange(D_FF, dtype=np.int32), (LAYERS, 1))


@pytest.fixture(params=FORMS)
def artifact(request: pytest.FixtureRequest, exported: Exported) -> Artifact:
    return Artifact.open(exported("llama", "onnx", *FORMS[request.param]))


@pytest.fixture
def sessions(exported: Exported) -> Artifact:
    return Artifact.open(exported("llama", "onnx", *FORMS["int4 sessions"]))


def decoded(backend: OnnxRuntimeBackend, indices: np.ndarray | None) -> np.ndarray:
    """Logits after a short prompt and one token through these neurons."""
    tokens = np.array([3, 14, 15, 92])
    backend.prefill(tokens, 0, np.ones(4, np.float32), np.array([3]))
    backend.select(indices)
    return backend.decode(65, 4).copy()


def test_generation_keeps_the_asked_share_and_is_repeatable(artifact: Artifact) -> None:
    sampling = SamplingParams(temperature=0.8, top_p=0.9, seed=3)
    with Session.open(artifact.path) as session:
        runs = [
            session.generate(
                "the quick brown", max_new_tokens=8, density=0.25, sampling=sampling, reset=True
            )
            for _ in range(2)
        ]
    assert runs[0].token_ids == runs[1].token_ids and runs[0].token_ids
    assert runs[0].stats.kept_neurons == round(0.25 * D_FF)


def test_all_neurons_by_index_are_the_dense_model(artifact: Artifact) -> None:
    backend = OnnxRuntimeBackend(artifact)
    dense = decoded(backend, None)
    chosen = decoded(backend, EVERY)
    np.testing.assert_allclose(chosen, dense, atol=1e-5 * dense.std())
    backend.close()


@pytest.mark.parametrize("kept", [1, 7, 32])
def test_other_neurons_than_the_chosen_ones_do_not_matter(artifact: Artifact, kept: int) -> None:
    backend, rng = OnnxRuntimeBackend(artifact), np.random.default_rng(kept)
    chosen = np.sort(rng.permuted(EVERY, axis=1)[:, :kept], axis=1)
    dense = decoded(backend, None)
    sparse = decoded(backend, chosen)
    other = decoded(backend, np.sort(rng.permuted(EVERY, axis=1)[:, :kept], axis=1))
    again = decoded(backend, chosen)
    assert np.array_equal(sparse, again)
    assert np.abs(sparse - dense).max() > 1e-2 and np.abs(sparse - other).max() > 1e-2
    assert np.array_equal(decoded(backend, None), dense)
    backend.close()


def test_sessions_and_bundles_of_one_model_agree(exported: Exported) -> None:
    forms = [FORMS["int8 sessions"], FORMS["int8 bundles"]]
    results = []
    for form in forms:
        backend = OnnxRuntimeBackend(Artifact.open(exported("llama", "onnx", *form)))
        results.append(decoded(backend, EVERY[:, ::3].copy()))
        backend.close()
    # The down projections are rounded in different ways.
    assert np.abs(results[0] - results[1]).max() < 0.1 * results[0].std()


def test_a_session_serves_its_choice_until_there_is_another(
    sessions: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Graph]] = []
    alive: list[int] = []
    for name in ("load", "load_resized"):
        original = getattr(Loader, name)

        def counted(loader: Loader, role: str, *args: object, _load=original, **more: object):
            gc.collect()
            alive.append(sum(graph() is not None for graph in made))
            graph = _load(loader, role, *args, **more)
            if role == "decode":
                made.append(weakref.ref(graph))
            return graph

        monkeypatch.setattr(Loader, name, counted)
    backend = OnnxRuntimeBackend(sessions)
    assert isinstance(backend._decoder, SessionDecoder) and not made
    for indices in (None, None, EVERY[:, :5], EVERY[:, :5].copy(), EVERY[:, 5:10], None):
        decoded(backend, indices)
    assert len(made) == 4 and alive == [0] * 5  # the first is prefill
    backend.close()


def test_portable_artifacts_need_no_native_library(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> Path:
        raise NativeError(f"no {name}")

    monkeypatch.setattr(native, "library", refuse)
    portable = Artifact.open(exported("llama", "onnx", *FORMS["int4 sessions"]))
    OnnxRuntimeBackend(portable).close()
    with pytest.raises(NativeError, match="no onnxruntime"):
        OnnxRuntimeBackend(Artifact.open(exported("llama", "onnx", *FORMS["int4 bundles"])))


def test_a_library_that_is_none_is_named(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "libglass_onnxruntime.so"
    wrong.write_bytes(b"not a library")
    monkeypatch.setattr(native, "library", lambda name: wrong)
    with pytest.raises(NativeError, match=r"libglass_onnxruntime\.so: not a usable .* --force"):
        OnnxRuntimeBackend(Artifact.open(exported("llama", "onnx", *FORMS["int4 bundles"])))


def test_operators_of_another_version_are_refused(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Newer(Operators):
        def __init__(self) -> None:
            super().__init__()
            self.version += 1

    monkeypatch.setattr(graphs, "Operators", Newer)
    message = (
        rf"libglass_onnxruntime\.so: operators of version {ABI_VERSION + 1}, but .*prefill\.onnx "
        rf"needs version {ABI_VERSION}; run .* --force`, or export the model again"
    )
    with pytest.raises(NativeError, match=message):
        OnnxRuntimeBackend(Artifact.open(exported("llama", "onnx", *FORMS["int4 bundles"])))


def test_a_graph_that_names_no_version_of_the_operators_is_refused(sessions: Artifact) -> None:
    with pytest.raises(NativeError, match=r"decode\.onnx needs version unknown; .* export"):
        Operators().check(sessions.graph("decode"))


@pytest.mark.parametrize("form", ["int4 bundles", "int4 sessions"])
def test_metadata_name_the_graph_and_the_operators_it_needs(exported: Exported, form: str) -> None:
    artifact = Artifact.open(exported("llama", "onnx", *FORMS[form]))
    for role in ("prefill", "decode"):
        content = artifact.graph(role).read_bytes()
        version = {"glass.abi_version": str(ABI_VERSION)} if form == "int4 bundles" else {}
        assert metadata(content) == {"glass.role": role, **version}
        props = onnx.load_from_string(content).metadata_props
        assert metadata(content) == {entry.key: entry.value for entry in props}


def test_plain_onnx_runtime_runs_the_portable_decode_graph_densely(sessions: Artifact) -> None:
    session = ort.InferenceSession(sessions.path / "decode.onnx")
    feeds = {"input_ids": np.array([[5]]), "position": np.array([0])}
    for spec in session.get_inputs():
        if spec.name not in feeds:
            shape = [CONTEXT if d == "C" else d for d in spec.shape]
            feeds[spec.name] = np.zeros(shape, np.float32)
    (logits,) = session.run(["logits"], feeds)
    backend = OnnxRuntimeBackend(sessions)
    np.testing.assert_allclose(logits[0, 0], backend.decode(5, 0), atol=1e-5 * logits.std())
    backend.close()


def test_resizing_changes_the_named_shapes_and_attributes_alone(sessions: Artifact) -> None:
    content = sessions.graph("decode").read_bytes()
    name = "ffn.1.gate_up.integers"
    got = onnx.load_from_string(resized(content, {name: (300, 2, 16)}, {name: {"N": 300}}))
    wanted = onnx.load_from_string(content)
    (tensor,) = (t for t in wanted.graph.initializer if t.name == name)
    tensor.dims[:] = [300, 2, 16]
    (node,) = (n for n in wanted.graph.node if name in n.input)
    next(a for a in node.attribute if a.name == "N").i = 300
    assert got == wanted
    assert resized(content, {}, {}) == content


@pytest.mark.parametrize(
    "content", [b"\xff" * 40, b"\x3a\x7f\x0a", b"\x3b", b"\x3a\x04\x2a\x02\x40\x05"]
)
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(ArtifactError, match="not an ONNX model: .*; export the model again"):
        resized(content, {}, {"w": {"N": 1}})


def test_metadata_of_what_is_no_model_are_refused() -> None:
    with pytest.raises(ArtifactError, match="not an ONNX model: .*; export the model again"):
        metadata(b"\x72\x04\x0a\x7f")


def test_an_initializer_that_is_not_there_is_named(sessions: Artifact) -> None:
    content = sessions.graph("decode").read_bytes()
    with pytest.raises(ArtifactError, match=r"no initializer ffn\.9\.down\.integers; export"):
        resized(content, {"ffn.9.down.integers": (1,)}, {})
