"""The operators of ai.glass in ONNX Runtime, on models of one or two nodes.

Legend: F FFN width, D model width, L layers of indices, K kept neurons, S tokens.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from ffn_definition import DEFINITIONS, Ffn, assert_near
from native_calls import F32, FORMATS, I32, ISAS, U8, f32
from onnx import ModelProto, TensorProto, helper, numpy_helper

from glass_export import bundles, native

F, D, L, K = 70, 64, 3, 33
DOMAIN = "ai.glass"
INVALID = ort.capi.onnxruntime_pybind11_state.InvalidArgument
NOT_LOADED = (INVALID, ort.capi.onnxruntime_pybind11_state.RuntimeException)
threads = pytest.mark.parametrize("threads", [1, 2])
tokens = pytest.mark.parametrize("tokens", [1, 4])
forms = pytest.mark.parametrize("form", FORMATS)


@pytest.fixture(scope="session")
def library() -> Path:
    return native.library("onnxruntime")


@dataclass(frozen=True)
class Layer:
    """The weights of a layer as they are stored, and as what the operators take them."""

    stored: F32 | U8
    weights: F32
    form: str

    def ffn(self, x: F32, activation: str = "silu") -> Ffn:
        """The definition for x [..,D]; integer weights round the tokens."""
        rows = x.reshape(-1, D)
        rounded = rows if self.form == "float32" else bundles.quantise_tokens(rows)
        return Ffn(self.weights, rounded, activation)


def layer_of(form: str) -> Layer:
    weights = f32(np.random.default_rng(3).standard_normal((F, 3, D)) / np.sqrt(D))
    if form == "float32":
        return Layer(weights, weights, form)
    stored = bundles.quantise(weights, form)
    return Layer(stored, bundles.dequantise(stored, D, form), form)


def tokens_of(count: int, seed: int = 0) -> F32:
    """Shape: [1,S,D]."""
    return f32(np.random.default_rng(seed).standard_normal((1, count, D)))


def indices_of(seed: int = 0) -> I32:
    """Shape: [L,K], ascending rows."""
    rng = np.random.default_rng(seed)
    return np.sort([rng.permutation(F)[:K] for _ in range(L)], axis=1).astype(np.int32)


def sparse(layer: int = 1, activation: str = "silu", **attributes: Any) -> Any:
    return helper.make_node(
        "SparseFFN", ["x", "bundle", "indices"], ["y"],
        domain=DOMAIN, layer=layer, activation=activation, **attributes,
    )  # fmt: skip


def dense(activation: str = "silu") -> Any:
    return helper.make_node(
        "DenseFFN", ["x", "bundle", "score_weights"], ["y", "abs_sum", "sq_sum"],
        domain=DOMAIN, activation=activation,
    )  # fmt: skip


TYPES = {"ids": TensorProto.INT64, "indices": TensorProto.INT32}


def model_of(
    node: Any, initializers: Mapping[str, Any], x_shape: list[Any] | None = None
) -> ModelProto:
    """A model of one node; what is no initializer is an input, of unknown shape but for x."""
    inputs = [
        helper.make_tensor_value_info(
            name, TYPES.get(name, TensorProto.FLOAT), x_shape if name == "x" else None
        )
        for name in node.input
        if name and name not in initializers
    ]
    outputs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in node.output]
    constants = [numpy_helper.from_array(value, name) for name, value in initializers.items()]
    graph = helper.make_graph([node], "test", inputs, outputs, constants)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def options_of(library: Path, threads: int = 2) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry(native.ONNXRUNTIME_THREADS, str(threads))
    options.register_custom_ops_library(str(library))
    return options


def session_of(library: Path, model: ModelProto, threads: int = 2) -> ort.InferenceSession:
    return ort.InferenceSession(
        model.SerializeToString(), options_of(library, threads), providers=["CPUExecutionProvider"]
    )


def ffn_session(
    library: Path, node: Any, layer: Layer, threads: int = 2, **more: Any
) -> ort.InferenceSession:
    return session_of(library, model_of(node, {"bundle": layer.stored, **more}), threads)


@forms
@tokens
@threads
def test_sparse_ffn_is_that_of_the_chosen_neurons(
    library: Path, form: str, tokens: int, threads: int
) -> None:
    layer, x, indices = layer_of(form), tokens_of(tokens), indices_of()
    indices[1, 5:] = -1  # padding
    for row in range(L):
        session = ffn_session(library, sparse(row), layer, threads)
        (y,) = session.run(None, {"x": x, "indices": indices})
        ffn, neurons = layer.ffn(x), indices[row, : 5 if row == 1 else None]
        assert y.shape == x.shape
        assert_near(y[0], ffn.hidden()[:, neurons] @ ffn.down()[neurons], ffn.scale())


@forms
@tokens
@threads
def test_dense_ffn_is_that_of_all_neurons_with_its_scores(
    library: Path, form: str, tokens: int, threads: int
) -> None:
    layer, x = layer_of(form), tokens_of(tokens)
    scored = f32(np.arange(tokens) % 3 != 1)
    session = ffn_session(library, dense(), layer, threads)
    y, abs_sum, sq_sum = session.run(None, {"x": x, "score_weights": scored})
    ffn = layer.ffn(x)
    hidden = ffn.hidden()
    unit = hidden / np.linalg.norm(hidden, axis=-1, keepdims=True)
    assert y.shape == x.shape and abs_sum.shape == sq_sum.shape == (F,)
    assert_near(y[0], hidden @ ffn.down(), ffn.scale())
    np.testing.assert_allclose(abs_sum, scored @ np.abs(unit), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(sq_sum, scored @ unit**2, rtol=1e-3, atol=1e-5)


@forms
@pytest.mark.parametrize("biased", [False, True])
def test_ffns_without_a_gate(library: Path, form: str, biased: bool) -> None:
    x, indices, rng = tokens_of(3), indices_of(), np.random.default_rng(4)
    stored = weights = f32(rng.standard_normal((F, 2, D)) / np.sqrt(D))
    rounded, bias = x[0], f32(rng.standard_normal(F)) if biased else None
    if form != "float32":
        stored = bundles.quantise(weights, form)
        weights = bundles.dequantise(stored, D, form, gated=False)
        rounded = bundles.quantise_tokens(x[0])
    ffn, layer = Ffn(weights, rounded, "relu", bias), Layer(stored, weights, form)
    more = {"bias": bias} if biased else {}
    nodes = [sparse(activation="relu"), dense("relu")]
    for node in nodes:
        node.op_type = f"Plain{node.op_type}"
        node.input.extend(more)
    one, two = (ffn_session(library, node, layer, **more) for node in nodes)
    (y,), hidden = one.run(None, {"x": x, "indices": indices}), ffn.hidden()
    assert_near(y[0], hidden[:, indices[1]] @ ffn.down()[indices[1]], ffn.scale())
    y, abs_sum, _ = two.run(None, {"x": x, "score_weights": np.ones(3, np.float32)})
    assert_near(y[0], hidden @ ffn.down(), ffn.scale())
    unit = hidden / np.linalg.norm(hidden, axis=-1, keepdims=True)
    np.testing.assert_allclose(abs_sum, np.abs(unit).sum(0), rtol=1e-3, atol=1e-5)


def test_a_bias_of_another_width_is_refused(library: Path) -> None:
    node = sparse()
    node.op_type = "PlainSparseFFN"
    node.input.append("bias")
    layer, bias = Layer(np.ones((F, 2, D), np.float32), None, "float32"), np.ones(F + 1, np.float32)
    session = ffn_session(library, node, layer, bias=bias)
    with pytest.raises(INVALID, match=rf"bias: got float \[{F + 1}\], expected float \[{F}\]"):
        session.run(None, {"x": tokens_of(1), "indices": indices_of()})


@pytest.mark.parametrize("activation", DEFINITIONS)
def test_activations_go_by_name(library: Path, activation: str) -> None:
    layer, x = layer_of("float32"), tokens_of(2)
    ffn = layer.ffn(x, activation)
    expected = ffn.hidden() @ ffn.down()
    everyone = np.tile(np.arange(F, dtype=np.int32), (L, 1))
    session = ffn_session(library, sparse(activation=activation), layer)
    (y,) = session.run(None, {"x": x, "indices": everyone})
    assert_near(y[0], expected, ffn.scale())
    session = ffn_session(library, dense(activation), layer)
    y, *_ = session.run(None, {"x": x, "score_weights": np.ones(2, np.float32)})
    assert_near(y[0], expected, ffn.scale())


@forms
def test_several_threads_may_run_one_session(library: Path, form: str) -> None:
    layer = layer_of(form)
    session = ffn_session(library, sparse(), layer)
    inputs = [{"x": tokens_of(1 + i % 3, i), "indices": indices_of(i)} for i in range(60)]
    expected = [session.run(None, each)[0] for each in inputs]
    with ThreadPoolExecutor(2) as pool:
        actual = list(pool.map(lambda each: session.run(None, each)[0], inputs))
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("entry", [True, False])
@pytest.mark.parametrize("arena", [True, False])
def test_it_runs_without_the_entry_for_threads_and_without_an_arena(
    library: Path, entry: bool, arena: bool
) -> None:
    layer, x = layer_of("int4"), tokens_of(3)
    options = options_of(library) if entry else ort.SessionOptions()
    if not entry:
        options.register_custom_ops_library(str(library))
    options.enable_cpu_mem_arena = arena
    model = model_of(sparse(), {"bundle": layer.stored})
    session = ort.InferenceSession(model.SerializeToString(), options)
    indices = indices_of()
    (y,) = session.run(None, {"x": x, "indices": indices})
    ffn, neurons = layer.ffn(x), indices[1]
    assert_near(y[0], ffn.hidden()[:, neurons] @ ffn.down()[neurons], ffn.scale())


@pytest.mark.parametrize("entry", ["0", "-2", "two", "2 ", ""])
def test_a_wrong_number_of_threads_is_refused(library: Path, entry: str) -> None:
    options = ort.SessionOptions()
    options.add_session_config_entry(native.ONNXRUNTIME_THREADS, entry)
    message = f"{native.ONNXRUNTIME_THREADS}: got '{entry}', expected a whole number of at least 1"
    with pytest.raises(INVALID, match=re.escape(message)):
        options.register_custom_ops_library(str(library))


def test_weights_are_read_in_place(library: Path, tmp_path: Path) -> None:
    layer, x = layer_of("int4"), tokens_of(1)
    shared = layer.stored.copy()
    model = model_of(sparse(), {"bundle": shared})
    (bundle,) = model.graph.initializer
    bundle.ClearField("raw_data")
    bundle.data_location = TensorProto.EXTERNAL
    bundle.external_data.add(key="location", value="weights.bin")
    (tmp_path / "weights.bin").write_bytes(bytes(shared.nbytes))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    options = options_of(library)
    value = ort.OrtValue.ortvalue_from_numpy(shared)
    options.add_initializer("bundle", value)
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), options)
    feed = {"x": x, "indices": indices_of()}
    (before,) = session.run(None, feed)
    assert np.abs(before).max() > 0.01
    shared[:] = bundles.quantise(np.zeros((F, 3, D), np.float32), "int4")
    (after,) = session.run(None, feed)
    np.testing.assert_array_equal(after, np.zeros_like(x))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (["B", "S", D], ["B", "S", D]),
        ([1, "S", D], [1, "S", D]),
        ([1, None, D], []),  # not known before a run
        (None, []),
    ],
)
def test_the_shape_of_y_is_that_of_x(library: Path, x: Any, y: Any) -> None:
    layer = layer_of("float32")
    for node in (sparse(), dense()):
        model = model_of(node, {"bundle": layer.stored}, x)
        session = session_of(library, model)
        assert session.get_outputs()[0].shape == y


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": np.zeros((1, 1, 96), np.float32)}, r"bundle: got uint8 \[70,128\] for x float"),
        ({"x": np.zeros((1, 1, 33), np.float32)}, r"expected float \[F,3,33\] or, if D is a multi"),
        ({"x": np.zeros((1, 0, D), np.float32)}, r"x: got float \[1,0,64\], expected \[..,S,D\]"),
        ({"indices": np.zeros((1, 4), np.int32)}, r"indices: got int32 \[1,4\] for layer 1, expec"),
        ({"indices": np.zeros((L, 0), np.int32)}, r"got int32 \[3,0\].* 1 <= K <= 70"),
        ({"indices": np.zeros((L, F + 1), np.int32)}, r"got int32 \[3,71\].* 1 <= K <= 70"),
        ({"indices": np.zeros(L, np.int32)}, r"got int32 \[3\].* expected int32 \[L,K\]"),
        ({"indices": indices_of() + 40}, "a neuron index is negative or not below the FFN width"),
        ({"indices": indices_of()[:, ::-1].copy()}, "not strictly ascending"),
        ({"indices": np.full((L, 4), -1, np.int32)}, "padding .-1. of a row .* is the whole row"),
    ],
)
def test_wrong_inputs_are_named(library: Path, changed: dict[str, Any], message: str) -> None:
    session = ffn_session(library, sparse(), layer_of("int4"))
    good = {"x": tokens_of(1), "indices": indices_of()}
    with pytest.raises(INVALID, match=f"running SparseFFN node.*{message}"):
        session.run(None, {**good, **changed})
    session.run(None, good)


def linear_session(
    library: Path, form: str, bias: F32 | None, threads: int = 2
) -> tuple[ort.InferenceSession, F32]:
    """A session of one Linear, and the weights [70,64] that its integers stand for."""
    weights = f32(np.random.default_rng(5).standard_normal((F, D)) / np.sqrt(D))
    stored = bundles.quantise_rows(weights, form)
    inputs = ["x", "weight"] if bias is None else ["x", "weight", "bias"]
    node = helper.make_node("Linear", inputs, ["y"], domain=DOMAIN)
    constants = {"weight": stored} if bias is None else {"weight": stored, "bias": bias}
    session = session_of(library, model_of(node, constants), threads)
    return session, bundles.dequantise_rows(stored, D, form)


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("biased", [True, False])
@tokens
@threads
def test_linear_is_that_of_the_dequantised_weights(
    library: Path, form: str, biased: bool, tokens: int, threads: int
) -> None:
    x, bias = tokens_of(tokens), f32(np.linspace(-1, 1, F))
    session, weights = linear_session(library, form, bias if biased else None, threads)
    (y,) = session.run(None, {"x": x})
    expected = bundles.quantise_tokens(x[0]).astype(np.float64) @ weights.T + biased * bias
    assert y.shape == (1, tokens, F)
    assert_near(y[0], expected, 1.0)


def test_linear_of_no_tokens_is_empty(library: Path) -> None:
    """The head in all calls of a prompt but the last one."""
    session, _ = linear_session(library, "int4", None)
    (y,) = session.run(None, {"x": np.zeros((1, 0, D), np.float32)})
    assert y.shape == (1, 0, F)


def test_wrong_inputs_of_linear_are_named(library: Path) -> None:
    session, _ = linear_session(library, "int4", None)
    with pytest.raises(INVALID, match=r"got uint8 \[70,36\] for rows of D = 96, expected"):
        session.run(None, {"x": np.zeros((1, 1, 96), np.float32)})
    session, _ = linear_session(library, "int4", np.zeros(F - 1, np.float32))
    with pytest.raises(INVALID, match=r"bias: got float \[69\], expected float \[70\]"):
        session.run(None, {"x": tokens_of(1)})


def test_each_token_has_a_score_weight(library: Path) -> None:
    session = ffn_session(library, dense(), layer_of("float32"))
    with pytest.raises(INVALID, match=r"score_weights: got float \[2\] for x float \[1,3,64\]"):
        session.run(None, {"x": tokens_of(3), "score_weights": np.ones(2, np.float32)})


@pytest.mark.parametrize(
    ("stored", "got"),
    [
        (np.zeros((F, 3, D), np.float16), r"float16 \[70,3,64\]"),
        (np.zeros((F, 100), np.uint8), r"uint8 \[70,100\]"),
        (np.zeros((F, 2, D), np.float32), r"float \[70,2,64\]"),
        (np.float32(1), r"float \[\]"),
    ],
)
def test_other_bundles_are_refused(library: Path, stored: Any, got: str) -> None:
    node, sizes = sparse(), [bundles.bundle_bytes(D, form) for form in ("int8", "int4")]
    session = session_of(library, model_of(node, {"bundle": np.asarray(stored)}))
    expected = rf"bundle: got {got} for .* uint8 \[F,{sizes[0]}\] \(int8\) or \[F,{sizes[1]}\]"
    with pytest.raises(INVALID, match=expected):
        session.run(None, {"x": tokens_of(1), "indices": indices_of()})


def test_a_model_with_wrong_attributes_is_not_loaded(library: Path) -> None:
    layer = layer_of("float32")
    with pytest.raises(NOT_LOADED, match="activation: got 'swish', expected silu, gelu, gelu_tanh"):
        ffn_session(library, sparse(activation="swish"), layer)
    node = sparse()
    node.attribute.pop(next(i for i, a in enumerate(node.attribute) if a.name == "layer"))
    with pytest.raises(NOT_LOADED, match="'layer'"):
        ffn_session(library, node, layer)


def test_the_library_tells_its_version_and_instruction_set(library: Path) -> None:
    loaded = ctypes.CDLL(str(library))
    header = (native.SOURCES / "include" / "glass" / "abi.h").read_text()
    assert f"kAbiVersion = {loaded.glass_abi_version()};" in header
    loaded.glass_active_isa.restype = ctypes.c_char_p
    assert loaded.glass_active_isa().decode() in ISAS


def embedding_session(library: Path, form: str, width: int = D) -> tuple[ort.InferenceSession, F32]:
    """A session of one Embedding, and the rows [70,64] that its integers stand for."""
    stored = bundles.quantise_rows(f32(np.random.default_rng(6).standard_normal((F, D))), form)
    node = helper.make_node("Embedding", ["weight", "ids"], ["y"], domain=DOMAIN, width=width)
    session = session_of(library, model_of(node, {"weight": stored}), 1)
    return session, bundles.dequantise_rows(stored, D, form)


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_embedding_gives_the_rows_as_numbers(library: Path, form: str) -> None:
    session, rows = embedding_session(library, form)
    indices = np.array([[3, 0, F - 1], [3, 3, 1]])
    (y,) = session.run(None, {"ids": indices})
    np.testing.assert_array_equal(y, rows[indices])


def test_wrong_inputs_of_embedding_are_named(library: Path) -> None:
    session, _ = embedding_session(library, "int4")
    with pytest.raises(INVALID, match="running Embedding node"):
        session.run(None, {"ids": np.array([F])})
    session, _ = embedding_session(library, "int4", width=96)
    with pytest.raises(INVALID, match=r"got uint8 \[70,36\] for rows of D = 96, expected uint8"):
        session.run(None, {"ids": np.array([0])})
    session, _ = embedding_session(library, "int4", width=0)
    with pytest.raises(INVALID, match="width: got 0, expected"):
        session.run(None, {"ids": np.array([0])})
