"""int8 and int4 artifacts of the ONNX target: both forms, every family, and their numbers."""

from __future__ import annotations

import collections
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tiny_models import D_FF, LAYERS, MAIN, VOCABULARY, every, tiny_config, tiny_model
from torch import nn
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from glass_export import pipeline
from glass_export.artifact import Artifact
from glass_export.bundles import GROUP, dequantise_rows, quantise_rows
from glass_export.cli.app import app
from glass_export.errors import LoweringError
from glass_export.families import find_ffns
from glass_export.recipe import Recipe, TargetRecipe
from glass_export.targets import load_target
from glass_export.targets.integer import RoundedTokens
from glass_export.targets.onnx import nbits
from glass_export.targets.onnx.numerics import by_channels
from glass_export.verify.eager import SMOOTH_TOLERANCE

Exported = Callable[..., Path]
FORMATS = ("int8", "int4")
IDS = torch.tensor([[0, 5, 9, 200, 31, 7]])


@pytest.fixture(params=FORMATS)
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["false", "true"], ids=["portable", "custom_ops"])
def custom_ops(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def overrides(dtype: str, custom_ops: str) -> tuple[str, str]:
    return f"target.dtype={dtype}", f"target.custom_ops={custom_ops}"


@pytest.mark.parametrize("family", every(*MAIN))
def test_an_integer_artifact_is_verified(
    exported: Exported, family: str, dtype: str, custom_ops: str
) -> None:
    artifact = Artifact.open(exported(family, "onnx", *overrides(dtype, custom_ops)))
    target, report = artifact.manifest.target, artifact.manifest.verification
    assert (target.dtype, target.ffn_dtype) == (dtype, dtype)
    assert target.custom_ops == (custom_ops == "true")
    assert sorted(target.graphs) == ["decode", "prefill"]
    assert report is not None and report["passed"]
    assert report["tolerance"]["logits"] > SMOOTH_TOLERANCE


def test_float32_bundles_are_verified_as_strictly_as_stock_operators(exported: Exported) -> None:
    artifact = Artifact.open(exported("llama", "onnx", "target.custom_ops=true"))
    report = artifact.manifest.verification
    assert report is not None and report["passed"]
    assert report["tolerance"]["logits"] == SMOOTH_TOLERANCE
    shapes = {t.name: t.shape for t in artifact.manifest.target.tensors}
    assert shapes["ffn.0.bundle"] == (D_FF, 3, 64)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_weights_take_the_bytes_of_their_format(
    exported: Exported, family: str, dtype: str, custom_ops: str
) -> None:
    artifact = Artifact.open(exported(family, "onnx", *overrides(dtype, custom_ops)))
    model, bits = tiny_model(family), nbits.BITS[dtype]
    linears = {  # a tied head is the same parameter
        id(layer.weight): layer.weight.numel()
        for name, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, nn.Embedding)) and ".mlp." not in name
    }
    scale = 2 if custom_ops == "true" else 4  # float16 or float32
    expected = sum(linears.values()) * (bits / 8 + scale / GROUP)
    if custom_ops == "true":
        expected += LAYERS * D_FF * {"int8": 256, "int4": 128}[dtype]  # whole cache lines
    else:
        gate_up, down = 2 * D_FF * 64, 64 * nbits.CHANNEL_BLOCK  # D_FF is less than a block
        expected += LAYERS * (gate_up * (bits / 8 + 4 / GROUP) + down + 64 * 4)
    stored = {
        t.offset: t.nbytes
        for t in artifact.manifest.target.tensors
        if t.dtype == "uint8" or t.name.endswith(".scales")
    }
    assert sum(stored.values()) == expected


def test_a_tied_embedding_reads_the_integers_of_the_head(
    exported: Exported, custom_ops: str
) -> None:
    folder = exported("qwen2", "onnx", *overrides("int4", custom_ops))
    graph = onnx.load(folder / "prefill.onnx", load_external_data=False).graph
    where = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in graph.initializer
    }
    lookup = next(n for n in graph.node if n.op_type in ("GatherBlockQuantized", "Embedding"))
    head = next(n for n in graph.node if n.output[0] == "logits")
    assert where[lookup.input[0]] == where[head.input[1]]
    if custom_ops == "true":
        assert (head.op_type, lookup.op_type) == ("Linear", "Embedding")
        return
    assert (head.op_type, lookup.op_type) == ("MatMulNBits", "GatherBlockQuantized")
    assert lookup.input[2] == head.input[2]


def test_rows_of_the_project_s_operators_are_those_of_the_definition(
    exported: Exported, dtype: str
) -> None:
    artifact = Artifact.open(exported("qwen2", "onnx", *overrides(dtype, "true")))
    name = "model.layers.1.self_attn.o_proj.weight"
    (entry,) = (t for t in artifact.manifest.target.tensors if t.name == f"{name}.rows")
    expected = quantise_rows(dict(tiny_model("qwen2").named_parameters())[name].numpy(), dtype)
    content = (artifact.path / "weights.bin").read_bytes()
    assert (entry.dtype, entry.shape) == ("uint8", expected.shape)
    assert content[entry.offset : entry.offset + entry.nbytes] == expected.tobytes()


def test_operators_of_the_integer_graphs_are_the_recorded_ones(
    exported: Exported, golden: Callable[[str, object], object]
) -> None:
    counts = {
        form: {
            role: operators(exported("qwen2", "onnx", *overrides("int4", flag)), role)
            for role in ("prefill", "decode")
        }
        for form, flag in (("portable", "false"), ("custom_ops", "true"))
    }
    assert counts == golden("onnx_integer_operators.json", counts)


def operators(folder: Path, role: str) -> dict[str, int]:
    path = folder / f"{role}.onnx"
    onnx.checker.check_model(path)
    nodes = onnx.load(path, load_external_data=False).graph.node
    return dict(sorted(collections.Counter(node.op_type for node in nodes).items()))


def matrix(rows: int, columns: int) -> np.ndarray:
    """Weights whose int4 scales are of both signs."""
    weights = np.random.default_rng(0).standard_normal((rows, columns), np.float32)
    weights[:, 3] = 4.0
    weights[::2, 3] = -4.0
    return weights


@pytest.mark.parametrize("form", FORMATS)
def test_repacked_rows_are_the_same_numbers(form: str) -> None:
    rows = quantise_rows(matrix(6, 96), form)
    integers, scales = nbits.repack_rows(rows, form)
    values = integers.astype(np.float32)
    if form == "int4":
        values = np.stack([integers & 15, integers >> 4], axis=-1).reshape(6, 3, 32)
        assert (scales < 0).any() and (scales > 0).any()
    restored = (values.astype(np.float32) - (8 if form == "int4" else 128)) * scales[..., None]
    assert np.array_equal(restored.reshape(6, 96), dequantise_rows(rows, 96, form))


def run_node(
    kind: str, x: np.ndarray, inputs: list[np.ndarray | None], **attributes: int
) -> object:
    """The output of one operator of ONNX Runtime, for the constants it reads."""
    names = [f"w{i}" if array is not None else "" for i, array in enumerate(inputs)]
    order = [names[0], "x", *names[1:]] if kind.startswith("Gather") else ["x", *names]
    node = helper.make_node(kind, order, ["y"], domain="com.microsoft", **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in zip(names, inputs, strict=True) if n],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("tokens", [1, 7])
def test_the_runtime_computes_linears_with_the_numbers_of_the_reference(
    form: str, tokens: int
) -> None:
    rows = quantise_rows(matrix(48, 160), form)
    x = np.random.default_rng(1).standard_normal((tokens, 160), np.float32)
    bias = np.arange(48, dtype=np.float32)
    sizes = {"K": 160, "N": 48, "bits": nbits.BITS[form], "block_size": GROUP}
    constants = [*nbits.repack_rows(rows, form), None, None, bias]
    got = run_node("MatMulNBits", x, constants, accuracy_level=4, **sizes)
    weights = torch.from_numpy(dequantise_rows(rows, 160, form))
    wanted = RoundedTokens()(torch.from_numpy(x)) @ weights.T + torch.from_numpy(bias)
    np.testing.assert_allclose(got, wanted.numpy(), atol=1e-5 * float(wanted.std()))


@pytest.mark.parametrize("form", FORMATS)
def test_the_runtime_gathers_embeddings_from_the_bytes_of_a_linear(form: str) -> None:
    rows = quantise_rows(matrix(48, 96), form)
    integers, scales = nbits.repack_rows(rows, form)
    got = run_node(
        "GatherBlockQuantized",
        np.array([[47, 0, 3]]),
        [integers.reshape(48, -1), scales],
        gather_axis=0,
        quantize_axis=1,
        block_size=GROUP,
        bits=nbits.BITS[form],
    )
    assert np.array_equal(got, dequantise_rows(rows, 96, form)[[[47, 0, 3]]])


@pytest.mark.parametrize("width", [77, 128, 300])
def test_the_runtime_computes_channels_with_the_numbers_of_the_reference(width: int) -> None:
    weights = matrix(32, width)
    integers, scales = nbits.quantise_channels(weights)
    every_block = np.repeat(scales, integers.shape[1], axis=1)
    hidden = np.random.default_rng(2).standard_normal((5, width), np.float32)
    sizes = {"K": width, "N": 32, "bits": 8, "block_size": nbits.CHANNEL_BLOCK}
    got = run_node("MatMulNBits", hidden, [integers, every_block], accuracy_level=4, **sizes)
    down = nn.Linear(width, 32, bias=False).requires_grad_(False)
    down.weight.copy_(torch.from_numpy(weights))
    wanted = by_channels(down, io.BytesIO())(torch.from_numpy(hidden)).numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-5 * wanted.std())
    exact = hidden @ weights.T
    assert 1e-3 < np.abs(wanted - exact).max() / exact.std() < 0.05


def test_channels_are_rounded_to_the_nearest_step_and_zeros_stay() -> None:
    weights = matrix(4, 130)
    weights[1] = 0
    integers, scales = nbits.quantise_channels(weights)
    assert integers.shape == (4, 2, 128) and scales[1] == 0
    assert (integers[:, 1, 2:] == 128).all() and (integers[1] == 128).all()
    restored = nbits.dequantise_channels(integers, scales, 130)
    assert (np.abs(restored - weights) <= scales / 2 * 1.0001).all()


def test_inside_the_block_everything_is_rounded_and_outside_nothing(
    dtype: str, custom_ops: str
) -> None:
    model = tiny_model("llama")
    options = TargetRecipe(dtype=dtype, custom_ops=custom_ops == "true")
    names, exact = {n for n, _ in model.named_parameters()}, model(IDS).logits
    with load_target("onnx").numerics(model, find_ffns(model), options) as smooth:
        rounded = model(IDS).logits
        originals = {n for n, _ in model.named_parameters()} & names
    assert not smooth
    assert 1e-3 < (rounded - exact).std() / exact.std() < 0.6
    # Rounded layers that take their input as it is keep their names: embeddings and by neurons.
    kept = {"model.embed_tokens.weight"} | {n for n in names if "norm" in n}
    downs = {f"model.layers.{layer}.mlp.down_proj.weight" for layer in range(LAYERS)}
    assert originals == kept | (downs if options.custom_ops else set())
    assert torch.equal(model(IDS).logits, exact)


def test_float32_is_smooth_and_left_as_it_is() -> None:
    model = tiny_model("llama", layers=1)
    exact = model(IDS).logits
    with load_target("onnx").numerics(model, find_ffns(model), TargetRecipe()) as smooth:
        assert smooth and torch.equal(model(IDS).logits, exact)


def test_rows_that_are_no_whole_number_of_groups_are_named(dtype: str, custom_ops: str) -> None:
    config = tiny_config("llama", layers=1)
    config.hidden_size, config.num_attention_heads, config.head_dim = 48, 3, 16
    config.num_key_value_heads = 3
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    options = TargetRecipe(dtype=dtype, custom_ops=custom_ops == "true")
    message = r"model\.embed_tokens: .*multiple of 32, got 48.*float32"
    with (
        pytest.raises(LoweringError, match=message),
        load_target("onnx").numerics(model, find_ffns(model), options),
    ):
        pass
    assert model(torch.tensor([[VOCABULARY - 1]])).logits.shape[-1] == VOCABULARY


@pytest.mark.parametrize(
    ("target", "flags", "custom_ops", "folder"),
    [
        ("onnx", [], False, "smollm2-onnx"),
        ("onnx", ["--custom-ops"], True, "smollm2-onnx-custom-ops"),
        ("executorch", [], True, "smollm2-executorch"),
        ("executorch", ["--no-custom-ops"], False, "smollm2-executorch-portable"),
    ],
)
def test_custom_ops_are_the_target_s_choice_unless_they_are_asked_for(
    target: str, flags: list[str], custom_ops: bool, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports: list[tuple[Recipe, Path]] = []

    class Stop(Exception):
        pass

    def export(recipe: Recipe, output: Path, *, streamed: bool | None, key: None) -> None:
        exports.append((recipe, output))
        raise Stop

    monkeypatch.setattr(pipeline, "export", export)
    outcome = CliRunner().invoke(app, ["--model", "smollm2", "--target", target, *flags])
    assert isinstance(outcome.exception, Stop)
    ((recipe, output),) = exports
    assert recipe.target.custom_ops is custom_ops and output == Path("artifacts") / folder
